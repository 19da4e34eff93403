"""A line that cannot stand above those that follow is written otherwise."""

from __future__ import annotations

import threading

import pytest

import engine.embedded
from engine import Engine, Fill, FillRequest
from engine.contract import Piece
from engine.embedded import Embedded
from engine.indentation import language_at, otherwise, put, stands

COUNT = "def count(s):\n    n = sum(c in 'aeiou' for c in s)\n"
DEEPER = "        n += 1\n    return n\n"


@pytest.mark.parametrize(
    ("marked", "text", "expected"),
    [
        ("a = 1\n|\n    b = 2\n", "return a", False),  # deeper lines follow: it has to open a block
        ("a = 1\n|\n    b = 2\n", "if a:", True),
        ("a = 1\n|\n\n    b = 2\n", "if a:  # why", True),
        ("a = 1\n|\n    b,\n)\n", "f(", True),
        ("f(\n    a,\n|\n        b,\n)\n", "    c", True),  # in brackets all goes
        ('"""Text\n|\n    deeper\n"""\n', "that", True),
        ("a = 1\n|\n    b = 2\n", "# why", True),
        ("a = 1\n|\nb = 2\n", "if a:", True),  # its block may be written next
        ("a = 1\n|b = 2\n", "if a:\n", False),  # but not where a single line is missing
        ("a = 1\n|b = 2\n", "c = 2\n", True),
        ("a = 1\n|    b = 2\n", "if a:\n", True),
        ("a = 1\n|    b = 2\n", "c = 2\n", False),
        ("if |:\n    b = 2\n", "a", True),  # the line has a rest
        ("a = 1\n|\n    b = 2\n", "", True),
    ],
)
def test_a_line_stands_above_what_follows(marked: str, text: str, expected: bool) -> None:
    prefix, _, suffix = marked.partition("|")
    assert stands(prefix, suffix, "python", text) == expected
    assert stands(prefix, suffix, "javascript", text)


def test_another_beginning_is_asked_for_where_the_line_begins() -> None:
    typed = FillRequest(prefix=f"{COUNT}    ", suffix=f"\n{DEEPER}")
    asked, indent = otherwise(typed, ["return n"]) or (typed, "none")
    assert (asked.prefix, asked.others, indent) == (typed.prefix, ("return n",), None)
    missing = FillRequest(prefix=COUNT, suffix=DEEPER)
    asked, indent = otherwise(missing, ["    return n\n", "return n\n"]) or (missing, "none")
    assert (asked.prefix, asked.suffix, indent) == (f"{COUNT}    ", f"\n{DEEPER}", "    ")
    assert asked.others == ("return n",)  # the other one has another indentation
    assert otherwise(FillRequest(prefix=f"{COUNT}    ret", suffix=f"\n{DEEPER}"), ["urn n"]) is None
    asked, indent = otherwise(FillRequest(prefix="while n:  # odd\n", suffix="        n -= 1\n"), []) or (asked, "none")
    assert indent == "    "


def test_it_is_put_after_its_indentation() -> None:
    costs = {"passes": 2, "tokens": 3, "encoded": 4, "reused": 5, "encode_ms": 1.0, "decode_ms": 1.0}
    fill = Fill(text="if n:", confidence=0.5, complete=True, pieces=(Piece(2, 0.5), Piece(5, 1.0)), **costs)  # type: ignore[arg-type]
    assert put(fill, None) is fill
    assert put(fill, "").text == "if n:\n"
    assert put(fill, "    ").text == "    if n:\n"
    assert [piece.end for piece in put(fill, "    ").pieces] == [6, 9]


def test_a_file_without_a_name_is_known_by_its_text() -> None:
    assert language_at(FillRequest(prefix=COUNT)) == "python"
    assert language_at(FillRequest(prefix="function count(s) {\n", path="")) == ""
    assert language_at(FillRequest(prefix=COUNT, path="a.go")) == "go"


@pytest.mark.parametrize(
    ("prefix", "suffix"), [(COUNT, DEEPER), (f"{COUNT}    ", f"\n{DEEPER}"), ("import sys\n\n", "    main()\n")]
)
def test_nano_writes_another_line_where_the_likeliest_cannot_stand(
    prefix: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = FillRequest(prefix=prefix, suffix=suffix, path="count.py", max_lines=1)
    filler = Engine(Embedded.load("nano"))
    fill = filler.fill(request, threading.Event())
    assert stands(prefix, suffix, "python", fill.text) and fill.text.rstrip().endswith(":")
    assert fill.text.endswith("\n") == prefix.endswith("\n")
    assert fill.text.startswith("    ") == (prefix == COUNT)
    monkeypatch.setattr(engine.embedded, "TRIES", 0)
    likeliest = filler.fill(request, threading.Event())
    assert not stands(prefix, suffix, "python", likeliest.text)
    assert likeliest.passes < fill.passes
