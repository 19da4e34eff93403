"""What the workspace brings: a package whose files repeat each other, at its own cursors."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine import Engine
from engine.corpus import FileEntry
from engine.evaluation.workspace import WAYS, compare, print_report

LINES = "".join(
    f"def shape_{letter}(width, height):\n    return area_of(width, height, {letter})\n\n\n" for letter in "abc"
)
COUNT = 12


def test_the_index_knows_the_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "corpus.bin").write_bytes(2 * LINES.encode())
    np.save(tmp_path / "index.npy", np.array([0, len(LINES), 2 * len(LINES)]))
    entries = [FileEntry("p", f"p/{name}/x.py", len(LINES), "python") for name in "ab"]
    (tmp_path / "files.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, entries)))
    report = compare(Engine.load("nano"), tmp_path, COUNT, "python")
    assert [*report.exact] == [*report.fill] == [*WAYS]
    assert report.exact["index"]["all"] > report.exact["the file"]["all"] >= report.exact["nothing"]["all"]
    assert report.exact["open files"] == report.exact["the file"]  # there is none in the same folder
    print_report(report, as_json=True)
    assert json.loads(capsys.readouterr().out)["places"] == COUNT
    print_report(report, as_json=False)
    assert capsys.readouterr().out.startswith(f"{COUNT} places")
