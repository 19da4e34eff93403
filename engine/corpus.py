"""Reads what `train corpus` wrote: source files one after the other, mapped into memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.languages import LANGUAGES


class FileEntry(msgspec.Struct):
    package: str
    path: str
    bytes: int
    language: str = "python"


def beside(folder: Path, packages: Container[str]) -> dict[str, dict[str, str]]:
    """By package and path, the texts that a corpus has to learn from of packages of which others are held out.

    That is none where whole packages are held out.
    """
    try:
        corpus = Corpus(folder)
    except OSError:
        return {}
    texts = defaultdict[str, dict[str, str]](dict)
    for number, file in enumerate(corpus.files):
        if file.package in packages:
            texts[file.package][file.path] = corpus.text(number)
    return dict(texts)


class Corpus:
    """Memory-mapped text, offsets, names. Raises OSError where the folder holds none."""

    def __init__(self, folder: Path) -> None:
        text = folder / "corpus.bin"
        if text.stat().st_size == 0:  # as of a list of packages of which all are held out
            raise FileNotFoundError(f"{folder} holds no files")
        self._bytes = np.memmap(text, dtype=np.uint8, mode="r")
        self.offsets: NDArray[np.int64] = np.load(folder / "index.npy")
        lines = (folder / "files.jsonl").read_bytes().splitlines()
        self.files = [msgspec.json.decode(line, type=FileEntry) for line in lines]
        self.languages = {file.language for file in self.files}
        self.bytes = int(self.offsets[-1])

    def __len__(self) -> int:
        return len(self.files)

    def weights(self, by_language: bool = True) -> NDArray[np.float64]:
        """How likely training draws each file (files,): by its bytes alone, or such that a language in all has its
        share. A language of which the corpus has nothing leaves its share to the others.
        """
        sizes: NDArray[np.float64] = np.diff(self.offsets).astype(np.float64)
        languages = np.array([file.language for file in self.files])
        for name, language in LANGUAGES.items() if by_language else ():
            its = languages == name
            sizes[its] *= language.share / max(1.0, sizes[its].sum())
        sizes /= sizes.sum()
        return sizes

    def text(self, number: int) -> str:
        start, end = self.offsets[number : number + 2]
        return self._bytes[start:end].tobytes().decode()
