"""A line that cannot stand in its place, or of Python that leaves a name without a value, is written otherwise."""

from __future__ import annotations

import itertools
import threading
import warnings

import pytest

import engine.embedded
from engine import Engine, Fill, FillRequest
from engine.contract import Piece
from engine.embedded import Embedded
from engine.syntax_check import CAN, CANNOT, FITS, beginnings, begun, language_at, verdict, with_beginning

BRACES = [
    ("a.js", "function f(a) {\n  |\n    return b\n  }\n}\n", "if (a) {", FITS),
    ("a.js", "function f(a) {\n  |\n    return b\n  }\n}\n", "g(a)", CANNOT),  # it has to open a block
    ("a.ts", "function f(a: T) {\n  |\n  return a\n}\n", "g(a)", FITS),
    ("a.ts", "function f(a: T) {\n  |\n  return a\n}\n", "if (a) {", CANNOT),  # nothing closes it
    ("a.go", "func f(a int) int {\n\tif a > 1 {\n\t\ta++\n\t|\n\treturn a\n}\n", "}", FITS),
    ("a.go", "func f(a int) int {\n\tif a > 1 {\n\t\ta++\n\t|\n\treturn a\n}\n", "a--", CANNOT),
    ("a.rs", "fn f(a: u8) -> u8 {\n|    a + b\n}\n", "    let b = 1;\n", FITS),  # a line that is missing
    ("a.rs", "fn f(a: u8) -> u8 {\n|    a + b\n}\n", "    let b = (1;\n", CANNOT),
    ("a.rs", "fn f(a: u8) -> u8 {\n    a |\n}\n", "+ }", FITS),  # within a line
]
COUNT = "def count(s):\n    n = sum(c in 'aeiou' for c in s)\n"
DEEPER = "        n += 1\n    return n\n"
RATIO = "def ratio(items):\n"
LOOP = "    for item in items:\n        total += item\n    return total / len(items)\n"


def request(marked: str, path: str = "a.py") -> FillRequest:
    prefix, _, suffix = marked.partition("|")
    return FillRequest(prefix=prefix, suffix=suffix, path=path, max_lines=1)


