"""Which files of a folder may be read."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.retrieval.files import DEFAULT, LARGEST_FILE, IndexLimits, list_files, read_text


def write(folder: Path, **files: str) -> None:
    """Files by name, `__` for a slash and `_dot_` for a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(folder: Path, globs: tuple[str, ...] = (), limits: IndexLimits = DEFAULT) -> list[str]:
    found = list_files([str(folder)], globs, limits).files
    return sorted(Path(file.path).relative_to(folder).as_posix() for file in found)


def test_the_nearest_rule_decides(tmp_path: Path) -> None:
    write(
        tmp_path,
        _dot_gitignore="*.txt\n/build\n",
        a__b_dot_txt="",
        a__keep_dot_txt="",
        a__c_dot_py="",
        build__d_dot_py="",
    )
    write(tmp_path, a__build__e_dot_py="", a___dot_gitignore="!keep.txt\n")
    assert names(tmp_path) == ["a/build/e.py", "a/c.py", "a/keep.txt"]


def test_inpaintignore_adds_to_it(tmp_path: Path) -> None:
    write(tmp_path, _dot_gitignore="made.py\n", _dot_inpaintignore="!made.py\nprivate/\n")
    write(tmp_path, made_dot_py="", private__a_dot_py="", b_dot_py="")
    assert names(tmp_path) == ["b.py"]


def test_a_bad_rule_does_not_silence_the_others(tmp_path: Path) -> None:
    write(tmp_path, _dot_gitignore="!\n***[\n*.txt\n", a_dot_txt="", a_dot_py="")
    assert names(tmp_path) == ["a.py"]


def test_secrets_are_left_out_whatever_their_case(tmp_path: Path) -> None:
    write(tmp_path, Server_dot_PEM="", vendor__a_dot_py="", b_dot_py="", _dot_env="")
    listing = list_files([str(tmp_path)], ("vendor/*",))
    assert [Path(file.path).name for file in listing.files] == ["b.py"]
    assert listing.left_out == {"excluded": 2, "hidden": 1}


def test_environments_and_other_peoples_code(tmp_path: Path) -> None:
    write(tmp_path, my__pyvenv_dot_cfg="", my__a_dot_py="", node_modules__b_dot_js="", c_dot_py="")
    assert names(tmp_path) == ["c.py"]


@pytest.mark.skipif(os.name == "nt", reason="making links needs a privilege")
def test_links_in_a_circle_pipes_and_what_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path, a__b_dot_py="")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / "a" / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "a" / ".gitignore")  # nobody will ever write to it
    assert names(tmp_path) == ["a/b.py"]
    assert names(tmp_path / "nowhere") == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_a_name_that_is_no_utf8_is_counted(tmp_path: Path) -> None:
    write(tmp_path, a_dot_py="")
    (tmp_path / os.fsdecode(b"caf\xe9.py")).touch()
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    listing = list_files([str(tmp_path)])
    assert [Path(file.path).name for file in listing.files] == ["a.py"]
    assert listing.left_out == {"oddly named": 2}


def test_a_folder_that_may_not_be_read_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a__b_dot_py="", c_dot_py="")
    scandir = os.scandir

    def refused(folder: str) -> object:
        if folder.endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    listing = list_files([str(tmp_path)])
    assert [Path(file.path).name for file in listing.files] == ["c.py"]
    assert listing.left_out == {"unreadable": 1}


def test_no_more_than_the_limits_and_it_says_so(tmp_path: Path) -> None:
    write(tmp_path, **{f"{name}_dot_py": "x" * 10 for name in "abcd"}, deep__e_dot_py="x")
    (tmp_path / "large.py").write_bytes(b"x" * (LARGEST_FILE + 1))
    listing = list_files([str(tmp_path)], (), IndexLimits(files=2))
    assert len(listing.files) == 2
    assert listing.left_out == {"beyond the limit": 3, "too large": 1}
    assert names(tmp_path, limits=IndexLimits(bytes=25)) == ["a.py", "b.py", "deep/e.py"]


class Entry(NamedTuple):
    """Of a folder that is nowhere."""

    name: str
    mode: int

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        return os.stat_result((self.mode, *[0] * 9))


def test_of_a_hundred_thousand_files_those_nearest_to_the_top_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(folder: str) -> list[Entry]:
        if folder == "/nowhere":
            return [Entry(f"{number:03}", stat.S_IFDIR) for number in range(101)]
        deep = [Entry("deep", stat.S_IFDIR)] if folder == "/nowhere/000" else []
        return deep + [Entry(f"{number}.py", stat.S_IFREG) for number in range(990)]

    monkeypatch.setattr(os, "scandir", scandir)
    listing = list_files(["/nowhere"], (), IndexLimits(files=2_000))
    assert len(listing.files) == 2_000
    assert listing.left_out == {"beyond the limit": 102 * 990 - 2_000}
    assert {file.path.count("/") for file in listing.files} == {3}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a\r\nb\rc", "a\nb\nc"),
        (b"\xef\xbb\xbfa", "a"),
        ("é".encode("utf-16"), "é"),
        (b"caf\xe9", "caf\ufffd"),
        (b"caf\xc3", "caf\ufffd"),  # half-written
        (b"a\0b", None),
        (b"\xff\xfea", "\ufffd"),
        (b"x" * 500, None),
        (b"", ""),
    ],
)
def test_text_and_what_is_none(tmp_path: Path, content: bytes, text: str | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert read_text(str(path)) == text


def test_a_vanished_file_has_no_text(tmp_path: Path) -> None:
    assert read_text(str(tmp_path / "gone")) is None
