"""What is never read: secrets by their names, the user's globs, and what an .inpaintignore names."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePath

import pytest

from engine.retrieval.exclusions import IGNORE_FILE, LARGEST, may_read


def test_no_glob_takes_a_secret_back() -> None:
    assert not may_read(PurePath(".env"), ("!*", "!.env"))


@pytest.mark.parametrize(
    ("glob", "path", "excluded"),
    [
        ("vendor/*", "/w/project/vendor/a.py", True),
        ("vendor/*", "/w/project/vendor/deep/a.py", True),
        ("Vendor/*", "/w/project/vendor/a.py", True),
        ("vendor/*", "vendor/a.py", True),
        ("vendor/*", "/w/project/vendored/a.py", False),
        ("*/vendored/*", "/x/vendored/a.py", True),
        ("/w/me/*", "/w/me/a.py", True),
        ("/w/me/*", "/x/w/me/a.py", False),
        ("docs/", "/w/docs/a.md", True),
        ("*.min.js", "/w/a.MIN.js", True),
        ("", "/w/a.py", False),
    ],
)
def test_globs(glob: str, path: str, excluded: bool) -> None:
    assert may_read(PurePath(path), (glob,)) is not excluded


def test_an_ignore_file_counts_for_its_folder_and_below_and_as_it_is_now(tmp_path: Path) -> None:
    inside = tmp_path / "project" / "src"
    inside.mkdir(parents=True)
    ignore = tmp_path / "project" / IGNORE_FILE
    assert may_read(inside / "a.py")
    ignore.write_text("# ours\n/src/*\n!/src/Kept.py\n")
    assert not may_read(inside / "a.py")
    assert not may_read(inside / "A.py")
    assert may_read(inside / "kept.py")
    assert may_read(tmp_path / "project" / "b.py")
    assert may_read(tmp_path / "src" / "a.py")
    (inside / IGNORE_FILE).write_text("!*\n")  # takes nothing back of the one above
    assert not may_read(inside / "a.py")
    ignore.unlink()
    assert may_read(inside / "a.py")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\\\n", b"#" * (LARGEST + 1)])
def test_an_ignore_file_that_cannot_be_read_excludes_its_folder(content: bytes, tmp_path: Path) -> None:
    (tmp_path / IGNORE_FILE).write_bytes(content)
    assert not may_read(tmp_path / "a.py")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_an_ignore_file_that_never_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / IGNORE_FILE)
    assert not may_read(tmp_path / "a.py")


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY=1\n")
    (tmp_path / "notes.txt").symlink_to(tmp_path / ".env")
    assert not may_read(tmp_path / "notes.txt")
