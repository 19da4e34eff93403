"""The context is what stays while somebody types."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine.prompt
from engine import FillRequest
from engine.embedded import WEIGHTS
from engine.prompt import Prompt, prompt
from engine.tokenizer import BLOCK, BOS, MID, PATH, PRE, ROL, SUF, Tokenizer

BUDGET = 384
TEXT = Path(engine.prompt.__file__).read_text(encoding="utf-8") * 4


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(WEIGHTS / "small" / "tokenizer.json")


def ask(tokenizer: Tokenizer, prefix: str, suffix: str = "", **kwargs: object) -> Prompt:
    return prompt(FillRequest(prefix=prefix, suffix=suffix, **kwargs), tokenizer, BUDGET)  # type: ignore[arg-type]


def test_the_order_is_following_prefix_rest(tokenizer: Tokenizer) -> None:
    asked = ask(tokenizer, "a = 1\nb = f(", ")  # x\nc = 3\n", path="src/pkg/deep/mod.py")
    context = asked.context
    assert context[:2] == [BOS, PATH]
    path, rest = context[2 : context.index(SUF)], context[context.index(SUF) + 1 :]
    following, prefix = rest[: rest.index(PRE)], rest[rest.index(PRE) + 1 :]
    assert tokenizer.decode(path) == "pkg/deep/mod.py"
    assert tokenizer.decode(following) == "\nc = 3\n"
    lead = asked.uncached_tail
    assert tokenizer.decode(prefix + lead[: lead.index(ROL)]) == "a = 1\nb = f("
    assert tokenizer.decode(lead[lead.index(ROL) + 1 : -1]) == ")  # x"
    assert lead[-1] == MID
    assert not asked.newline


def test_several_lines_are_asked_for_by_their_own_token(tokenizer: Tokenizer) -> None:
    assert ask(tokenizer, "x", max_lines=1).uncached_tail[-1] == MID
    assert ask(tokenizer, "x", max_lines=6).uncached_tail[-1] == BLOCK


def test_before_a_line_of_text_a_line_is_missing(tokenizer: Tokenizer) -> None:
    asked = ask(tokenizer, "a = 1\n", "    return a\n")
    assert asked.newline
    assert tokenizer.decode(asked.context[asked.context.index(SUF) :]).startswith("\n    return a")
    assert not ask(tokenizer, "a = 1\n", "\nb = 2").newline
    assert not ask(tokenizer, "a = ", "1\n").newline


@pytest.mark.parametrize("start", [500, 3000, 9000])
def test_typing_moves_the_window_seldom(tokenizer: Tokenizer, start: int) -> None:
    following = TEXT[TEXT.index("\n", start + 300) :]
    moved, earlier = 0, ask(tokenizer, TEXT[:start], following).context
    for end in range(start + 1, start + 300):
        context = ask(tokenizer, TEXT[:end], following).context
        moved += context[: len(earlier) - 10] != earlier[:-10]  # the last word may be spelled anew
        earlier = context
    assert moved <= 6  # in some 75 tokens


def test_the_window_depends_on_the_text_alone_and_fits(tokenizer: Tokenizer) -> None:
    for end in range(0, len(TEXT), 611):
        asked = ask(tokenizer, TEXT[:end], TEXT[end:])
        assert asked == ask(tokenizer, TEXT[:end], TEXT[end:])
        assert len(asked.context) <= BUDGET


def test_a_long_line_is_cut_from_the_left(tokenizer: Tokenizer) -> None:
    asked = ask(tokenizer, "x = [" + "1, " * 5000, "]\n" + "2" * 9000)
    assert len(asked.context) <= BUDGET
    assert tokenizer.decode([*asked.context, *asked.uncached_tail]).endswith("1, 1,]")
    assert asked.blank
