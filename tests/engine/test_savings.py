"""What the typing evaluation counts, on a server whose suggestions are known."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from lsp_client import ROOT

from engine import EngineError
from engine.evaluation.places import EvaluationWorkspace, Place, workspaces
from engine.evaluation.savings import Way, figures, typed, ways
from engine.evaluation.typist import acceptable, is_right, next_key
from engine.options import ModelChoice

SCRIPTED = (sys.executable, str(ROOT / "tests" / "lsp_server" / "scripted_server.py"), "--stdio")
TEXT = Path(__file__).with_name("sample.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "todo", "accepted"),
    [
        ("area = 1", "area = 1", "area = 1"),
        ("area", "area = 1", "area"),
        ("are", "area = 1", ""),  # a word too short
        ("area = 2", "area = 1", "area ="),  # word by word
        ("area()", "areas()", ""),
        ("x", "x", ""),  # typed as fast
        ("x:\n    y", "x:\n    y = 1", "x:\n    y"),
        ("  ", "  x", ""),
    ],
)
def test_what_is_right_is_accepted(text: str, todo: str, accepted: str) -> None:
    assert acceptable(text, todo) == accepted


def test_right_is_what_is_to_be_typed() -> None:
    assert is_right("x", "x")
    assert not is_right("x y", "x")
    assert next_key("\n    x") == "\n    "
    assert next_key("x\n") == "x"


def a_place(before: str, todo: str = "x = 1", after: str = "\n", path: str = "a.py") -> Place:
    return Place(path, "go" if path.endswith("go") else "python", before, todo, after)


async def test_figures_of_known_suggestions(tmp_path: Path) -> None:
    """The first place is suggested as it is, at the second the same text is wrong, but for its first word."""
    script = "#" + json.dumps({"text": "area = width * height", "confidence": 0.9}) + "\n"
    right = a_place(script, "area = width * height")
    wrong = a_place(script, "area = 1", path="b.py")
    work = EvaluationWorkspace("p", {"a.py": "", "b.py": ""}, [right, wrong])
    told: list[int] = []
    session = await asyncio.wait_for(typed(Way("scripted", SCRIPTED, {}), ModelChoice(), [work], told.append), 60)
    first, second = session.suggestions[:2]
    assert (first.right, first.accepted) == (True, 21)
    assert (second.right, second.accepted) == (False, 6)
    assert told == [1, 1]
    whole = figures(session)[0]
    assert (whole.lines, whole.helped) == (2, 0.5)
    assert whole.ratio == 27 / 29
    assert whole.precision == 1 / len(session.suggestions)
    assert session.keys == 1 + 1 + len(" 1")


def test_rules_are_named_as_the_server_has_them() -> None:
    names = [way.name for way in ways({}, False, ["all"])]
    assert {"Inpaint", "without closed", "without without_lines_below"} < set(names)
    assert [way.name for way in ways({}, False, ["closed"])] == ["Inpaint", "without closed"]
    with pytest.raises(EngineError, match=r"no rule so: there are .*closed"):
        ways({}, False, ["so"])


async def test_the_server_hears_what_became_of_suggestions() -> None:
    script = "#" + json.dumps({"text": "area = width", "confidence": 0.9}) + "\n"
    places = [a_place(script, todo, path=path) for todo, path in (("area = width", "a.py"), ("y = 1", "b.py"))]
    work = EvaluationWorkspace("p", {"a.py": "", "b.py": ""}, places)
    session = await asyncio.wait_for(
        typed(Way("scripted", SCRIPTED, {}), ModelChoice(), [work], lambda lines: None), 60
    )
    first, *wrong = session.suggestions
    assert first.outcome == "accepted"
    assert {one.outcome for one in wrong} == {"dismissed"}


def a_corpus(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    texts = [text.encode() for text in files.values()]
    (folder / "corpus.bin").write_bytes(b"".join(texts))
    np.save(folder / "index.npy", np.cumsum([0, *map(len, texts)]))
    rows = [{"package": path.split("/")[0], "path": path, "bytes": 1} for path in files]
    (folder / "files.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_places_are_the_file_cut_open_and_are_not_on_disk(tmp_path: Path) -> None:
    corpus = a_corpus(tmp_path / "validation", {"p/a.py": TEXT, "q/b.py": TEXT, "q/c.txt": TEXT})
    made = workspaces(corpus, lines=4, seed=1)
    assert made == workspaces(corpus, lines=4, seed=1)
    assert made != workspaces(corpus, lines=4, seed=2)
    assert [work.package for work in made] == ["p", "q"]
    for work in made:
        assert sum(place.todo.count("\n") + 1 for place in work.places) == 2
        for place in work.places:
            assert place.before + place.todo + place.after == TEXT
        [file] = work.files.values()
        gone = sum(place.todo.count("\n") + 1 for place in work.places)
        assert file.count("\n") == TEXT.count("\n") - gone
    assert [work.package for work in workspaces(corpus, 4, 1, ("q",))] == ["q"]
    with pytest.raises(EngineError, match="there are p, q"):
        workspaces(corpus, 4, 1, ("r",))
    with pytest.raises(EngineError, match="train corpus"):
        workspaces(tmp_path / "none", 4, 1)
