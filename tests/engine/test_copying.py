"""What stood after the same text elsewhere, and how far it is believed."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contract import FillRequest
from engine.embedded import WEIGHTS
from engine.retrieval.candidates import LONGEST, longest_match
from engine.retrieval.copy_weights import prior, share, trust
from engine.retrieval.copying import Copier
from engine.tokenizer import EOM, Tokenizer

TOKENIZER = Tokenizer.load(WEIGHTS / "small" / "tokenizer.json")
ABOVE = "def area(width, height):\n    return width * height\n\n\n"


def copier(prefix: str, suffix: str = "\n", **options: Any) -> Copier:
    request = FillRequest(prefix=prefix, suffix=suffix, **{"max_lines": 1, **options})
    return Copier(request, TOKENIZER, TOKENIZER.split_blank(prefix)[1])


def copied(of: Copier, most: int = 40) -> tuple[str, bool]:
    """All that follows by the copier, and whether it ends there."""
    tokens: list[int] = []
    while (copy := of.next) and copy.token != EOM and len(tokens) < most:
        tokens.append(copy.token)
        of.advance([copy.token])
    return TOKENIZER.decode(tokens), copy is not None and copy.token == EOM


@pytest.mark.parametrize(
    ("written", "text", "found"),
    [
        ("foo(a", "foo(b); foo(a, c)", (5, 13)),
        ("foo(a", "foo(a) foo(a, c)", (5, 12)),  # the latest
        ("x foo(a", "x foo(a) foo(a, c)", (7, 7)),  # but rather the longest
        ("ab", "ab ab", (0, 0)),
        ("abc", "", (0, 0)),
        ("", "abc", (0, 0)),
        ("y" * 99, "y" * 99, (LONGEST, 99)),
    ],
)
def test_the_longest_match(written: str, text: str, found: tuple[int, int]) -> None:
    length, end = longest_match(written, text, len(text))
    assert (min(length, LONGEST), end) == found
    assert text[end - length : end] == written[len(written) - length :]


def test_a_line_from_above() -> None:
    assert copied(copier(ABOVE + "def volume(width, height):\n    return wid")) == ("th * height", True)


def test_a_line_from_below() -> None:
    assert copied(copier("def volume(width, height):\n    return width *", "\n\n" + ABOVE)) == (" height", True)


def test_a_blank_before_the_cursor_belongs_to_the_word() -> None:
    of = copier(ABOVE + "def volume(width, height):\n    return ")
    assert of.next
    assert of.next.token in TOKENIZER.after[" "]
    assert copied(of) == (" width * height", True)


def test_the_line_must_end_as_the_cursors_does() -> None:
    calls = "first = scale(width, 2)\nsecond = scale(width"
    assert copied(copier(calls, ")\n")) == (", 2", True)
    assert copier(calls, "]\n").next is None


def test_the_line_above_is_not_written_again() -> None:
    above = "def test():\n    check(one, 1)\n    check("
    assert copier(above, ")\n").next is None
    assert copied(copier(above.replace("(one", "(two") + "one, 1)\n    check(", ")\n"))[0] == "two, 1"


def test_the_cursors_own_line_is_not_copied() -> None:
    """Its end is the cursor, and a copy of it would go on for ever: `import pandas as as as`."""
    assert copier("import pandas as ").next is None
    assert copied(copier("x = 1\nx = 1 + x = ")) == (" 1", True)


def test_an_unfinished_line_elsewhere_is_no_reason_to_write_nothing() -> None:
    unfinished = "def area(radius):\n    return 3.14 * "
    assert copier(unfinished, related=(unfinished.rstrip() + "\n",)).next is None


def test_of_several_lines_each_is_sought_for_itself() -> None:
    of = copier(ABOVE + "def area(wid", max_lines=None)
    assert copied(of) == ("th, height):\n    ", False)  # a line of the same block followed there
    assert of.next is None
    of.advance(TOKENIZER.encode("return"))
    assert copied(of) == (" width * height", True)


def test_after_another_token_it_looks_again() -> None:
    of = copier("alpha = one(1)\nbeta = two(2)\nalpha = ")
    assert of.next
    assert TOKENIZER.decode([of.next.token]) == " one"
    of.advance(TOKENIZER.encode(" two"))
    assert copied(of) == ("(2)", True)


def test_the_more_speaks_for_it_the_larger_the_share() -> None:
    short, long = copier("a = 1\nab = 2\nb = "), copier(ABOVE * 2 + ABOVE[:-20])
    assert short.next
    assert long.next
    evidence = long.next.evidence
    assert prior(short.next.evidence) < prior(evidence)
    assert prior(evidence) < prior(evidence._replace(below=True))
    assert prior(evidence._replace(line_start=True)) < prior(evidence) > prior(evidence._replace(agreement=0.1))
    weights = trust("small")
    shares = [share(evidence, *likely, weights) for likely in ((0.001, 0.9), (0.5, 0.5), (1.0, 1.0))]
    assert shares == sorted(set(shares))
    assert shares[-1] < 1
    assert share(evidence, 0, 0, weights) == prior(evidence)
    assert share(evidence, 0.1, 0.9, weights) < share(evidence, 0.1, 0.1, weights)
    late = evidence._replace(late=True)
    assert share(late, 0.1, 0.9, weights) < share(evidence, 0.1, 0.9, weights)
    assert long.draft()
    assert long.decided().tokens[-1] == EOM


def test_nothing_is_copied_where_nobody_wants_it() -> None:
    assert copier(ABOVE + ABOVE[:-20], copies=False).next is None


@pytest.mark.parametrize("prefix", ["", "x", "\n\n\n", "\ud83d" * 9, "é\u2028" * 40, "\r\n" * 50])
def test_odd_texts(prefix: str) -> None:
    of = copier(prefix, prefix)
    of.advance([300, 301])
    of.decided()
