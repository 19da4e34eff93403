"""What of a fill is shown."""

from __future__ import annotations

import msgspec
import pytest

from engine import Fill
from engine.contract import Piece
from lsp_server.cursor import Gap
from lsp_server.postprocess import presentable


def a_fill(text: str, confidence: float = 1.0) -> Fill:
    costs = {"passes": 2, "tokens": 3, "encoded": 4, "reused": 5, "encode_ms": 1.0, "decode_ms": 1.0}
    return Fill(text=text, confidence=confidence, complete=True, **costs)  # type: ignore[arg-type]


def shown(marked: str, text: str, language: str = "") -> str:
    """What is shown of a fill at the `|` of a text."""
    prefix, _, suffix = marked.partition("|")
    return presentable(a_fill(text), Gap(prefix, suffix, language))


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
        ("  )\n|\n", ")", ")"),
        ("|\n", "x", "x"),
    ],
)
def test_the_line_above_is_not_repeated(marked: str, text: str, expected: str) -> None:
    assert shown(marked, text) == expected


def test_after_a_right_line_no_wrong_ones() -> None:
    pieces = (Piece(9, 0.9), Piece(14, 0.8), Piece(16, 0.1), Piece(21, 0.1), Piece(21, 0.9))
    fill = msgspec.structs.replace(a_fill("return x\n    y\n    z", 0.05), pieces=pieces)
    assert presentable(fill, Gap("", "\n")) == "return x\n    y"
    doubtful = msgspec.structs.replace(fill, text="\nreturn x\n    y", pieces=(Piece(9, 0.1), Piece(15, 0.1)))
    assert presentable(doubtful, Gap("x", "\n")) == "\nreturn x"  # of one that was asked for the first line is shown


BODY = "def f():\n    x = 1\n    |\n"


@pytest.mark.parametrize(
    ("marked", "text", "expected"),
    [
        (BODY, "yield = row[row]", "yield"),
        (BODY, "yield row[row]", "yield row[row]"),
        (BODY, "y = g(x", "y = g"),
        (BODY, "y = g(x,", "y = g(x,"),  # one may well go on
        (BODY, 'y = "x', 'y = "x'),
        (BODY, "if x", "if x"),
        (BODY, "y = x)", "y = x"),
        (BODY, "return x y", "return x"),
        (BODY, "return x\n    z z", "return x"),
        ("x = {\n    |\n}\n", "a = 1", "a"),
        ("x = {\n    |\n}\n", '"a": 1,', '"a": 1,'),
        ("x = ((\n|\n", "1)", "1)"),  # what was broken already is no reason
        ('def f():\n    """|\n', "Of the any = = thing", "Of the any = = thing"),
        ("# |\n", "any = = thing", "any = = thing"),
    ],
)
def test_nothing_breaks_a_file(marked: str, text: str, expected: str) -> None:
    assert shown(marked, text, "python") == expected
    assert shown(marked, "x y z", "") == "x y z"  # of a language that is not known nothing is said


@pytest.mark.parametrize(
    ("language", "marked", "right", "wrong"),
    [
        ("javascript", "function f() {\n  |\n}\n", "const x = g(", "const = x"),
        ("typescript", "function f() {\n  |\n}\n", "const x: number = 1", "const x: = 1"),
        ("typescriptreact", "const a = () => {\n  |\n}\n", "return <div>x</div>;", "return <div x</div>;"),
        ("go", "func f() {\n\t|\n}\n", "if err != nil {", "x = = 3"),
        ("rust", "fn f() {\n    |\n}\n", "let x = g(", "let let x"),
    ],
)
def test_nothing_breaks_a_file_in_any_language(language: str, marked: str, right: str, wrong: str) -> None:
    assert shown(marked, right, language) == right
    assert shown(marked, wrong, language) in wrong[:-1]


@pytest.mark.parametrize(
    ("marked", "text", "expected"),
    [
        (BODY, "return x\n            y = 2", "return x"),  # eight too far
        (BODY, "        y = 2", ""),
        (BODY, "if x:\n        y = 2\n    z = 3", "if x:\n        y = 2\n    z = 3"),
        (BODY, "if x:\n      y = 2", "if x:"),
        (BODY, "y = (x,\n         2)", "y = (x,\n         2)"),  # within brackets anything goes
        ("def f():\n|\n", "        y = 2", ""),
        ("def f():\n|\n", "    y = 2", "    y = 2"),
        ("def f():\n  x = 1\n\n\ndef g():\n|\n", "    y = 2", ""),
        ("def f():\n  x = 1\n\n\ndef g():\n|\n", "  y = 2", "  y = 2"),
        ("def f():\n\tx = 1\n|\n", "    y = 2", ""),
        ("def f():\n\tx = 1\n|\n", "\ty = 2", "\ty = 2"),
        ('def f():\n    """A.\n    |\n    """\n', "b\n        c", "b\n        c"),
        ("    def f(self):|\n", "\n        return 1", "\n        return 1"),
    ],
)
def test_lines_are_indented_as_the_file_is(marked: str, text: str, expected: str) -> None:
    assert shown(marked, text, "python") == expected


@pytest.mark.parametrize(
    ("language", "marked", "text", "expected"),
    [
        ("javascript", "if (a) {\n  b();\n  |\n}\n", "c();\n  d();", "c();\n  d();"),
        ("javascript", "if (a) {\n  b();\n  |\n}\n", "c();\n      d();", "c();"),
        ("javascript", "if (a) {\n  b();\n  |\n}\n", "c()\n    .d();", "c()\n    .d();"),
        ("typescript", "/**\n |\n */\n", "* one\n * two", "* one\n * two"),
        ("typescript", "const a = `\n|\n`;\n", "one\n         two", "one\n         two"),
        ("go", "func f() {\n\tg()\n\t|\n}\n", "if x {\n\t\th()\n\t}", "if x {\n\t\th()\n\t}"),
        ("go", "func f() {\n\tg()\n\t|\n}\n", "h()\n    i()", "h()"),
        ("rust", "fn f() {\n    g();\n    |\n}\n", "h();\n            i();", "h();"),
    ],
)
def test_lines_in_braces_are_at_most_a_unit_deeper(language: str, marked: str, text: str, expected: str) -> None:
    assert shown(marked, text, language) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("return x\n\ndef get_alance(self, a):", "return x"),
        ("return x\n\n@property\ndef y(self):", "return x"),
        ("if x:", "if x:"),  # one line may open a block
        ("return g(x)\n    y = g(", "return g(x)"),
    ],
)
def test_a_head_without_its_block_is_left_out(text: str, expected: str) -> None:
    assert shown(BODY, text, "python") == expected


@pytest.mark.parametrize(("text", "shows"), [("b; b, b, b", False), ("0, 0, 0", True), ("int, int, int", True)])
def test_no_word_over_and_over(text: str, shows: bool) -> None:
    assert bool(shown("x = |\n", text)) is shows


def test_a_line_from_a_few_lines_above_is_not_repeated() -> None:
    assert shown("import warnings\nimport os\n|\n", "import warnings") == ""


def test_two_functions_may_end_with_the_same_line() -> None:
    marked = "def f(self):\n    self.a += 1\n    return self.a\n\ndef g(self):\n    self.a -= 1\n    return|\n"
    assert shown(marked, " self.a") == " self.a"


def test_tabs_in_a_new_file_are_its_indentation() -> None:
    assert shown("def f():\n\t|", "if a:\n\t\tb = 2", "python") == "if a:\n\t\tb = 2"
