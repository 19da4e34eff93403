"""The weights of a model as they are multiplied: made once, in the user's cache folder, and mapped from then on, for
that takes seconds on slow machines, and memory.

A shipped model's are unpacked. A model that was tuned to a workspace is a change of another's: theirs are added up. A
copy is named by the SHA-256 of what it is made of, so that a new version makes its own and removes those before it. It
is written aside and moved at the end. Where it cannot be, weights are made in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from engine import checksums, stored
from engine.contract import EngineError
from engine.get import ADAPTER, STORED, WEIGHTS, Change, models_folder
from engine.stored import Matrix, Weights, quantise


def read(folder: Path, grown_from: str = "") -> Weights:
    """All weights of a model by name, as they are multiplied. Raises EngineError where they are missing or damaged."""
    origin = origin_of(grown_from) if grown_from else folder
    is_shipped = origin.parent == WEIGHTS and STORED in checksums.read(origin)
    if not (grown_from or is_shipped):  # a fetched model's are stored as they are multiplied
        checksums.check(folder, [STORED])
        return stored.read(folder / STORED, wide=True)
    with contextlib.suppress(EngineError, OSError):
        return _read_copy(folder, origin, copies() / _name(folder, origin))
    return dict(_made(folder, origin))


def origin_of(name: str) -> Path:
    """The folder of a model that another is a change of. Raises EngineError where it is not there."""
    for folder in (WEIGHTS / name, models_folder() / name, Path(name)):
        if (folder / STORED).is_file():
            return folder
    raise EngineError(f"{name}, which the model is a change of, is not on this machine: `python -m engine get` tells")


def copies() -> Path:
    """Where all copies of this user are."""
    return platformdirs.user_cache_path("inpaint", appauthor=False) / "weights"


def _name(folder: Path, origin: Path) -> str:
    """What the model is, and what its weights are made of."""
    sums, name = checksums.read(origin).get(STORED, ""), folder.name
    if folder != origin:
        sums += checksums.read(folder).get(ADAPTER, "")
        name += f"-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"
    return f"{name}.{hashlib.sha256(sums.encode()).hexdigest()[:16]}"


def _read_copy(folder: Path, origin: Path, copy: Path) -> Weights:
    """Raises EngineError or OSError where there is none that is sound, and none can be made."""
    if not _is_sound(copy):
        _make(folder, origin, copy)
    return stored.read(copy / STORED)


def _is_sound(copy: Path) -> bool:
    try:
        checksums.check(copy, [STORED])
    except EngineError:
        return False
    return copy.exists()


def _make(folder: Path, origin: Path, copy: Path) -> None:
    """Raises EngineError where the weights are damaged, and OSError; then nothing is left."""
    weights = _made(folder, origin)
    first = next(weights)  # by then what it is made of was checked
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    model = copy.name.partition(".")[0]
    aside = Path(tempfile.mkdtemp(prefix=f"{model}.", dir=copy.parent))
    try:
        stored.write_each(aside / STORED, itertools.chain([first], weights), stored.about(origin / STORED))
        checksums.write(aside)
        shutil.rmtree(copy, ignore_errors=True)  # it is damaged, if it is there
        aside.replace(copy)
    finally:
        for other in copy.parent.glob(f"{model}.*"):  # older ones, and what was left by one that was ended
            if other != copy:
                shutil.rmtree(other, ignore_errors=True)


def _made(folder: Path, origin: Path) -> Iterator[tuple[str, Matrix | NDArray[np.float32]]]:
    """Raises EngineError where something is missing or damaged."""
    checksums.check(origin, [STORED])
    if folder == origin:
        yield from stored.each(origin / STORED, wide=True)
        return
    checksums.check(folder, [ADAPTER])
    change = Change.load(folder / ADAPTER)
    for name, weight in stored.each(origin / STORED):
        yield name, changed(name, weight, change) if isinstance(weight, Matrix) else weight


def changed(name: str, weight: Matrix, change: Change) -> Matrix:
    """A matrix with what was learned, laid out as the graph of its model has it."""
    columns, wide = weight.numbers.shape[1], weight.wide()
    whole = weight.floats()
    whole = change.embedding(whole) if name == "embed.weight" else change.of(name, whole)
    return quantise(np.pad(whole, ((0, 0), (0, wide.numbers.shape[1] - columns))), 8, wide.block)
