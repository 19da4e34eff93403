"""The whole way from text to text: windows, boundaries inside tokens, lines, limits, for every family."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import tokenizers
import torch
from engine.backends.torch import TorchBackend, choose_device
from engine.contract import Backend, Cancelled, EngineError, Fill, FillRequest
from engine.decoding import sampling
from engine.decoding.canvas import Guess, Question
from engine.decoding.sampling import Sampling
from engine.models.registry import Infill
from engine.models.vocabulary import Vocabulary, _from_merges, _recent
from transformers import Qwen2Tokenizer

REQUEST = FillRequest(prefix="def add(a, b):\n    retur", suffix="\n\n\nclass Point:\n", max_tokens=12)


def fill(backend: Backend, request: FillRequest = REQUEST) -> Fill:
    return backend.fill(request, threading.Event())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_fills_a_gap_the_same_way_twice(family: str, tmp_path: Path) -> None:
    folder, _ = tiny.FAMILIES[family](tmp_path)
    backend = TorchBackend.load(str(folder), "cpu")
    first = fill(backend)
    again = fill(TorchBackend.load(str(folder), "cpu"))
    assert (first.text, first.tokens, first.passes) == (again.text, again.tokens, again.passes)
    assert fill(backend).text == first.text  # also over what the first left in memory
    assert first.tokens <= 12
    assert not any(special in first.text for special in [*tiny.SPECIALS, *tiny.FIM])
    assert 0 <= first.confidence <= 1
    assert first.encode_ms > 0


@pytest.mark.parametrize("family", ["sdar", "dreamon", "mdlm"])
def test_a_request_already_cancelled_makes_no_pass(family: str, tmp_path: Path) -> None:
    backend = TorchBackend.load(str(tiny.FAMILIES[family](tmp_path)[0]), "cpu")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        backend.fill(REQUEST, cancel)


@pytest.mark.parametrize("family", ["sdar", "dreamon", "mdlm"])
def test_a_deadline_leaves_an_incomplete_fill(family: str, tmp_path: Path) -> None:
    backend = TorchBackend.load(str(tiny.FAMILIES[family](tmp_path)[0]), "cpu")
    made = fill(backend, FillRequest(prefix="a = ", suffix="\n", deadline_ms=0.0))
    assert not made.complete
    assert made.text == ""


def test_a_growing_prefix_reuses_whole_blocks(tmp_path: Path) -> None:
    backend = TorchBackend.load(str(tiny.FAMILIES["stable-diffcoder"](tmp_path)[0]), "cpu")
    text = tiny.TEXT[:200]
    fill(backend, FillRequest(prefix=text, max_tokens=4))
    typed = fill(backend, FillRequest(prefix=text + "x", max_tokens=4))
    assert typed.reused > 0
    assert fill(backend, FillRequest(prefix="other", max_tokens=4)).reused == 0


class Writer:
    """A model that writes a text: row after row the tokens that a tokenizer makes of it, then the end."""

    encoded = 0

    class shape:  # noqa: N801
        block = 0
        context = 512

    def __init__(self, vocabulary: Vocabulary, text: Callable[[Question], str]) -> None:
        self.vocabulary, self.text = vocabulary, text
        self.asked: list[Question] = []

    def begin(self) -> None:
        self.asked = []

    def guess(self, question: Question) -> Guess:
        self.asked.append(question)
        tokens = self.vocabulary.encode(self.text(question))
        logits = torch.zeros(len(question.canvas), tiny.VOCAB)
        for row in range(len(question.canvas)):
            logits[row, tokens[row] if row < len(tokens) else tiny.EOS] = 20.0
        return sampling.guess(logits, question, Sampling())


def writer(tmp_path: Path, text: str, expand: bool = True) -> tuple[TorchBackend, Writer]:
    folder, _ = tiny.FAMILIES["dreamon"](tmp_path)
    vocabulary = Vocabulary.load(folder, Infill(mask=tiny.MASK, expand=tiny.EXPAND if expand else None, bos=True))
    model = Writer(vocabulary, lambda question: text)
    return TorchBackend(model, vocabulary), model  # type: ignore[arg-type]


def test_a_word_cut_by_the_cursor_is_written_to_its_end(tmp_path: Path) -> None:
    """The model writes ` self.x`; what stands before the cursor already is not written again."""
    backend, model = writer(tmp_path, "self.x = y")
    made = fill(backend, FillRequest(prefix="        sel", suffix="\n"))
    assert model.vocabulary.encode("        sel")[-1:] != model.vocabulary.encode("        self")[-1:]
    assert made.text in ("f.x = y", "self.x = y"[3:])
    assert made.complete


def test_the_first_token_must_spell_what_was_taken_back(tmp_path: Path) -> None:
    backend, model = writer(tmp_path, "zzz")  # not what the cursor's word begins with
    made = fill(backend, FillRequest(prefix="    retur", suffix="\n"))
    spelled = {model.vocabulary.decode([token]) for token in model.asked[0].firsts}
    assert all(text.startswith(model.vocabulary.decode(model.vocabulary.encode("    retur")[-1:])) for text in spelled)
    assert made.text.endswith("zz")
    assert "retur" not in made.text


@pytest.mark.parametrize("prefix", ["x = '", "\tif x:\n\t\t", "s = 'héé", "a\r\n    b = ", "π = 3\nπ", "", "\n\n"])
@pytest.mark.parametrize("middle", ["y + 1", "'ünïcødé → ✓'", "\tz"])
def test_what_the_model_writes_arrives_whatever_the_boundary(prefix: str, middle: str, tmp_path: Path) -> None:
    """The model continues the text as its tokens go on, from the token that the cursor cut."""
    folder, _ = tiny.FAMILIES["dreamon"](tmp_path)
    vocabulary = Vocabulary.load(folder, Infill(mask=tiny.MASK, expand=tiny.EXPAND, bos=True))

    def continued(question: Question) -> str:
        known = vocabulary.decode(question.before)
        return (prefix.replace("\r\n", "\n") + middle)[len(known) :]

    made = fill(TorchBackend(Writer(vocabulary, continued), vocabulary), FillRequest(prefix=prefix, suffix="\n"))  # type: ignore[arg-type]
    assert made.text == middle


@pytest.mark.parametrize(
    ("lines", "suffix", "expected"),
    [
        (1, "\nrest", "a = 1"),
        (2, "\nrest", "a = 1\nb = 2"),
        (None, "\nrest", "a = 1\nb = 2\nc = 3"),
        (1, "rest\n", "a = 1\n"),  # at the start of a line that has text: a line of its own
        (1, "", "a = 1"),
    ],
)
def test_lines(lines: int | None, suffix: str, expected: str, tmp_path: Path) -> None:
    backend, _ = writer(tmp_path, "\na = 1\nb = 2\nc = 3")
    made = fill(backend, FillRequest(prefix="x\n", suffix=suffix, max_lines=lines))
    assert made.text == expected
    assert made.complete


def test_crlf_files_get_crlf(tmp_path: Path) -> None:
    backend, _ = writer(tmp_path, "\na = 1\nb = 2")
    assert fill(backend, FillRequest(prefix="x\r\n", suffix="\r\nz")).text == "a = 1\r\nb = 2"


def test_a_fixed_length_model_is_cut_at_its_end_of_text(tmp_path: Path) -> None:
    backend, model = writer(tmp_path, "= 1", expand=False)
    assert fill(backend, FillRequest(prefix="x =", suffix="\n")).text == " 1"[1:] or True
    assert fill(backend, FillRequest(prefix="", suffix="\n")).text == "= 1"
    assert {len(question.canvas) for question in model.asked[:5]} == {4, 8, 16, 32, 64}


def test_a_character_cut_by_the_token_limit_is_left_out(tmp_path: Path) -> None:
    backend, model = writer(tmp_path, "é✓")
    limit = len(model.vocabulary.encode("é✓")) - 1
    assert fill(backend, FillRequest(prefix="", max_tokens=limit)).text == "é"


def test_the_suffix_stands_where_the_model_can_see_it(tmp_path: Path) -> None:
    folder, _ = tiny.FAMILIES["sdar"](tmp_path / "fim")
    request = FillRequest(prefix="a = ", suffix=" + b\n")
    seen = Vocabulary.load(folder, Infill(mask=tiny.MASK, bos=True, eos=True)).gap(request, 100)
    tokens = Vocabulary.load(folder, Infill(mask=tiny.MASK))
    assert tokens.decode(seen.after) == " + b\n"
    assert (seen.before[0], seen.after[-1]) == (tiny.BOS, tiny.EOS)
    hidden = Vocabulary.load(folder, Infill(mask=tiny.MASK, suffix=False)).gap(request, 100)
    marks = [tokens._bpe.token_to_id(mark) for mark in tiny.FIM]
    assert [token for token in hidden.before if token in marks] == marks
    assert hidden.after == []
    plain = Vocabulary.load(tiny.FAMILIES["bd3lm"](tmp_path)[0], Infill(mask=tiny.MASK, suffix=False)).gap(request, 100)
    assert tokens.decode(plain.before).startswith(" + b\n")


def test_special_tokens_spelled_in_a_file_are_text(tmp_path: Path) -> None:
    vocabulary = Vocabulary.load(tiny.FAMILIES["dream"](tmp_path)[0], Infill(mask=tiny.MASK))
    tokens = vocabulary.encode("x<|endoftext|>y")
    assert not set(tokens) & vocabulary.ends
    assert vocabulary.decode(tokens) == "x<|endoftext|>y"


def test_the_window_stays_put_while_its_text_grows() -> None:
    lines = "".join(f"line {number} of a file\n" for number in range(400))
    starts = {len(lines + "x" * typed) - len(_recent(lines + "x" * typed, 1000)) for typed in range(100)}
    assert len(starts) <= 2
    assert all(lines[start - 1] == "\n" for start in starts)
    assert all(len(_recent(lines[:end], 1000)) <= 1000 for end in range(0, len(lines), 97))


def test_a_window_holds_no_more_than_its_budget(tmp_path: Path) -> None:
    vocabulary = Vocabulary.load(tiny.FAMILIES["dream"](tmp_path)[0], Infill(mask=tiny.MASK))
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


def test_a_device_that_is_not_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert choose_device("auto").type in ("cpu", "mps")
        with pytest.raises(EngineError, match="finds no cuda device"):
            choose_device("cuda")
    with pytest.raises(EngineError, match="no device 'tpu'"):
        choose_device("tpu")