def filled(text: str, complete: bool = True) -> Fill:
    costs = {"passes": 2, "tokens": 3, "encoded": 4, "reused": 5, "encode_ms": 1.0, "decode_ms": 1.0}
    return Fill(text=text, confidence=0.5, complete=complete, **costs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("marked", "text", "expected"),
    [
        ("a = 1\n|\n    b = 2\n", "return a", CANNOT),  # deeper lines follow: it has to open a block
        ("a = 1\n|\n    b = 2\n", "if a:", FITS),
        ("a = 1\n|\n\n    b = 2\n", "if a:  # why", FITS),
        ("a = 1\n|\nb = 2\n", "if a:", FITS),  # its block may be written next
        ("a = 1\n|\nb = 2\n", "try:", FITS),
        ("a = 1\n|b = 2\n", "if a:\n", CANNOT),  # but not where a single line is missing
        ("a = 1\n|b = 2\n", "c = 2\n", FITS),
        ("a = 1\n|    b = 2\n", "if a:\n", FITS),
        ("a = 1\n|    b = 2\n", "c = 2\n", CANNOT),
        ("a = 1\n|b = 2\n", "", CAN),  # the missing line is no empty one
        ("a = 1\n|\nb = 2\n", "", FITS),
        ("a = 1\n|\nb = 2\n", "c = f(a", CANNOT),
        ("a = 1\n|\nb = 2\n", "c = f(", FITS),  # it may go on in the next line
        ("a = 1\n|\nb = 2\n", "@cached", FITS),
        ("a = 1\n|\nb = 2\n", '"""What', FITS),
        ("a = 1\n|\nb = 2\n", "b = 2", CANNOT),  # it stands there already
        ("if |:\n    b = 2\n", "1 1", FITS),  # within a line
        ("f(\n    a,\n|\n        b,\n)\n", "    c", FITS),  # in brackets all goes
        ('"""Text\n|\n    deeper\n"""\n', "that", FITS),
        ("if (\n|\n    b = 2\n", "return a", FITS),  # what stands above is no Python itself
        ("a = 1\n|\nb = = 2\n", "return a", FITS),  # what stands below is none, whatever stands here
        ("def f(a):\n    return a\n|    b = 2\n", "    a = 1\n", CANNOT),  # it would never run
        ("def f(a):\n    if a:\n|    b = 2\n", "        return a\n", FITS),
        ("def f(a):\n|    b = 2\n", "    return a\n", CANNOT),  # what follows would not
        ("def f():\n|" + LOOP, "    items = []\n", CAN),  # something is to be added up in `total`
        ("def f():\n|" + LOOP, "    total = 0\n", CAN),  # `items` come from nowhere
        (RATIO + "|" + LOOP, "    total = 0\n", FITS),
        (RATIO + "    |\n" + LOOP, "total: int = 0", FITS),
        (RATIO + "    |\n" + LOOP, "items = list(items)", CAN),
        ("from totals import total\n\n\n" + RATIO + "    |\n" + LOOP, "items = list(items)", FITS),
        ("def other(total):\n    total += 1\n\n\n" + RATIO + "    |\n" + LOOP, "items = list(items)", CAN),
        (RATIO + "    |\n" + LOOP + "\n\ntotal = 0\n", "items = list(items)", FITS),
        ("def f(x):\n    |\n    return x\n", "y = unheard_of(x)", CAN),
        ("def f(x):\n    |\n    return a + b + c + d\n", "x += 1", FITS),  # too many to be told what they are
        ("def f():\n    with open() as a, b():\n        |\n        except E as e:\n", "pass", FITS),
        ("def f(a, *b, c=1, **d):\n    |\n    return a, b, c, d, __file__\n", "import a.b as e", FITS),
        ("def f(a):\n    match a:\n        case [b, *c]:\n            |\n            return b, c\n", "pass", FITS),
        ("def f(a):\n    |\n    class C: pass\n    def g(): return C, g\n", "pass", FITS),
        ("def f():\n    global a\n    |\n    return a\n", "pass", FITS),
        (
            "class A:\n    def f(self):\n        def g(b):\n            return b\n|        c = g(1)\n",
            "        b = 2\n",
            FITS,
        ),
        ("def f(a):\n    |\n", "def f(b):", CANNOT),  # it is begun already
        ('def f(a):\n    """What."""\n|', "def f(a):", CANNOT),
        ('def f(a):\n    """What."""\n\n\n@overload\n|', "def f(b):", FITS),
        ("def f(a):\n    |\n", "def g(b):", FITS),
        ("def f(a):\n    |\n", "a == 1", CANNOT),  # nobody gets what it is
        ("def f(a):\n    |\n    return a\n", "a", CANNOT),
        ("def f(a):\n    |\n    return a\n", "a and len(a)", FITS),
        ("def f(a):\n    return g(\n|\n        1)\n", "        a", FITS),
        ('def f(a):\n    """What.\n|\n    """\n', "    Parameters", FITS),
        ("a = 1\n|\n", "a", FITS),  # as in a notebook
        (
            "class A:\n    def f(self):\n        |\n\n    def g(self):\n",
            "return g(1)",
            FITS,
        ),  # other names of a class count as known
    ],
)
def test_a_fill_is_judged_in_its_place(marked: str, text: str, expected: int) -> None:
    assert verdict(request(marked), filled(text)) == expected
    assert verdict(request(marked), filled(text, complete=False)) == FITS  # a limit ended it, it may well go on
    assert verdict(request(marked, "a.java"), filled(text)) == FITS


def test_a_long_function_is_not_judged() -> None:
    long = "def f():\n" + "    a = 1\n" * 300
    assert verdict(request(long + "    |\n        b = 2\n"), filled("return a")) == FITS
    assert verdict(request("    a = 1\n" * 300 + "|\n        b = 2\n"), filled("    return a")) == FITS


