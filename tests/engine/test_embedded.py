"""The shipped model behind Engine: its text is the greedy text, whatever the drafts and the memory were."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from engine import Cancelled, Engine, EngineError, Fill, FillRequest, checksums
from engine.backends.kv_cache import MEMORIES
from engine.contract import confidence
from engine.decoding.limits import goes_round
from engine.embedded import WEIGHTS, Embedded
from engine.prompt import prompt
from engine.retrieval.copying import first_word
from engine.tokenizer import EOM

TEXT = Path(__file__).with_name("sample.txt").read_text(encoding="utf-8")
MARKS = (
    "logger = ",
    "def fahrenheit(",
    "        self.rea",
    "return sum(",
    "    with open(",
    "    logger.",
    "for reading in ",
)
SURE = 0.12  # confidence
PLACES = [TEXT.index(mark) + len(mark) for mark in MARKS]


def request(place: int, **kwargs: object) -> FillRequest:
    following = TEXT[TEXT.index("\n", place) :]
    return FillRequest(prefix=TEXT[:place], suffix=following, path="sensors/station.py", **kwargs)  # type: ignore[arg-type]


def fill(small: Embedded, asked: FillRequest) -> Fill:
    return Engine(small).fill(asked, threading.Event())


@pytest.mark.parametrize("place", PLACES)
def test_other_fills_begin_otherwise(small: Embedded, place: int) -> None:
    texts: tuple[str, ...] = ()
    for _ in range(3):
        made = fill(small, request(place, max_lines=1, max_tokens=12, others=texts))
        assert made.text or texts
        assert not made.text or first_word(made.text) not in map(first_word, texts)
        texts = (*texts, made.text)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("place", PLACES)
def test_a_fill_says_where_each_token_ends(small: Embedded, place: int, line_end: str) -> None:
    asked = request(place, max_lines=3, max_tokens=24)
    prefix, suffix = (text.replace("\n", line_end) for text in (asked.prefix, asked.suffix))
    made = fill(small, msgspec.structs.replace(asked, prefix=prefix, suffix=suffix))
    ends = [piece.end for piece in made.pieces]
    assert ends == sorted(ends)
    assert len(ends) == made.tokens + made.complete
    assert ends[-1] == len(made.text)
    assert made.confidence == pytest.approx(confidence(piece.probability for piece in made.pieces))
    left = made.after(ends[0])
    assert left.text == made.text[ends[0] :]
    assert left.confidence >= made.confidence


def greedy(small: Embedded, asked: FillRequest) -> list[int]:
    """One token a pass."""
    model, tokenizer = small._model, small._tokenizer
    made = prompt(asked, tokenizer, model.shape.context)
    model.truncate(0)
    pending, tokens = [*made.context, *made.uncached_tail], []
    for _ in range(asked.max_tokens):
        first = tokenizer.after[" "] if made.blank and not tokens else None
        [token] = model.forward(pending, 1, first).tokens
        if token == EOM or tokenizer.decode([token]).startswith("\n"):
            break
        tokens.append(token)
        pending = [token]
        if goes_round(tokens):
            break
    return tokens


@pytest.mark.parametrize("place", PLACES)
def test_the_text_is_the_greedy_text(small: Embedded, place: int) -> None:
    asked = request(place, max_lines=1, max_tokens=24, copies=False)
    expected = greedy(small, asked)
    made = fill(small, asked)
    blank = " " if prompt(asked, small._tokenizer, 384).blank else ""
    assert blank + made.text == small._tokenizer.decode(expected) or not expected
    assert made.tokens == len(expected)


def test_drafts_change_few_texts(small: Embedded) -> None:
    """Where two tokens are about as likely, a copy may be believed that was a draft, and otherwise not."""
    places = range(200, len(TEXT), 300)
    drafted, plain = (
        [fill(small, request(place, max_lines=1, drafts=drafts)) for place in places] for drafts in (True, False)
    )
    same = sum(one.text == other.text for one, other in zip(drafted, plain, strict=True))
    assert same >= 0.75 * len(places)
    assert sum(made.passes for made in drafted) < sum(made.passes for made in plain)


def test_a_line_that_is_written_again_costs_few_passes(small: Embedded) -> None:
    line = "    with open(path, encoding='utf-8') as records:"
    asked = FillRequest(prefix=f"{TEXT}\n{line}\n        pass\n{line[:30]}", max_lines=1)
    made = fill(small, asked)
    assert line[:30] + made.text == line
    assert made.passes <= 2
    assert fill(small, FillRequest(prefix=asked.prefix, max_lines=1, trust=0.9)).passes == 1


def test_a_blank_before_the_cursor_is_spelled_with_the_word(small: Embedded) -> None:
    for prefix, text in (("import numpy as ", "np"), ("from __future__ import ", "annotations")):
        made = fill(small, FillRequest(prefix=prefix, suffix="\n\nx = 1\n", max_lines=1))
        assert made.text == text


def test_memory_does_not_change_the_answer(small: Embedded) -> None:
    """But where two tokens are as good as equally likely: rows of other passes round activations differently."""
    fresh = {}
    for place in PLACES:
        small._model.truncate(0)
        fresh[place] = fill(small, request(place, max_lines=1))
    for place in [*PLACES, *reversed(PLACES)]:
        again = fill(small, request(place, max_lines=1))
        if fresh[place].confidence > SURE:
            assert (again.text, again.tokens) == (fresh[place].text, fresh[place].tokens)
            assert again.confidence == pytest.approx(fresh[place].confidence, rel=0.2)
    assert sum(made.confidence > SURE for made in fresh.values()) >= 2


def test_a_keystroke_encodes_its_own_tokens(small: Embedded) -> None:
    place = PLACES[2]
    fill(small, request(place))
    made = fill(small, FillRequest(prefix=TEXT[:place] + "x", suffix=request(place).suffix, path="sensors/station.py"))
    assert made.encoded <= 3
    assert made.reused > 100


@pytest.mark.parametrize("filler", ["# a comment\n", "\n", "x = 'abcdefghijklmnop'" * 9])
def test_nothing_out_of_reach_is_seen(small: Embedded, filler: str) -> None:
    near = filler * (small.reach // len(filler) + 1)
    near_prefix, near_suffix = near[-small.reach :], near[: small.reach]
    seen = [
        prompt(FillRequest(prefix=far + near_prefix, suffix=near_suffix + far), small._tokenizer, 384)
        for far in ("import os\n", "y\n" * 500)
    ]
    assert seen[0] == seen[1]


def test_going_back_to_another_file_encodes_the_new_tokens_only(
    small: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small._model, "memories", 4)
    other = "\n".join(reversed(TEXT.split("\n")))

    def made(text: str, path: str) -> Fill:
        return fill(small, FillRequest(prefix=text, path=path, max_lines=1))

    for path in ("a.py", "b.py", "c.py"):
        made(other + path, path)
    for typed in range(6):
        for path in ("a.py", "b.py", "c.py"):
            again = made(other + path + " + two"[:typed], path)
            assert again.encoded <= 3 < 100 < again.reused


def test_a_few_files_are_kept(small: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 < small._model.memories <= MEMORIES
    monkeypatch.setattr(small._model, "memories", 3)
    for number in range(5):
        fill(small, FillRequest(prefix=f"{number} = {TEXT}", path=f"{number}.py", max_tokens=1))
    assert len(small._model._memories) == 3


def test_limits_end_a_fill(small: Embedded) -> None:
    long = request(PLACES[0], max_lines=30, max_tokens=5)
    assert fill(small, long).tokens <= 5
    late = fill(small, request(PLACES[0], deadline_ms=0))
    assert (late.text, late.passes, late.complete) == ("", 0, False)
    assert fill(small, request(PLACES[0], max_lines=1)).text.count("\n") == 0


def test_a_cancelled_request_makes_no_pass(small: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel, passes = threading.Event(), []
    forward = small._model.forward

    def counted(*args: object) -> object:
        passes.append(args)
        cancel.set()
        return forward(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(small._model, "forward", counted)
    with pytest.raises(Cancelled):
        small.fill(request(PLACES[1], max_tokens=60, max_lines=9), cancel)
    assert len(passes) == 1


def test_line_ends_are_those_of_the_text(small: Embedded) -> None:
    asked = FillRequest(prefix="    area = width * height\n    x = 1\n    area =", suffix="\n", max_lines=4)
    unix = fill(small, asked)
    prefix, suffix = (text.replace("\n", "\r\n") for text in (asked.prefix, asked.suffix))
    windows = fill(small, msgspec.structs.replace(asked, prefix=prefix, suffix=suffix))
    assert windows.text == unix.text.replace("\n", "\r\n")
    shares = [piece.copied for piece in windows.pieces]
    assert any(shares)
    assert shares == [piece.copied for piece in unix.pieces]


@pytest.mark.parametrize("prefix", ["", "\n", "\0\1\2", "😀" * 400, "x" * 50_000, "\n" * 5_000, "é\u2028\x0c"])
@pytest.mark.parametrize("suffix", ["", "😀\n" + "\ud83d" * 3 + "y" * 50_000])
def test_odd_texts_are_answered(small: Embedded, prefix: str, suffix: str) -> None:
    made = fill(small, FillRequest(prefix=prefix, suffix=suffix, max_lines=2, max_tokens=8))
    assert "\ufffd" not in made.text


# ---- files that are not as they should be ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS / "small", tmp_path / "model"))


def test_a_folder_is_a_model(folder: Path) -> None:
    assert Engine.load(str(folder)).fill(FillRequest(prefix="import "), threading.Event()).passes > 0


def test_an_unknown_model_is_told_with_what_there_is() -> None:
    with pytest.raises(EngineError, match=r"no model 'smal': give a shipped one \(small\b"):
        Engine.load("smal")


@pytest.mark.parametrize(
    "name", ["graph.onnx", "model.safetensors", "tokenizer.json", "config.json", "drafter.safetensors", "draft.onnx"]
)
def test_a_flipped_bit_is_told(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(EngineError, match=f"{name} is damaged, its SHA-256 is another"):
        Engine.load(str(folder))


def test_the_sums_are_those_of_the_shipped_files() -> None:
    listed = [line.split() for line in (WEIGHTS / "small" / checksums.SUMS).read_text().splitlines()]
    files = {"NOTICE", "config.json", "graph.onnx", "model.safetensors", "tokenizer.json"}
    assert {name for _, name in listed} == files | {"draft.onnx", "drafter.safetensors"}
    assert all(checksums.digest(WEIGHTS / "small" / name) == sum for sum, name in listed)


@pytest.mark.parametrize(
    ("field", "value"),
    [("context", 0), ("context", 10**9), ("threads", "two")],
)
def test_nonsense_in_the_configuration_is_told(folder: Path, field: str, value: int) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    (folder / checksums.SUMS).unlink()
    with pytest.raises(EngineError, match="install the model again"):
        Engine.load(str(folder))


def test_swapped_token_ids_are_told(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_bytes())
    vocab = tokenizer["model"]["vocab"]
    one, other = list(vocab)[300:302]
    vocab[one], vocab[other] = vocab[other], vocab[one]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(EngineError, match="SHA-256"):
        Engine.load(str(folder))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_is_no_configuration(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(EngineError, match="no model"):
        Embedded.load(str(tmp_path))


@pytest.mark.parametrize("name", ["graph.onnx", "model.safetensors", "tokenizer.json", "config.json"])
def test_truncated_and_missing_files_are_told(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(EngineError, match="again"):
        Engine.load(str(folder))
    (folder / name).unlink()
    with pytest.raises(EngineError):
        Engine.load(str(folder))
