"""SHA-256 sums beside a model's files, as `sha256sum` writes them: a flipped bit is a sentence and not another
text. A folder without sums is not checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from engine.contract import EngineError

SUMS = "SHA256SUMS"
PIECE = 1 << 20  # bytes
READ_BY_PEOPLE = ("README.md", "packages.tsv")


def write(folder: Path) -> None:
    """Write the sums of the model's files, which are all in the folder but the card and its table."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in (SUMS, *READ_BY_PEOPLE))
    (folder / SUMS).write_text("".join(f"{digest(path)}  {path.name}\n" for path in files), "utf-8")


def read(folder: Path) -> dict[str, str]:
    """The sums by the names of files. Raises EngineError where there are some that cannot be read."""
    try:
        lines = (folder / SUMS).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{folder / SUMS} cannot be read ({error}); install the model again") from None
    return {name: found for found, _, name in (line.partition("  ") for line in lines)}


def check(folder: Path, names: Iterable[str]) -> None:
    """Raises EngineError where a file is not what its sum says, or is missing; one without a sum is not checked."""
    sums = read(folder)
    for name in names:
        try:
            damaged = name in sums and digest(folder / name) != sums[name]
        except OSError as error:
            raise EngineError(f"{folder / name} cannot be read ({error.strerror}); install the model again") from None
        if damaged:
            raise EngineError(f"{folder / name} is damaged, its SHA-256 is another; install the model again")


def digest(path: Path) -> str:
    """A piece at a time, for some are larger than the memory that is left."""
    sum_ = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            sum_.update(piece)
    return sum_.hexdigest()
