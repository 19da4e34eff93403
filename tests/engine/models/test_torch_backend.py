"""The whole way from text to text: windows, boundaries inside tokens, lines, limits, for every family."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import tokenizers
import torch
from transformers import Qwen2Tokenizer

from engine import Engine
from engine.backends.sequence import Sequence
from engine.contract import Backend, Cancelled, EngineError, Fill, FillRequest
from engine.decoding.runner import CanvasPredictions, ForwardInput
from engine.models.family import InfillFormat
from engine.models.transformer import Shape
from engine.models.vocabulary import Vocabulary, _from_merges, recent
from engine.public import Public, choose_device, load

SHAPE = Shape(vocab=tiny.VOCAB, dim=8, layers=1, heads=1, kv_heads=1, head_dim=8, mlp=8, context=1024)
REQUEST = FillRequest(prefix="def add(a, b):\n    retur", suffix="\n\n\nclass Point:\n", max_tokens=12)


def fill(backend: Backend, request: FillRequest = REQUEST) -> Fill:
    return Engine(backend).fill(request, threading.Event())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_fills_a_gap_the_same_way_twice(family: str, tmp_path: Path) -> None:
    folder, _ = tiny.FAMILIES[family](tmp_path)
    backend = load(str(folder), "cpu")
    first = fill(backend)
    again = fill(load(str(folder), "cpu"))
    assert (first.text, first.tokens, first.passes) == (again.text, again.tokens, again.passes)
    assert fill(backend).text == first.text  # also over what the first left in memory
    assert first.tokens <= 12
    assert not any(special in first.text for special in [*tiny.SPECIALS, *tiny.FIM])
    assert 0 <= first.confidence <= 1
    assert first.encode_ms > 0


@pytest.mark.parametrize("family", ["sdar", "dreamon", "mdlm"])
def test_a_request_already_cancelled_makes_no_pass(family: str, tmp_path: Path) -> None:
    backend = load(str(tiny.FAMILIES[family](tmp_path)[0]), "cpu")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        backend.fill(REQUEST, cancel)


@pytest.mark.parametrize("family", ["sdar", "dreamon", "mdlm"])
def test_a_deadline_leaves_an_incomplete_fill(family: str, tmp_path: Path) -> None:
    backend = load(str(tiny.FAMILIES[family](tmp_path)[0]), "cpu")
    made = fill(backend, FillRequest(prefix="a = ", suffix="\n", deadline_ms=0.0))
    assert not made.complete
    assert made.text == ""


def test_a_growing_prefix_reuses_whole_blocks(tmp_path: Path) -> None:
    backend = load(str(tiny.FAMILIES["stable-diffcoder"](tmp_path)[0]), "cpu")
    text = tiny.TEXT[:200]
    fill(backend, FillRequest(prefix=text, max_tokens=4))
    typed = fill(backend, FillRequest(prefix=text + "x", max_tokens=4))
    assert typed.reused > 0
    assert fill(backend, FillRequest(prefix="other", suffix="y", max_tokens=4)).reused == 0


class Writer:
    """A model that writes a text: row after row the tokens that a tokenizer makes of it, then the end."""

    encoded = 0

    def __init__(self, vocabulary: Vocabulary, text: Callable[[ForwardInput], str]) -> None:
        self.vocabulary, self.text = vocabulary, text
        self.asked: list[ForwardInput] = []

    def begin(self, sampling: object) -> None:
        self.asked = []

    def end(self) -> None:
        pass

    def predict(self, questions: list[ForwardInput]) -> list[CanvasPredictions]:
        return [self._predict(question) for question in questions]

    def _predict(self, question: ForwardInput) -> CanvasPredictions:
        self.asked.append(question)
        tokens = self.vocabulary.encode(self.text(question))
        logits = torch.zeros(len(question.canvas), tiny.VOCAB)
        for row in range(len(question.canvas)):
            logits[row, tokens[row] if row < len(tokens) else tiny.EOS] = 20.0
        return tiny.guess_of(logits, question)


def over(model: Writer) -> Public:
    spare: queue.LifoQueue[Sequence] = queue.LifoQueue()
    spare.put(model)  # type: ignore[arg-type]
    return Public(spare, SHAPE, model.vocabulary, 512, 1024)


def writer(tmp_path: Path, text: str, expand: bool = True) -> tuple[Public, Writer]:
    folder, _ = tiny.FAMILIES["dreamon"](tmp_path)
    vocabulary = Vocabulary.load(folder, InfillFormat(mask=tiny.MASK, expand=tiny.EXPAND if expand else None, bos=True))
    model = Writer(vocabulary, lambda question: text)
    return over(model), model


def test_the_canvas_spells_what_was_taken_back_as_the_model_likes(tmp_path: Path) -> None:
    """Eight blanks and a word are seven blanks and ` self` in tokens; the cursor is after the blanks."""
    backend, model = writer(tmp_path, " " * 8 + "self.x = y")
    assert fill(backend, FillRequest(prefix="\n" + " " * 8, suffix="\n")).text == "self.x = y"
    assert fill(backend, FillRequest(prefix="\n", suffix="\n")).text == " " * 8 + "self.x = y"
    backend, model = writer(tmp_path, " self.x = y")
    assert fill(backend, FillRequest(prefix="    \n" + " " * 7 + " sel", suffix="\n")).text == "f.x = y"
    assert len(model.asked) == 1  # a model that agrees costs no further pass


def test_a_model_that_would_write_something_else_is_made_to_spell_it(tmp_path: Path) -> None:
    backend, model = writer(tmp_path, "zzzzzzzzzzzz")
    made = fill(backend, FillRequest(prefix="x = retur", suffix="\n"))
    assert set(made.text) == {"z"}
    assert len(model.asked) > 1  # what it meant to write beside its own first token is not taken over


def test_a_fill_deleted_too_early_still_spells_what_was_taken_back(tmp_path: Path) -> None:
    backend, _ = writer(tmp_path, "")
    made = fill(backend, FillRequest(prefix="x = retur", suffix="\n"))
    assert made.text == ""
    assert made.complete


PREFIXES = ["x = '", "cafe\u0301", "\tif x:\n\t\t", "s = 'héé", "a\r\n    b = ", "π = 3\nπ", "", "\n\n"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("middle", ["y + 1", "'ünïcødé → ✓'", "\tz"])
def test_what_the_model_writes_arrives_whatever_the_boundary(prefix: str, middle: str, tmp_path: Path) -> None:
    """The model continues the text as its tokens go on, from the token that the cursor cut."""
    folder, _ = tiny.FAMILIES["dreamon"](tmp_path)
    vocabulary = Vocabulary.load(folder, InfillFormat(mask=tiny.MASK, expand=tiny.EXPAND, bos=True))

    def continued(question: ForwardInput) -> str:
        known = vocabulary.decode(question.before)
        return (prefix.replace("\r\n", "\n") + middle)[len(known) :]

    made = fill(over(Writer(vocabulary, continued)), FillRequest(prefix=prefix, suffix="\n"))
    assert made.text == middle


@pytest.mark.parametrize(
    ("lines", "suffix", "expected"),
    [
        (1, "\nrest", "a = 1"),
        (2, "\nrest", "a = 1\nb = 2"),
        (3, "rest\n", "a = 1\nb = 2\nc = 3\n"),
        (None, "\nrest", "a = 1\nb = 2\nc = 3"),
        (1, "rest\n", "a = 1\n"),  # at the start of a line that has text: a line of its own
        (1, "", "a = 1"),
    ],
)
def test_lines(lines: int | None, suffix: str, expected: str, tmp_path: Path) -> None:
    backend, _ = writer(tmp_path, "a = 1\nb = 2\nc = 3")
    made = fill(backend, FillRequest(prefix="x\n", suffix=suffix, max_lines=lines))
    assert made.text == expected
    assert made.complete


def test_passes_are_those_asked_for_or_what_the_deadline_allows(tmp_path: Path) -> None:
    backend, _ = writer(tmp_path, "a = 1")
    backend._first_seconds = backend._pass_seconds = 0.005
    chosen = {limit: backend._passes(FillRequest(prefix="", deadline_ms=limit)) for limit in (10, 65, 200, None)}
    assert chosen == {10: 4, 65: 12, 200: 30, None: 30}
    assert backend._passes(FillRequest(prefix="", deadline_ms=10, steps=9)) == 9


def test_a_fixed_length_model_is_cut_at_its_end_of_text(tmp_path: Path) -> None:
    backend, model = writer(tmp_path, "= 1", expand=False)
    assert fill(backend, FillRequest(prefix="", suffix="\n")).text == "= 1"
    assert {len(question.canvas) for question in model.asked[:4]} == {4, 12, 28, 64}


def test_a_character_cut_by_the_token_limit_is_left_out(tmp_path: Path) -> None:
    backend, model = writer(tmp_path, "é✓")
    limit = len(model.vocabulary.encode("é✓")) - 1
    assert fill(backend, FillRequest(prefix="", max_tokens=limit)).text == "é"


def test_the_suffix_stands_where_the_model_can_see_it(tmp_path: Path) -> None:
    folder, _ = tiny.FAMILIES["sdar"](tmp_path / "fim")
    request = FillRequest(prefix="a = ", suffix=" + b\n")
    seen = Vocabulary.load(folder, InfillFormat(mask=tiny.MASK, bos=True, eos=True)).gap(request, 100)
    tokens = Vocabulary.load(folder, InfillFormat(mask=tiny.MASK))
    assert tokens.decode(seen.after) == " + b\n"
    assert (seen.before[0], seen.after[-1]) == (tiny.BOS, tiny.EOS)
    hidden = Vocabulary.load(folder, InfillFormat(mask=tiny.MASK, suffix=False)).gap(request, 100)
    marks = [tokens._bpe.token_to_id(mark) for mark in tiny.FIM]
    assert [token for token in hidden.before if token in marks] == marks
    assert hidden.after == []
    unmarked = Vocabulary.load(tiny.FAMILIES["bd3lm"](tmp_path)[0], InfillFormat(mask=tiny.MASK, suffix=False))
    assert unmarked.decode(unmarked.gap(request, 100).before) == " + b\n\na ="


def test_special_tokens_spelled_in_a_file_are_text(tmp_path: Path) -> None:
    vocabulary = Vocabulary.load(tiny.FAMILIES["dream"](tmp_path)[0], InfillFormat(mask=tiny.MASK))
    tokens = vocabulary.encode("x<|endoftext|>y")
    assert not set(tokens) & vocabulary.ends
    assert vocabulary.decode(tokens) == "x<|endoftext|>y"


def test_a_device_out_of_memory_is_one_sentence_and_not_the_end(tmp_path: Path) -> None:
    backend = load(str(tiny.FAMILIES["sdar"](tmp_path)[0]), "cpu")
    assert isinstance(backend, Public)
    expected = fill(backend)
    passes = backend._spare.queue[0]._runner  # type: ignore[attr-defined]
    model = passes.model

    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError

    passes.model.forward, forward = fails, passes.model.forward
    with pytest.raises(EngineError, match="ran out of memory"):
        fill(backend)
    model.forward = forward
    assert fill(backend).text == expected.text


def test_the_window_stays_put_while_its_text_grows() -> None:
    lines = "".join(f"line {number} of a file\n" for number in range(400))
    starts = {len(lines + "x" * typed) - len(recent(lines + "x" * typed, 1000)) for typed in range(100)}
    assert len(starts) <= 2
    assert all(lines[start - 1] == "\n" for start in starts)
    assert all(len(recent(lines[:end], 1000)) <= 1000 for end in range(0, len(lines), 97))


def test_a_window_holds_no_more_than_its_budget(tmp_path: Path) -> None:
    vocabulary = Vocabulary.load(tiny.FAMILIES["dream"](tmp_path)[0], InfillFormat(mask=tiny.MASK))
    gap = vocabulary.gap(FillRequest(prefix="x = 1\n" * 500, suffix="y = 2\n" * 500), 64)
    assert 48 <= len(gap.before) + len(gap.after) <= 64


@pytest.mark.parametrize("text", [tiny.TEXT, "\tx = 'é ✓'\r\n\r\n   y\n", "don't 123  ", "a  \n\n  b"])
def test_a_tokenizer_in_the_older_files_is_read_as_transformers_reads_it(text: str, tmp_path: Path) -> None:
    bpe = tokenizers.Tokenizer.from_str(tiny.tokenizer_json(False))
    bpe.model.save(str(tmp_path))
    ours = _from_merges(tmp_path, {"tokenizer_class": "DreamTokenizer"})
    theirs = Qwen2Tokenizer(vocab=str(tmp_path / "vocab.json"), merges=str(tmp_path / "merges.txt"))
    expected = theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.encode(text, add_special_tokens=False).ids == expected
    assert len(expected) > 3


@pytest.mark.parametrize("file", ["tokenizer_config.json", "added_tokens.json"])
def test_added_tokens_beside_merges_have_the_ids_that_are_declared(file: str, tmp_path: Path) -> None:
    tokenizers.Tokenizer.from_str(tiny.tokenizer_json(False)).model.save(str(tmp_path))
    declared = {"<|mask|>": 2, "<|expand|>": 3, "<|later|>": tiny.VOCAB + 9, "<|sooner|>": tiny.VOCAB + 4}
    added = {str(token): {"content": text, "special": True} for text, token in declared.items()}
    found = {"added_tokens_decoder": added} if file == "tokenizer_config.json" else declared
    (tmp_path / file).write_text(json.dumps(found))
    vocabulary = Vocabulary.load(tmp_path, InfillFormat(mask=tiny.MASK, mark="<|later|>"))
    assert vocabulary.infill.expand == tiny.VOCAB + 9
    assert {tiny.VOCAB + 9, tiny.VOCAB + 4} <= vocabulary.all_ids()
    assert tiny.VOCAB + 4 in vocabulary.ends
    assert vocabulary.decode([tiny.VOCAB + 4]) == ""


def test_a_device_that_is_not_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert choose_device("auto").type in ("cpu", "mps")
        with pytest.raises(EngineError, match="finds no cuda device"):
            choose_device("cuda")
    with pytest.raises(EngineError, match="no device 'tpu'"):
        choose_device("tpu")
