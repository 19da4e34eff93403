"""The tokens of a text are those of its lines, and nothing is lost."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

import engine
from engine.contract import EngineError
from engine.embedded import WEIGHTS
from engine.tokenizer import SPECIALS, Tokenizer

SOURCES = sorted(Path(engine.__file__).parent.rglob("*.py"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(WEIGHTS / "small" / "tokenizer.json")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_decoding_returns_the_text(tokenizer: Tokenizer, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", ["", "\n", "\n\n\n", "\t\tx\r\n", "é ☃ 😀 \x0c \u2028", "x = 'a\\n'", "  "])
def test_odd_texts_survive(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_text_may_be_encoded_line_by_line(tokenizer: Tokenizer) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    dice = random.Random(3)
    for _ in range(50):
        cut = text.index("\n", dice.randrange(len(text) - 1))
        assert tokenizer.encode(text[:cut]) + tokenizer.encode(text[cut:]) == tokenizer.encode(text)


def test_typing_changes_the_last_word_only(tokenizer: Tokenizer) -> None:
    line = "        result = self._encode_line(piece, add_special_tokens=False)  # 12.5 is x"
    for end in range(1, len(line)):
        before, after = tokenizer.encode(line[:end]), tokenizer.encode(line[: end + 1])
        same = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
        changed = tokenizer.decode(before[same:])
        assert re.fullmatch(r"[ \t]*[^\w\s]*\w*", changed)


def test_another_fill_begins_with_another_word(tokenizer: Tokenizer) -> None:
    assert tokenizer.first("") is None
    assert tokenizer.first(" ") is tokenizer.after[" "]
    others = tokenizer.first(" ", ("return x", "raise"))
    assert others is not None
    words = {tokenizer.decode([token]) for token in others}
    assert not words & {"", " ", " r", " re", " return", " raise"}
    assert words >= {" if", " self"}
    assert len(words) > 100 and all(word.startswith(" ") for word in words)


def test_a_line_starts_with_its_newline(tokenizer: Tokenizer) -> None:
    starts = [tokenizer.decode([token]).startswith("\n") for token in tokenizer.encode("a\n    b\n\nc")]
    assert starts == [False, True, False, True, True, False]


def test_special_tokens_have_no_text_and_no_spelling(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(list(range(len(SPECIALS)))) == ""
    assert not set(tokenizer.encode("<bos><mask><eom>")) & set(range(len(SPECIALS)))


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(EngineError, match="install the model again"):
        Tokenizer.load(tmp_path / "tokenizer.json")
