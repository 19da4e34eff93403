"""A file that is indented with tabs is filled as one with blanks is."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine import Engine, Fill, FillRequest
from engine.backends.pace import Pace
from engine.contract import Edit, Progress, TokenSpan
from engine.embedded import Embedded
from engine.retrieval.index import Index
from engine.tabs import DetabbedRequest, Untabbed, with_tabs, without_tabs

TEXT = Path(__file__).with_name("sample.txt").read_text(encoding="utf-8")
PLACES = [found.end() for found in re.finditer(r":\n(?: {4})+|= |\n {4}", TEXT)][::6]


@pytest.fixture(scope="module")
def engines() -> Iterator[list[Engine]]:
    """One for blanks and one for tabs: what one has read changes how the other's numbers are rounded, and so does how
    many rows pay, which is made the same for both.
    """
    with pytest.MonkeyPatch.context() as patch:
        for cost in ("fastest", "seconds"):
            patch.setattr(Pace, cost, lambda self, rows: (9 + rows) / 1000)
        yield [Engine(Embedded.load("small")) for _ in range(2)]


def test_indentations_change_and_come_back() -> None:
    text = "class A:\n\tdef f():\n\t\treturn '\t'\n\t  # two blanks more\n"
    assert without_tabs(text) == "class A:\n    def f():\n        return '\t'\n      # two blanks more\n"
    assert with_tabs(without_tabs(text)) == text
    assert with_tabs(without_tabs(TEXT)) != TEXT == without_tabs(with_tabs(TEXT))


@pytest.mark.parametrize("place", PLACES)
def test_fills_are_the_same_but_for_tabs(engines: list[Engine], place: int) -> None:
    following = TEXT[TEXT.index("\n", place) :]
    others = "def area(width):\n    if width:\n        return width * 2\n"
    asked = FillRequest(prefix=TEXT[:place], suffix=following, path="a.py", max_lines=4, related=(others,))
    tabbed = msgspec.structs.replace(
        asked, prefix=with_tabs(asked.prefix), suffix=with_tabs(following), related=(with_tabs(others),)
    )
    shown: list[Progress] = []
    with_blanks = engines[0].fill(asked, threading.Event(), lambda progress: None)
    made = engines[1].fill(tabbed, threading.Event(), shown.append)
    head = tabbed.prefix + made.text
    assert without_tabs(head) == asked.prefix + with_blanks.text
    assert not re.search(r"\n *    ", head)
    assert made.confidence == with_blanks.confidence
    ends = [piece.end for piece in made.pieces]
    assert ends == sorted(ends)
    assert ends[-1:] == ([len(made.text)] if made.text else ends[-1:])
    assert all(made.text.startswith(progress.text.rstrip(" ")) for progress in shown)


@pytest.mark.parametrize(
    ("prefix", "suffix", "path", "tabs"),
    [
        ("def f():\n\t", "", "a.py", True),
        ("def f():\n    ", "\n\tx\n\ty", "a.py", True),
        ("def f():\n    x\n    ", "\n\ty", "a.py", False),
        ("func f() {\n\t", "\n}", "a.go", False),
        ("x = '\t'", "", "", False),
    ],
)
def test_most_lines_decide(prefix: str, suffix: str, path: str, tabs: bool) -> None:
    assert DetabbedRequest.of(FillRequest(prefix=prefix, suffix=suffix, path=path)).tabs is tabs


def test_tokens_end_where_their_text_does() -> None:
    seen = DetabbedRequest.of(FillRequest(prefix="def f():\n\tif x:\n\t\t"))
    assert seen.request.prefix == "def f():\n    if x:\n        "
    text = "return y\n        z = 1\n    w"
    fill = Fill(
        text=text, confidence=0.5, passes=1, tokens=7, encoded=0, reused=0, encode_ms=1.0, decode_ms=1.0,
        complete=True, pieces=tuple(TokenSpan(end, 0.5) for end in (8, 9, 13, 17, 18, 27, len(text))),
    )  # fmt: skip
    back = seen.restored(fill)
    assert back.text == "return y\n\t\tz = 1\n\tw"
    assert [back.text[: piece.end] for piece in back.pieces] == [
        "return y", "return y\n", "return y\n\t", "return y\n\t\t", "return y\n\t\tz", "return y\n\t\tz = 1\n\t",
        "return y\n\t\tz = 1\n\tw",
    ]  # fmt: skip


def test_edits_and_other_fills_are_seen_with_blanks() -> None:
    request = FillRequest(
        prefix="def f():\n\tx\n\t", edits=(Edit("", "\tmade(1)", ""), Edit("\tx = ", "1", "")), others=("a\n\tb",)
    )
    seen = DetabbedRequest.of(request).request
    assert seen.edits == (Edit("", "    made(1)", ""), Edit("    x = ", "1", ""))
    assert seen.others == ("a\n    b",)


def test_an_index_of_files_with_tabs_is_asked_with_blanks() -> None:
    index = Untabbed(Index.of({"a.py": b"class A:\n\tdef area(self):\n\t\treturn self.width\n\n\tdef f(): pass\n"}))
    [found, *_] = index.matches("    def area(self):\n        ")
    assert found.after.startswith("return self.width\n\n    def f(): pass")
    assert found.length == len("    def area(self):\n        ")
    above, below = index.around(found)
    assert above.endswith("    def area(self):\n        ")
    assert below.startswith("return self.width\n\n    def")
