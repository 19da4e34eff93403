"""How the cursor's line may go on by what stands elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract import Edit, Source
from engine.retrieval.build import IndexOrder, build
from engine.retrieval.candidates import Candidate, CandidateSearch, matches, up_to
from engine.retrieval.index import Index

AREA = "def area(width, height):\n    return width * height\n"


def candidates(
    prefix: str, rest: str = "", below: str = "", *others: str, index: Index | None = None
) -> list[Candidate]:
    paths = ["/p/here.py", *(f"/p/{number}.py" for number in range(len(others)))]
    elsewhere = CandidateSearch(prefix, rest, below, 1, others, paths, [index] if index else [])
    return elsewhere.candidates(prefix, prefix)


def lines(found: list[Candidate]) -> list[str]:
    return [candidate.line for candidate in found]


def test_of_the_file_the_open_texts_and_the_index(tmp_path: Path) -> None:
    (tmp_path / "area.py").write_text(AREA)
    build(IndexOrder([str(tmp_path)], str(tmp_path / "store")))
    index = Index.open(tmp_path / "store")
    best = candidates("def volume(width, height):\n    return wid", index=index)[0]
    assert (best.line, best.ends, best.where) == ("th * height", True, "indexed")
    assert best.source == Source((tmp_path / "area.py").as_posix(), 2)
    best = candidates("a = 1\n" + AREA + "def volume(width, height):\n    return wid", "", "", "b = 1\n")[0]
    assert (best.line, best.where, best.away, best.source) == ("th * height", "here", 2, Source("/p/here.py", 3))
    best = candidates("def volume(width, height):\n    return wid", "", "", "b = 1\n", "\n" + AREA)[0]
    assert (best.line, best.where, best.source) == ("th * height", "opened", Source("/p/1.py", 3))
    assert best.evidence(line_start=False, begun=False).opened
    best = candidates("def volume(width, height):\n    return wid", "", "\n\n" + AREA)[0]
    assert (best.line, best.where, best.away, best.source) == ("th * height", "here", 3, Source("/p/here.py", 5))
    assert best.evidence(line_start=False, begun=False).near == 1 / 1.3
    installed = Index.open(tmp_path / "store", installed=True)
    best = candidates("def volume(width, height):\n    return wid", index=installed)[0]
    assert best.where == "installed"
    assert best.evidence(line_start=False, begun=False).installed


@pytest.mark.parametrize(
    ("written", "line"),
    [("from ", "shapes import Shape, scale"), ("from shapes imp", "ort Shape, scale"), ("    scale(", "shape, by=2):")],
)
def test_imports_and_signatures_that_the_index_knows(tmp_path: Path, written: str, line: str) -> None:
    (tmp_path / "shapes.py").write_text("class Shape:\n    pass\n\n\ndef scale(shape, by=2):\n    pass\n")
    (tmp_path / "draw.py").write_text("from shapes import Shape, scale\n")
    build(IndexOrder([str(tmp_path)], str(tmp_path / "store")))
    assert line in lines(candidates("x = 1\n" + written, index=Index.open(tmp_path / "store")))


def test_places_that_go_on_alike_speak_for_it() -> None:
    found = candidates("-\nx = go(1)\n+\nx = go(2)\n*\nx = go(2)\n/\nx = go(")
    assert lines(found) == ["2)", "1)"]
    assert [round(one.agreement, 2) for one in found] == [0.67, 0.33]


def test_the_line_below_speaks_for_it() -> None:
    text = "\n\nopen(a)\nread(a)\n\nopen(b)\nskip(b)\n\n"
    assert lines(candidates(text + "open(", "", "\n\nread(a)\n"))[0] == "a)"
    assert lines(candidates(text + "open(", "", "\n    skip(b)\n"))[0] == "b)"


def test_what_stands_right_of_the_cursor_decides() -> None:
    calls = "first = scale(width, 2)\nsecond = scale(width"
    assert lines(candidates(calls, ")")) == [", 2"]
    assert lines(candidates(calls, "]")) == []


@pytest.mark.parametrize(
    ("rest", "line", "inserted"),
    [
        ("", "a, b)", "a, b)"),
        (")", "a, b)", "a, b"),
        (")", "a, f(b)):", "a, f(b)"),  # the editor closed the bracket, the colon is still to come
        ("'", "a'", "a"),
        ("]", "a, b):", None),
        (" = 1", "a", None),
        ("):", "a):  # a", "a"),
    ],
)
def test_up_to_what_stands_right_of_the_cursor(rest: str, line: str, inserted: str | None) -> None:
    assert up_to(rest, line) == inserted


def test_lines_around_the_cursor_are_not_written_again() -> None:
    assert lines(candidates("check(one, 1)\ncheck(", "", "")) == []
    assert lines(candidates("check(one, 1)\n\npass\ncheck(", "", "\ncheck(one, 1)\n")) == []


def test_the_longest_place_and_the_latest_of_those_about_as_long() -> None:
    assert matches("foo(", "foo(1) foo(2) foo(3)", 20) == [(4, 18), (4, 11), (4, 4)]
    assert matches("a.foo(", "a.foo(1) b.foo(2) foo(3)", 24) == [(6, 6), (4, 22), (5, 15)]
    assert matches("bar(", "foo(1)", 6) == []
    assert matches("", "foo", 3) == []


@pytest.mark.parametrize(
    ("written", "rest", "line"),
    [
        ("x = go(a", ")", ", b"),
        ("x = go(a, ", ")", "b"),
        ("x = go(a", ") + 1", ", b"),
        ("x = go(a", "", ", b)"),
        ("x = go(a", "]", None),
        ("x = go(a, b", ")", None),
        ("x = no(c", ")", None),
        ("", "", None),
    ],
)
def test_what_was_just_changed_is_changed_here(written: str, rest: str, line: str | None) -> None:
    edits = [Edit("gone", "", ""), Edit("y = go(a", ", b", ")"), Edit("z = go(a", ", old", ")")]
    elsewhere = CandidateSearch(written, rest, "", 1, [], [], [], edits)
    found = [one for one in elsewhere.candidates(written, written) if one.place is None]
    assert lines(found) == ([] if line is None else [line])
    assert all(one.source is None for one in found)
    assert all(one.where == "here" and one.evidence(line_start=False, begun=False).near == 0 for one in found)
