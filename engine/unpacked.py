"""The weights of a shipped model as they are multiplied: unpacked once into the user's cache folder, and mapped from
then on, for unpacking takes seconds on slow machines, and memory.

A copy is named by the SHA-256 of what it is made of, so that a new version makes its own and removes those before it.
It is written aside and moved at the end. Where it cannot be, weights are unpacked in memory.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import platformdirs

from engine import checksums, stored
from engine.contract import EngineError
from engine.get import STORED, WEIGHTS
from engine.stored import Weights


def read(folder: Path) -> Weights:
    """All weights of a model by name, as they are multiplied. Raises EngineError where they are missing or damaged."""
    made_of = checksums.read(folder).get(STORED) if folder.parent == WEIGHTS else None
    if made_of is not None:
        with contextlib.suppress(EngineError, OSError):
            return _read_copy(folder, copies() / f"{folder.name}-{made_of[:16]}")
    checksums.check(folder, [STORED])
    return stored.read(folder / STORED, wide=True)


def copies() -> Path:
    """Where all copies of this user are."""
    return platformdirs.user_cache_path("inpaint", appauthor=False) / "weights"


def _read_copy(folder: Path, copy: Path) -> Weights:
    """Raises EngineError or OSError where there is none that is sound, and none can be made."""
    if not _is_sound(copy):
        _make(folder, copy)
    return stored.read(copy / STORED)


def _is_sound(copy: Path) -> bool:
    try:
        checksums.check(copy, [STORED])
    except EngineError:
        return False
    return copy.exists()


def _make(folder: Path, copy: Path) -> None:
    """Raises EngineError where the weights are damaged, and OSError; then nothing is left."""
    checksums.check(folder, [STORED])
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=copy.parent))
    try:
        weights = stored.each(folder / STORED, wide=True)
        stored.write_each(aside / STORED, weights, stored.about(folder / STORED))
        checksums.write(aside)
        shutil.rmtree(copy, ignore_errors=True)  # it is damaged, if it is there
        aside.replace(copy)
    finally:
        for other in copy.parent.glob(f"{folder.name}-*"):  # older ones, and what was left by one that was ended
            if other != copy:
                shutil.rmtree(other, ignore_errors=True)
