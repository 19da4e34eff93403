"""Which installed packages a text imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.retrieval.files import LARGEST_FILE, list_files
from engine.retrieval.installed import imported, site_packages

FILES = (
    "a/__init__.py",
    "a/b/c.py",
    "six.py",
    "space/one/__init__.py",
    "space/deep/two.py",
    "bare/thing.py",
    "both.py",
)


def touch(path: Path) -> str:
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return str(path)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    packages = tmp_path / ".venv" / "lib" / "python3.12" / "site-packages"
    for name in (*FILES, "both.py", "both/__init__.py"):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text("x = 1\n")
    touch(tmp_path / ".venv" / "bin" / "python")
    return packages


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os, a.b.c as c  # why", ["a"]),
        ("import a\nimport a.b.c\nfrom a.b import c", ["a"]),
        ("from a import (\n    b,\n    c as d,\n)", ["a"]),
        ("    import six; x = 1", ["six.py"]),
        ("from six import moves\nfrom six.moves import range", ["six.py"]),
        ("import both", ["both"]),
        ("import space.one, space.deep.two", ["space/one", "space/deep/two.py"]),
        ("from space import one\nfrom space.deep import two, missing", ["space/one", "space/deep/two.py"]),
        ("import bare", ["bare"]),
        ("from six import *", ["six.py"]),
        ("from . import a\nfrom .six import x\nimport ..a\nimport ,\nimport (\nfrom a import\nimport\n", []),
        ("import ../six, missing\n# import six\nx = 'from a'", []),
    ],
)
def test_what_a_text_imports(environment: Path, text: str, found: list[str]) -> None:
    assert [Path(path).relative_to(environment).as_posix() for path in imported(text, environment)] == found


def test_a_module_of_a_single_file_is_listed(environment: Path) -> None:
    (environment / "huge.py").write_bytes(b"x" * (LARGEST_FILE + 1))
    listing = list_files([str(environment / name) for name in ("six.py", "huge.py", "gone.py")])
    assert [Path(file.path).name for file in listing.files] == ["six.py"]
    assert listing.left_out["too large"] == 1


@pytest.mark.parametrize("python", ["", ".venv", ".venv/bin/python", "{}/.venv/bin/python", "{}/.venv"])
def test_the_environment_of_a_workspace(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    assert site_packages(python.format(tmp_path), ["/nowhere", str(tmp_path)]) == environment


def test_where_the_packages_of_an_interpreter_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site_packages("/nowhere/bin/python", []) is None
    debian, windows = tmp_path / "usr", tmp_path / "windows"
    (debian / "lib" / "python3" / "dist-packages").mkdir(parents=True)
    (windows / "Lib" / "site-packages").mkdir(parents=True)
    assert site_packages(touch(debian / "bin" / "python3"), []) == debian / "lib" / "python3" / "dist-packages"
    assert site_packages(touch(windows / "python.exe"), []) == windows / "Lib" / "site-packages"
    monkeypatch.setenv("VIRTUAL_ENV", str(debian))
    assert site_packages("", [str(windows)]) == debian / "lib" / "python3" / "dist-packages"
