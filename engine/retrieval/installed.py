"""The installed packages that a file imports, and where they are.

Call signatures of libraries are what people look up. Only what is imported is read, and a bounded part of each.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.retrieval.files import IndexLimits

MOST, LARGEST = 16, IndexLimits(files=2_000, bytes=8 << 20)  # packages, and of one
LOOKED_UP, LONGEST = 500, 100  # modules of a text, and characters of a module's name
ENVIRONMENTS = (".venv", "venv", "env")  # folders of a workspace
PACKAGES = ("lib/python3*/site-packages", "lib/python3*/dist-packages", "Lib/site-packages")  # the second is Debian's
IMPORT = re.compile(r"^[ \t]*import[ \t]+([^\n#;]+)", re.MULTILINE)
FROM = re.compile(r"^[ \t]*from[ \t]+(\w[\w.]*)[ \t]+import[ \t]*(\([^)]{0,4000}\)|[^\n#;]*)", re.MULTILINE)


def imported(text: str, environment: Path) -> list[str]:
    """Paths of the packages and the modules of a single file that a text imports, as far as the environment has them.

    A package is the whole of it, whichever module is imported; below namespaces, which many share, it is the first that
    is none.
    """
    modules = itertools.islice(dict.fromkeys(_modules(text)), LOOKED_UP)
    homes = (_home(environment, module) for module in modules)
    return [*dict.fromkeys(str(home) for home in homes if home is not None)]


def site_packages(python: str, folders: Sequence[str]) -> Path | None:
    """Where the packages of an interpreter are, or of an environment's folder; a relative path is one of the folders'.
    Without one, of the environment that the server was started in or of the first in the folders.
    """
    if python:
        chosen = (Path(folder) / Path(python).expanduser() for folder in (*folders, ""))
        there = [each for each in chosen if os.path.lexists(each)]
        places = [place for each in there for place in (each, each.parent.parent, each.parent)]
    else:
        active = [os.environ[name] for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if name in os.environ]
        places = [Path(place) for place in active]
        places += [Path(folder) / name for folder in folders for name in ENVIRONMENTS]
    found = (each for place in places for form in PACKAGES for each in sorted(place.glob(form), reverse=True))
    return next((each for each in found if each.is_dir()), None)


def _modules(text: str) -> Iterator[str]:
    """Dotted names, those of `from a import b` as `a.b`, for it may be a module."""
    for names in IMPORT.findall(text):
        yield from _names(names)
    for module, names in FROM.findall(text):
        for name in _names(names.strip("()")):
            yield f"{module}.{name}"


def _names(listed: str) -> Iterator[str]:
    """Of `a as b, c.d`, a and c.d."""
    for name in listed.split(","):
        if words := name.split():
            yield words[0]


def _home(environment: Path, module: str) -> Path | None:
    folder = environment
    for name in module.split("."):
        if not name.isidentifier() or len(name) > LONGEST:
            return None
        file, folder = folder / f"{name}.py", folder / name
        if (folder / "__init__.py").is_file():
            return folder
        if file.is_file():
            return file
        if not folder.is_dir():
            return None
    return folder
