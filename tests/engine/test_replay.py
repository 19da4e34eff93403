"""What was done twice is due at the next place that is alike, and else nothing is."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from engine import EngineError
from engine.evaluation.edits import evaluate
from engine.next_edit.replay import EditOffer, LineEdit, NoOfferReason, SettledEdit, propose
from engine.next_edit.substitution import substitution


def settled(*edits: tuple[int, str, str], document: str = "a") -> list[SettledEdit]:
    made = ((line, substitution(old, new)) for line, old, new in edits)
    return [SettledEdit(document, line, each) for line, each in made if each is not None]


def due(text: str, *edits: tuple[int, str, str], language: str = "python") -> EditOffer | NoOfferReason:
    return propose(settled(*edits), text, language)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("f(a)", "f(a, b)", ("", ", b")),
        ("\tx = f(a)", "\tx = g(a)", ("f", "g")),
        ("a.x + a.y", "b.x + b.y", ("a", "b")),
        ("f(a, b)", "f(a)", (", b", "")),
        ("é = '😀x'", "é = '😀y'", ("x", "y")),
        ("a+b", "a + b", None),
        ("x", "x" * 200, None),
    ],
)
def test_what_is_substituted(old: str, new: str, what: tuple[str, str] | None) -> None:
    made = substitution(old, new)
    assert (made and made.what) == what


CALLS = "load(a, 1)\nload(b, 1)\nsave()\nload(c, 1)\nload(d, 1)\n"


def test_the_nearest_like_place_is_due() -> None:
    text = CALLS.replace("a, 1", "a, deep=1").replace("b, 1", "b, deep=1")
    offer = due(text, (0, "load(a, 1)", "load(a, deep=1)"), (1, "load(b, 1)", "load(b, deep=1)"))
    assert offer == EditOffer([LineEdit(3, 8, 8, "deep="), LineEdit(4, 8, 8, "deep=")], ("", "deep="))


def test_upwards_for_who_goes_up() -> None:
    text = CALLS.replace("load(c", "read(c").replace("load(d", "read(d")
    offer = due(text, (4, "load(d, 1)", "read(d, 1)"), (3, "load(c, 1)", "read(c, 1)"))
    assert isinstance(offer, EditOffer)
    assert [change.line for change in offer.changes] == [1, 0]


def test_twice_in_one_line_is_twice_and_goes_down() -> None:
    offer = due("b; b\na\n", (0, "a; a", "b; a"), (0, "b; a", "b; b"))
    assert isinstance(offer, EditOffer)
    assert offer.changes == [LineEdit(1, 0, 1, "b")]


@pytest.mark.parametrize(
    ("why", "text", "edits"),
    [
        ("once", "read(a)\nload(b)\n", [(0, "load(a)", "read(a)")]),
        ("nowhere", "read(a)\nread(b)\n", [(0, "load(a)", "read(a)"), (1, "load(b)", "read(b)")]),
        ("passed", "load(z)\nread(a)\nread(b)\nload(c)\n", [(1, "load(a)", "read(a)"), (2, "load(b)", "read(b)")]),
        ("once", "load(a)\nload(b)\n", [(0, "load(a)", "read(a)"), (0, "read(a)", "load(a)")]),
        ("reversal", "b\na\na\nb\n", [(0, "a", "b"), (1, "b", "a"), (2, "b", "a")]),
        ("unsure", "x=1;y\nx=1;z\nx=2;k\n", [(0, "x;y", "x=1;y"), (1, "p;z", "p=1;z")]),
        ("unsure", "b(1)\nb(2)\na(3) + a\n", [(0, "a(1)", "b(1)"), (1, "a(2)", "b(2)")]),
        ("error", "if x: pass\nm: pass;\n{x: load}\n", [(0, "if x: load", "if x: pass"), (1, "m: load;", "m: pass;")]),
        ("far", "f(1)\nf(1)\n" + "\n" * 40 + "f()\n", [(0, "f()", "f(1)"), (1, "f()", "f(1)")]),
    ],
)  # fmt: skip
def test_silence_and_why(why: str, text: str, edits: list[tuple[int, str, str]]) -> None:
    assert due(text, *edits) == why


def test_what_was_rejected_stays_away() -> None:
    edits = settled((0, "load(a)", "read(a)"), (1, "load(b)", "read(b)"))
    text = "read(a)\nread(b)\nload(c)\n"
    assert isinstance(propose(edits, text, "python"), EditOffer)
    assert propose(edits, text, "python", {("load", "read")}) == "rejected"


def test_lines_of_blanks_and_many_places_take_no_time() -> None:
    started = time.perf_counter()
    edits = settled((0, "f(a)  ", "f(a) b"), (1, "f(c)  ", "f(c) b"))
    propose(edits, "f(a) b\nf(c) b\n" + ("f(a)" + " " * 100_000 + "\n") * 3 + "f(e)\n" * 20_000, "text")
    assert time.perf_counter() - started < 5


def test_a_history_is_replayed(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    git("init", "-q")
    for name in ("load", "read"):
        text = "".join(f"x{number} = {name}({number})\n\n" for number in range(5))
        (tmp_path / "a.py").write_text(text, encoding="utf-8")
        git("add", ".")
        git("commit", "-qm", name)
    found = evaluate([tmp_path / ".git"], 10)
    assert (found.edits, found.offers, found.pooled[0], found.silent) == (5, 3, 1.0, 1.0)
    assert found.commits == 1
    with pytest.raises(EngineError, match=r"no git history: name"):
        evaluate([tmp_path / "nothing"], 10)