def test_strange_escapes_are_no_matter() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert verdict(request("a = '\\d'\n|\nb = 2\n"), filled("c = a")) == FITS
    assert verdict(request("a = 1\n|\nb = '\0'\n"), filled("c = a")) == FITS


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        (RATIO + "|" + LOOP, ["    total ="]),
        (RATIO + "    |\n" + LOOP, ["total ="]),
        (RATIO + "|        total = item\n", ["    for item in", "    "]),
        (RATIO + "|        return each(n)\n    return each(items)\n", ["    def each(", "    "]),
        (RATIO + "|    return total / number\n", ["    total", "    "]),
        ("def f(items):\n  total = 0\n|    total += item\n  return total\n", ["  for item in", "  "]),  # two blanks
        (RATIO + "    items.sort()\n|        del items[0]\n", ["    ", "    ", "    "]),
        (RATIO + "    while items:\n        break\n|    return items\n", ["    ", "    ", "    "]),
        (RATIO + "|        del items[0]\n    finally:\n        pass\n", ["    try", "    "]),
        (RATIO + "    if items:\n        a = 1\n|        a = 2\n    return a\n", ["        ", "    ", "        "]),
        (COUNT + "    if n:\n        n = 0\n|" + DEEPER, ["        ", "    ", "        "]),
    ],
)
def test_what_to_begin_with(marked: str, expected: list[str]) -> None:
    assert list(itertools.islice(beginnings(request(marked)), len(expected))) == expected


def test_it_is_asked_for_after_its_beginning() -> None:
    missing = FillRequest(prefix=COUNT, suffix=DEEPER, others=("    n -= 1\n",))
    asked = begun(missing, "    ", ["    return n\n", "return n\n"])
    assert (asked.prefix, asked.suffix) == (f"{COUNT}    ", f"\n{DEEPER}")
    assert asked.others == ("n -= 1", "return n")  # the last one has another indentation
    typed = FillRequest(prefix=f"{COUNT}    ", suffix=f"\n{DEEPER}")
    asked = begun(typed, "n", ["return n"])
    assert (asked.prefix, asked.suffix, asked.others) == (f"{COUNT}    n", f"\n{DEEPER}", ())


def test_its_beginning_is_put_before_it() -> None:
    fill = Fill(
        text="if n:", confidence=0.5, complete=True, passes=2, tokens=3, encoded=4, reused=5, encode_ms=1.0,
        decode_ms=1.0, pieces=(Piece(2, 0.5), Piece(5, 1.0)),
    )  # fmt: skip
    typed, missing = FillRequest(prefix="    ", suffix="\n"), FillRequest(prefix="", suffix="a\n")
    assert with_beginning("", fill, typed) == fill
    assert with_beginning("", fill, missing).text == "if n:\n"
    whole = with_beginning("    ", fill, missing)
    assert whole.text == "    if n:\n"
    assert [piece.end for piece in whole.pieces] == [6, 9]


def test_a_file_without_a_name_is_known_by_its_text() -> None:
    assert language_at(FillRequest(prefix=COUNT)) == "python"
    assert language_at(FillRequest(prefix="function count(s) {\n", path="")) == ""
    assert language_at(FillRequest(prefix=COUNT, path="a.go")) == "go"


@pytest.mark.parametrize(
    "marked",
    [
        f"{COUNT}|{DEEPER}",
        f"{COUNT}    |\n{DEEPER}",
        f"{RATIO}|{LOOP}",
    ],
)
def test_nano_writes_another_line_where_the_likeliest_cannot_stand(
    marked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(marked)
    filler = Engine(Embedded.load("nano"))
    fill = filler.fill(asked, threading.Event())
    assert verdict(asked, fill) == FITS
    assert fill.text.endswith("\n") == asked.prefix.endswith("\n")
    monkeypatch.setattr(engine.embedded, "TRIES", 0)
    likeliest = filler.fill(asked, threading.Event())
    assert verdict(asked, likeliest) < FITS
    assert likeliest.passes < fill.passes


@pytest.mark.parametrize(("path", "marked", "text", "expected"), BRACES)
def test_a_line_between_braces_is_judged_by_errors(path: str, marked: str, text: str, expected: int) -> None:
    assert verdict(request(marked, path), filled(text)) == expected


def test_the_bracket_that_is_wanted_is_a_beginning() -> None:
    asked = request("func f(a int) int {\n\tif a > 1 {\n\t\ta++\n\t|\n\treturn a\n}\n", "a.go")
    assert list(beginnings(asked)) == ["}", "", "", ""]
    assert list(beginnings(request("func f(a int) int {\n\t|\n\treturn a\n}\n", "a.go"))) == ["", "", ""]
