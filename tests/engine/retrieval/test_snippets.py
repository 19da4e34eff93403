"""What to show of other files at a cursor."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract import FillRequest, Source
from engine.retrieval.build import IndexOrder, build
from engine.retrieval.index import Index
from engine.retrieval.snippets import snippets

FILES = {
    "area.py": "import math\n\n\ndef area_of(width, height, *, margin=0):\n    return width * height + margin\n",
    "shapes.py": "class Shape:\n    def draw(self, canvas, colour):\n        canvas.line(self.start, colour)\n",
}


@pytest.fixture
def index(tmp_path: Path) -> Index:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    build(IndexOrder([str(tmp_path)], str(tmp_path / "store")))
    return Index.open(tmp_path / "store")


def test_definitions_of_the_names_on_the_line(index: Index, tmp_path: Path) -> None:
    request = FillRequest(prefix="def volume(shape):\n    return area_of(", suffix=", depth)\n", indexes=(index,))
    first = snippets(request, 400)[0]
    assert first.text == "def area_of(width, height, *, margin=0):\n    return width * height + margin\n"
    assert first.source == Source((tmp_path / "area.py").as_posix(), 4)


def test_definitions_inside_a_class_keep_their_indentation(index: Index) -> None:
    first = snippets(FillRequest(prefix="shape.draw(", indexes=(index,)), 400)[0]
    assert first.text.startswith("    def draw(self, canvas, colour):\n        canvas.line(")


def test_the_most_similar_code(index: Index) -> None:
    request = FillRequest(prefix="    def draw(self, canvas, colour):\n        canvas.", indexes=(index,))
    assert any("canvas.line(self.start" in snippet.text for snippet in snippets(request, 400))


def test_no_more_than_there_is_room_for_and_nothing_that_is_seen_already(index: Index, tmp_path: Path) -> None:
    request = FillRequest(prefix="    return area_of(", indexes=(index,))
    assert sum(len(snippet.text) for snippet in snippets(request, 60)) <= 60
    assert snippets(FillRequest(prefix=FILES["area.py"] + "area_of(", indexes=(index,)), 400) == []
    hidden = (tmp_path / "area.py").as_posix()
    assert snippets(FillRequest(prefix="area_of(", files=(hidden,), indexes=(index,)), 400) == []
    assert snippets(FillRequest(prefix=""), 400) == []
