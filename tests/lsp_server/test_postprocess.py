"""What of a fill is shown."""

from __future__ import annotations

import msgspec
import pytest

from engine import Fill
from engine.contract import TokenSpan
from lsp_server.cursor import CursorContext
from lsp_server.postprocess import postprocess


def a_fill(text: str, confidence: float = 1.0) -> Fill:
    costs = {"passes": 2, "tokens": 3, "encoded": 4, "reused": 5, "encode_ms": 1.0, "decode_ms": 1.0}
    return Fill(text=text, confidence=confidence, complete=True, **costs)  # type: ignore[arg-type]


def shown(marked: str, text: str) -> str:
    """What is shown of a fill at the `|` of a text."""
    prefix, _, suffix = marked.partition("|")
    return postprocess(a_fill(text), CursorContext(prefix, suffix))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("foo()", "foo()"), ("foo()  \n\n", "foo()"), ("  \n ", ""), ("", ""), ("\n    x", "\n    x")],
)
def test_white_space_at_the_end_goes(text: str, expected: str) -> None:
    assert shown("|\n", text) == expected


@pytest.mark.parametrize(
    ("marked", "text", "expected"),
    [
        ("foo(|)", "x)", "x"),  # the closer that the editor typed
        ("if foo(|):", "x):", "x"),
        ("if foo(|):", "bar(x)", "bar(x)"),  # this closer is its own
        ("if foo(|):", "bar(x))", "bar(x)"),
        ('x = "|"', 'hello"', "hello"),
        ("x = [|]", "a[0]", "a[0]"),
        ("x = | + tail", "head + tail", "head"),  # the rest of the line as a whole
        ("x = |+ a", "b+ a", "b"),
        ("x = |a", "banana", ""),  # a character is no repetition, but would grow together with it
        ("größe = |ß", "stra", ""),
        ("größe = größe + |é()", "caf", ""),
        ("größe = |(é)", "größe2", "größe2"),
        ("foo(|)", ")", ""),  # nothing but what is there
        ("foo(|)  # why", "x)\ny", "x"),  # where the line goes on there is no place for another
    ],
)
def test_the_rest_of_the_line_is_not_repeated(marked: str, text: str, expected: str) -> None:
    assert shown(marked, text) == expected


@pytest.mark.parametrize(
    ("marked", "text", "expected"),
    [
        ("x = 1\n|\nprint(x)\n", "print(x)", ""),
        ("x = 1\n|\n\n\nprint(x)\n", "y = 2\nprint(x)", "y = 2"),
        ("if x:\n    |\nreturn y\n", "return y", "return y"),  # indented otherwise, so another line
        ("pri|\nprint(x)\nend()\n", "nt(x)\nend()", ""),  # the line up to the cursor counts
        ("x = {\n    |\n}\n", '"a": 1,\n}', '"a": 1,'),
        ("|\na\nb\n", "b", "b"),  # the line after the next is none of its business
    ],
)
def test_the_lines_below_are_not_repeated(marked: str, text: str, expected: str) -> None:
    assert shown(marked, text) == expected


@pytest.mark.parametrize(
    ("marked", "text", "expected"),
    [
        ("    check(one, 1)\n    check(|)\n", "one, 1", ""),
        ("    check(one, 1)\n    check(|)\n", "one, 2", "one, 2"),
        ("    blank: bool\n|\n", "    blank: bool\n    blank: bool", ""),
        ("|\n", "x", "x"),
    ],
)
def test_the_line_above_is_not_repeated(marked: str, text: str, expected: str) -> None:
    assert shown(marked, text) == expected


@pytest.mark.parametrize(
    ("marked", "text", "expected"),
    [
        ("    return a + |\n", "return a + b", ""),
        ("if f(|\n", "if f(x):", ""),
        ("import numpy as |\n", "numpy as np", ""),
        ("import numpy as |\n", "numpy as", ""),
        ("import numpy as |\n", "numpy", "numpy"),  # one word may well be said twice
        ("import numpy as |\n", "numpy assets", "numpy assets"),
        ("x: Dict[str, |\n", "Dict[str, int]] = {}", "Dict[str, int]] = {}"),
        ("x = not | y\n", "not", "not"),
    ],
)
def test_the_beginning_of_the_line_is_not_repeated(marked: str, text: str, expected: str) -> None:
    assert shown(marked, text) == expected


def test_after_a_right_line_no_wrong_ones() -> None:
    pieces = (TokenSpan(9, 0.9), TokenSpan(14, 0.8), TokenSpan(16, 0.1), TokenSpan(21, 0.1), TokenSpan(21, 0.9))
    fill = msgspec.structs.replace(a_fill("return x\n    y\n    z", 0.05), pieces=pieces)
    assert postprocess(fill, CursorContext("", "\n")) == "return x\n    y"
    doubtful = msgspec.structs.replace(fill, text="\nreturn x\n    y", pieces=(TokenSpan(9, 0.1), TokenSpan(15, 0.1)))
    assert (
        postprocess(doubtful, CursorContext("x", "\n")) == "\nreturn x"
    )  # of one that was asked for the first line is shown


@pytest.mark.parametrize(
    ("marked", "text", "expected"),
    [
        ("x = 1\n|\n", "y = g(x", "y = g"),
        ("x = 1\n|\n", "y = g(x,", "y = g(x,"),  # one may well go on
        ("x = 1\n|\n", "y = (x,\n     2)", "y = (x,\n     2)"),
        ("x = 1\n|\n", 'y = "x', 'y = "x'),
        ("foo(|)", "bar(x", "bar"),
        ("foo(|)", '"x', ""),  # what stands right of it would be in the quotes
    ],
)
def test_no_bracket_is_left_open(marked: str, text: str, expected: str) -> None:
    assert shown(marked, text) == expected
