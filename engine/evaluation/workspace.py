"""What the workspace brings: the same cursors with nothing to copy from, the file, open files, the index, and snippets
of it that the model is shown, if it has learned to see some.

Each reserved package is a workspace, indexed as a user's is. The file under test is known without the line at the
cursor, as the other ways know it: what the index has of it is hidden, as that of any open file. Open files are the
first six others of its folder.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine import Engine, FillRequest
from engine.corpus import Corpus, beside
from engine.evaluation.lines import Hit, Quality, hit, quality
from engine.evaluation.places import cursors, write
from engine.retrieval.build import IndexOrder, build
from engine.retrieval.files import read_text
from engine.retrieval.index import Index

OPEN, BEGINNING = 6, 60_000  # files, characters of each
WAYS = ("nothing", "the file", "open files", "index", "index and snippets")


def compare(engine: Engine, folder: Path, count: int, language: str) -> dict[str, Quality]:
    """How it fills in each of WAYS. Raises EngineError as `cursors` does."""
    hits = defaultdict[str, list[Hit]](list)
    with tempfile.TemporaryDirectory() as root:
        files, indexes = _indexed(folder, Path(root))
        for place in cursors(folder, count, language=language):
            package, path = files[place.path]
            for way, request in _ways(place.request, path, indexes[package]):
                hits[way].append(hit(engine, place, request))
    return {way: quality(hits[way]) for way in WAYS}


def _indexed(folder: Path, root: Path) -> tuple[dict[str, tuple[str, str]], dict[str, Index]]:
    """Package and absolute path of each file by its path in the corpus; the index of each package."""
    corpus, files = Corpus(folder), dict[str, tuple[str, str]]()
    texts = beside(folder.parent, {file.package for file in corpus.files})
    for number, file in enumerate(corpus.files):
        texts.setdefault(file.package, {})[file.path] = corpus.text(number)
        files[file.path] = (file.package, (root / file.package / file.path).as_posix())
    for package, its in texts.items():
        write(its, root / package)
    indexes = {}
    for package in {package for package, _ in files.values()}:
        store = root / "indexes" / package
        build(IndexOrder([str(root / package)], str(store)))
        indexes[package] = Index.open(store)
    return files, indexes


def _ways(request: FillRequest, path: str, index: Index) -> Iterator[tuple[str, FillRequest]]:
    known, texts = opened_with(Path(path))
    yield "nothing", msgspec.structs.replace(request, copies=False)
    yield "the file", request
    yield "open files", msgspec.structs.replace(request, files=known, related=texts)
    indexed = msgspec.structs.replace(request, files=known, related=texts, indexes=(index,))
    yield "index", msgspec.structs.replace(indexed, snippets=False)
    yield "index and snippets", indexed


def opened_with(file: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths of a file and of the ones of its folder that are open too, and the texts of these."""
    others = sorted(other for other in file.parent.glob(f"*{file.suffix}") if other != file)[:OPEN]
    texts = tuple((read_text(str(other)) or "")[:BEGINNING] for other in others)
    return (file.as_posix(), *(other.as_posix() for other in others)), texts
