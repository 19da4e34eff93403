"""`--try`: the completion in its place in a terminal, by the shipped model, and what is said of a bad place."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import engine
from engine.contract import Progress
from lsp_server.__main__ import main
from lsp_server.cursor import CursorContext
from lsp_server.try_cli import GREY, PLAIN, canvas_line, read_place, render

WEIGHTS = Path(engine.__file__).parent / "weights" / "small"
SOURCE = 'import os\n\n\ndef names(folder):\n    """The names in a folder."""\n    return sorted(os.listdir())\n'


def try_at(where: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lsp_server", "--try", where, *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)


def test_the_completion_stands_in_its_place(tmp_path: Path) -> None:
    file = tmp_path / "names.py"
    file.write_text(SOURCE)
    result = try_at(f"{file}:6:30")
    assert (result.returncode, result.stderr) == (0, "")
    *drawn, _, numbers = result.stdout.splitlines()
    plain = re.sub(r"\{\+.*?\+\}", "", "\n".join(drawn), flags=re.DOTALL)
    assert [row[8:] for row in plain.splitlines() if row[:5].strip()] == SOURCE.split("\n")
    assert re.search(r"\d+ ms, \d+ passes, \d+ tokens, confidence [01]\.\d\d, \w+$", numbers)


def test_passes_are_shown_to_who_watches(tmp_path: Path) -> None:
    file = tmp_path / "names.py"
    file.write_text(SOURCE)
    shown = try_at(f"{file}:6:30", "--watch").stdout.splitlines()
    passes = int(re.search(r"(\d+) passes", shown[-1])[1])  # type: ignore[index]
    assert len(shown) - len(try_at(f"{file}:6:30").stdout.splitlines()) >= passes - 1


def test_a_canvas_is_shown_behind_what_is_verified() -> None:
    assert canvas_line(Progress("os.", canvas=("path", None))) == "os.[path▒]"
    assert canvas_line(Progress("a\nb")) == "a⏎b"


def test_it_says_where_a_completion_was_copied_from(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    area = tmp_path / "area.py"
    area.write_text("def area(width, height):\n    return width * height * factor_of_all\n")
    file = tmp_path / "volume.py"
    file.write_text("def volume(width, height):\n    return width * height * ")
    result = try_at(f"{file}:2:99")
    assert "factor_of_all" in result.stdout
    assert result.stdout.rstrip().endswith(f"as in {area.as_posix()}:2")


def test_the_ghost_text_of_the_drawing() -> None:
    gap = CursorContext("one\nif x:\n    ", "  # here\ntwo\n")
    assert render(gap, "a()\n    b()", 3, PLAIN) == [
        "    1 | one",
        "    2 | if x:",
        "    3 |     {+a()",
        "      |     b()+}  # here",
        "    4 | two",
        "    5 | ",
    ]
    assert render(gap, "a()\n    b()", 3, GREY)[2:4] == [
        "    3 |     \033[90ma()\033[0m",
        "      | \033[90m    b()\033[0m  # here",
    ]
    assert render(gap, "", 3, GREY)[2] == "    3 |       # here"


def test_a_place_past_the_end_is_clamped(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_bytes("x = 'é😀'\r\ny".encode())
    assert read_place(f"{file}:1:6")[2] == (0, 5)
    assert read_place(f"{file}:1:8")[2] == (0, 7)
    assert read_place(f"{file}:1:99")[2] == (0, 8)
    assert read_place(f"{file}:99:1")[2] == (1, 1)
    assert read_place(f"{file}:0:0")[2] == (0, 0)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    result = try_at(f"{tmp_path / 'a.py'}:1:1")
    assert (result.returncode, result.stderr) == (0, "")


def is_refused(said: pytest.CaptureFixture[str], because: str, where: str, *arguments: str) -> None:
    assert main(["--try", where, *arguments]) == 2
    output, errors = said.readouterr()
    assert output == ""
    assert because in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("where", ["a.py", "a.py:1", "a.py:x:1", "a.py:1:", ":::", ""])
def test_what_is_no_place(where: str, capfd: pytest.CaptureFixture[str]) -> None:
    is_refused(capfd, "FILE:LINE:COLUMN", where)


@pytest.mark.parametrize("name", ["missing.py", "C:\\code\\missing.py", "."])
def test_a_file_that_cannot_be_read_is_named(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    is_refused(capfd, f'"{name}"', f"{name}:1:1")


def test_a_binary_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.pyc").write_bytes(bytes(range(256)))
    is_refused(capfd, "binary", f"{tmp_path / 'a.pyc'}:1:1")


def test_a_missing_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text("x = ")
    is_refused(capfd, "nowhere", f"{tmp_path / 'a.py'}:1:5", "--model", str(tmp_path / "nowhere"))


def test_a_truncated_model(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = ")
    shutil.copytree(WEIGHTS, tmp_path / "small")
    for file in (tmp_path / "small").glob("*.onnx"):
        file.write_bytes(file.read_bytes()[:1000])
    result = try_at(f"{tmp_path / 'a.py'}:1:5", "--model", str(tmp_path / "small"))
    assert (result.returncode, result.stdout) == (2, "")
    assert "small" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(tmp_path: Path, device: str, capfd: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    if getattr(torch, device if device == "cuda" else "mps").is_available():
        pytest.skip(f"this machine has {device}")
    (tmp_path / "a.py").write_text("x = ")
    is_refused(capfd, device, f"{tmp_path / 'a.py'}:1:5", "--device", device)


def test_a_terminal_does_not_obey_the_file() -> None:
    gap = CursorContext("\x1b]0;title\x07one\nif\u202e x:\n    ", "  # \x1b[2Jhere\ntwo\x08\n")
    assert render(gap, "a()", 3, PLAIN) == [
        "    1 | one",
        "    2 | if x:",
        "    3 |     {+a()+}  # here",
        "    4 | two",
        "    5 | ",
    ]
