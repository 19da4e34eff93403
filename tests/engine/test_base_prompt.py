"""base's tokens and prompt: what follows comes first, a newline belongs to the line that it ends, and the rest of the
cursor's line stands before that line.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import engine
from engine import FillRequest
from engine.contract import Source
from engine.embedded import WEIGHTS, read_shape
from engine.prompt import Prompt, prompt
from engine.retrieval.copying import Copier
from engine.tokenizer import BOS, EOM, MID, PATH, PRE, ROL, SUF, Tokenizer

BASE = WEIGHTS / "base"
SHAPE = read_shape(BASE)
TEXT = (Path(engine.__file__).parent / "jsonl.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(BASE / "tokenizer.json")


def ask(tokenizer: Tokenizer, prefix: str, suffix: str = "", path: str = "") -> Prompt:
    request = FillRequest(prefix=prefix, suffix=suffix, path=path, max_lines=1)
    return prompt(request, tokenizer, SHAPE.context, SHAPE.rest_first)


def spelled(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    """Runs of text between the special tokens, which stand for themselves."""
    names = {BOS: "<bos>", PATH: "<path>", SUF: "<suf>", PRE: "<pre>", ROL: "<rol>", MID: "<mid>"}
    runs: list[str] = []
    for token in tokens:
        if token in names:
            runs += [names[token], ""]
        else:
            runs[-1] += tokenizer.decode([token])
    return [run for run in runs if run]


@pytest.mark.parametrize(
    "text", [TEXT, "a = (\n\n\n  b)\r\n", "\n", "", "é = '\U0001f600'\n\tx", "if x:\n        return\n"]
)
def test_decoding_returns_the_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_newline_is_spelled_with_what_it_ends(tokenizer: Tokenizer) -> None:
    assert [tokenizer.decode([token]) for token in tokenizer.encode("if x():\n    return 1\n")] == [
        "if", " x", "():\n", "   ", " return", " ", "1", "\n",
    ]  # fmt: skip


def test_the_last_blank_before_the_cursor_belongs_to_the_middle(tokenizer: Tokenizer) -> None:
    assert tokenizer.split_blank("    ") == ("   ", " ")
    assert tokenizer.split_blank("return ") == ("return", " ")
    assert tokenizer.split_blank("x = 1\n") == ("x = 1\n", "")


def test_a_prompt_is_the_authors_where_the_line_has_no_rest(tokenizer: Tokenizer) -> None:
    asked = ask(tokenizer, "a = 1\nb = f", "\nc = 3\n")
    assert spelled(tokenizer, [*asked.context, *asked.uncached_tail]) == [
        "<bos>",
        "<suf>",
        "\nc = 3\n",
        "<pre>",
        "a = 1\nb = f",
    ]
    assert len(asked.uncached_tail) == 1


def test_the_rest_of_the_line_stands_before_it(tokenizer: Tokenizer) -> None:
    asked = ask(tokenizer, "a = 1\nb = f(", ")  # x\nc = 3\n", "src/pkg/deep/mod.py")
    tokens = [*asked.context, *asked.uncached_tail]
    start = ["<bos>", "<path>", "pkg/deep/mod.py", "<suf>", "\nc = 3\n", "<pre>", "a = 1\n"]
    assert spelled(tokenizer, tokens) == [*start, "<rol>", ")  # x\n", "<mid>", "b = f("]


def test_copies_are_spelled_as_the_model_would(tokenizer: Tokenizer) -> None:
    """With the newline where the line ends, and with the end of the fill where something stands right of it."""
    written = "def area(box):\n    return box.width * box.height\n\n\ndef size(box):\n    return box.wi"
    for suffix, tokens in (
        ("\n", tokenizer.encode("dth * box.height\n")),
        ("", tokenizer.encode("dth * box.height\n")),
    ):
        copier = Copier(FillRequest(prefix=written, suffix=suffix, max_lines=1), tokenizer, "", "base")
        copier.advance(tokens[:-1])
        assert copier.next is not None
        assert copier.next.token == tokens[-1]
    assert isinstance(copier.source(20), Source)
    assert EOM in tokenizer.ends
