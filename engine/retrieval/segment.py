"""The texts of some files, and the places in them sorted by what stands before: a suffix array of the texts backwards.

What ends like the text before the cursor is then a neighbour of it in the order, found by halving; the nearer, the
longer the common end. Only ends of words and signs are places, a third of all characters, so that an index takes 2.4
bytes a byte of text: for a cursor inside a word, the places before the word are looked at, and how they go on.

The arrays are mapped from files, so memory holds what look-ups touch, and two servers share it.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LONGEST = 64  # bytes of a match
AHEAD = 400  # bytes that are read after a place
MARGIN = max(LONGEST, AHEAD)
CHUNK = 1 << 20  # places that are looked at at once
NEAREST, MORE = 48, 1024  # places that are looked at; where none of the first goes on as the word does, more

Bytes = NDArray[np.uint8]

_WORD = np.zeros(256, bool)
_WORD[[c for c in range(256) if chr(c).isalnum() or c == ord("_") or c >= 128]] = True
_BLANK = np.zeros(256, bool)
_BLANK[list(b" \t\n")] = True


class SegmentMatch(NamedTuple):
    """Bytes in common before the place, and the place."""

    length: int
    place: int


class Segment:
    """`backwards` is \\0 … text \\0 text … \\0 with each text from its end to its beginning; `places` are indices into
    it: what stands before a place begins there, what follows ends there. `starts` are the texts' first indices,
    ascending, one a file.
    """

    def __init__(
        self, backwards: Bytes, places: NDArray[np.int32], starts: NDArray[np.int64], files: list[str]
    ) -> None:
        self.files = files
        self._backwards, self._places, self._starts = backwards, places, starts
        self._bytes, self._order = backwards.data, places.data.cast("B").cast("i")  # indexed faster than arrays

    @classmethod
    def of(cls, texts: dict[str, bytes]) -> Segment:
        """Sort the texts of files; seconds for tens of megabytes, in native code. Takes six bytes of memory a byte."""
        from pydivsufsort import divsufsort  # here, for look-ups do without

        sizes = np.array([len(text) + 1 for text in reversed(texts.values())], np.int64)
        ends = MARGIN + np.cumsum(sizes, dtype=np.int64)
        backwards = np.zeros(2 * MARGIN + max(0, int(sizes.sum()) - 1), np.uint8)
        for text, end in zip(reversed(texts.values()), ends.tolist(), strict=True):
            backwards[end - 1 - len(text) : end - 1] = np.frombuffer(text, np.uint8)[::-1]
        return cls(backwards, _asked(divsufsort(backwards), backwards), ends - sizes, list(reversed(texts)))

    def save(self, path: Path) -> None:
        """Writes PATH.text.npy and PATH.places.npy, whoever else does at the same time. Raises OSError."""
        for name, part in (("text", self._backwards), ("places", self._places)):
            with (
                ExitStack() as failed,
                NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", delete=False) as file,
            ):
                failed.callback(os.unlink, file.name)  # on a full disk it would lie in the way
                np.save(file, part)
                file.flush()
                failed.pop_all()
            os.replace(file.name, path.with_name(f"{path.name}.{name}.npy"))

    @classmethod
    def open(cls, path: Path, starts: list[int], files: list[str]) -> Segment:
        """Map what `save` wrote. Raises OSError or ValueError where it is not there or damaged."""
        paths = (path.with_name(f"{path.name}.{name}.npy") for name in ("text", "places"))
        text, places = (np.lib.format.open_memmap(path, mode="r") for path in paths)
        if text.dtype != np.uint8 or places.dtype != np.int32 or text.ndim != 1 or places.ndim != 1:
            raise ValueError("not a segment's arrays")
        return cls(text, places, np.array(starts, np.int64), files)

    @property
    def starts(self) -> list[int]:
        return [int(start) for start in self._starts]

    def matches(self, written: bytes, most: int) -> list[SegmentMatch]:
        """Places before which stands an end of `written`, the longest first; of equal ones in no order."""
        word = len(written)
        while word and _WORD[written[word - 1]]:
            word -= 1
        sought, partial = written[max(0, word - LONGEST) : word][::-1], written[word:]
        if not sought:
            return []
        at = bisect_left(self._order, sought, key=lambda place: bytes(self._bytes[place : place + LONGEST]))
        for reach in (NEAREST, MORE) if partial else (NEAREST,):
            places = self._places[max(0, at - reach) : at + reach].astype(np.int64)
            places = places[(places >= MARGIN) & (places <= len(self._backwards) - MARGIN)]  # all, unless damaged
            for offset, byte in enumerate(partial, 1):
                places = places[self._backwards[places - offset] == byte]
            if len(places):
                break
        before = self._backwards[places[:, None] + np.arange(len(sought))] == np.frombuffer(sought, np.uint8)
        lengths = np.logical_and.accumulate(before, axis=1).sum(axis=1)
        best = np.argsort(-lengths, kind="stable")[:most]
        found = zip(lengths[best].tolist(), places[best].tolist(), strict=True)
        return [SegmentMatch(length + len(partial), place - len(partial)) for length, place in found if length]

    def after(self, place: int, most: int = AHEAD) -> bytes:
        """What follows a place in its file."""
        return bytes(self._bytes[max(0, place - most) : place])[::-1].partition(b"\0")[0]

    def before(self, place: int, most: int) -> bytes:
        """What stands before a place in its file."""
        return bytes(self._bytes[place : place + most]).partition(b"\0")[0][::-1]

    def file(self, place: int) -> str:
        return self.files[int(np.searchsorted(self._starts, place, side="right")) - 1]

    def line(self, place: int) -> int:
        """The line of a place in its file, from 1."""
        number = int(np.searchsorted(self._starts, place, side="right"))
        end = int(self._starts[number]) if number < len(self._starts) else len(self._backwards)
        return 1 + int(np.count_nonzero(self._backwards[place:end] == ord("\n")))


def _asked(order: NDArray[np.int32], backwards: Bytes) -> NDArray[np.int32]:
    """Of the sorted places those where the cursor may be when it is not inside a word or a run of blanks; in place."""
    kept = 0
    for start in range(0, len(order), CHUNK):
        places = order[start : start + CHUNK]
        places = places[(places >= MARGIN) & (places < len(backwards) - MARGIN)]
        before, after = backwards[places], backwards[places - 1]
        within = (_WORD[before] & _WORD[after]) | (_BLANK[before] & _BLANK[after])
        places = places[~within & (before != 0)]
        order[kept : kept + len(places)] = places
        kept += len(places)
    return order[:kept]
