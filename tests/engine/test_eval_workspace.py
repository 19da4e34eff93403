"""What the workspace brings: a package whose files repeat each other, at its own cursors."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine import Engine
from engine.corpus import FileEntry
from engine.embedded import Embedded
from engine.evaluation.places import workspaces
from engine.evaluation.report import Report
from engine.evaluation.workspace import WAYS, compare

LINES = "".join(
    f"def shape_{letter}(width, height):\n    return area_of(width, height, {letter})\n\n\n" for letter in "abc"
)
COUNT = 12


def a_corpus(folder: Path, names: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "corpus.bin").write_bytes(len(names) * LINES.encode())
    np.save(folder / "index.npy", len(LINES) * np.arange(len(names) + 1))
    entries = [FileEntry("p", f"p/{name}/x.py", len(LINES), "python") for name in names]
    (folder / "files.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, entries)))


def test_files_that_a_model_was_tuned_to_are_in_the_index_too(small: Embedded, tmp_path: Path) -> None:
    a_corpus(tmp_path, "a")
    a_corpus(tmp_path / "validation", "b")
    found = compare(Engine(small), tmp_path / "validation", COUNT, "python")
    assert found["index"].exact > found["the file"].exact
    [work] = workspaces(tmp_path / "validation", lines=2, seed=1)
    assert [*work.files] == ["p/b/x.py", "p/a/x.py"]
    assert {place.path for place in work.places} == {"p/b/x.py"}


def test_the_index_knows_the_other_files(small: Embedded, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_corpus(tmp_path, "ab")
    found = compare(Engine(small), tmp_path, COUNT, "python")
    assert [*found] == [*WAYS]
    assert found["index"].exact > found["the file"].exact >= found["nothing"].exact
    assert found["open files"].exact_by_start == found["the file"].exact_by_start  # none is in the same folder
    Report(found).print(as_json=True)
    assert json.loads(capsys.readouterr().out)["index"]["places"] == COUNT
    Report(found).print()
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["places", "exact"]
    assert first.startswith("nothing")
