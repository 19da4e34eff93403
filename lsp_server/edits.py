"""What the user has just changed: lines of a document as they were and as they are, for a change is often made again at
the next place that is alike. Lines that were blank are new and no change; an edit of several lines ends one.
"""

from __future__ import annotations

import itertools
from collections import deque

import msgspec

from engine.contract import Edit

MOST = 20  # lines that are remembered of a document
LONGEST = 400  # characters of one


class Changed(msgspec.Struct):
    """A line as it was, and as it is."""

    old: str
    new: str


class Edits:
    """Those of one document."""

    def __init__(self) -> None:
        self._changed = deque[Changed](maxlen=MOST)
        self._line = -1  # the one that is being changed
        self._counts = False  # whether it is remembered

    def note(self, line: int, old: str, new: str) -> None:
        """An edit within a line."""
        if line != self._line:
            self._line, self._counts = line, bool(old.strip()) and len(old) <= LONGEST
            if self._counts:
                self._changed.append(Changed(old, new))
        elif self._counts:
            self._changed[-1].new = new[:LONGEST]

    def pause(self) -> None:
        """Lines have other numbers now."""
        self._line = -1

    def made(self, but: str = "") -> list[Edit]:
        """What was put in, the latest first; not into the line that reads `but` now."""
        edits = [edit(each) for each in reversed(self._changed) if each.new != but]
        return [each for each in edits if each.text]


def edit(changed: Changed) -> Edit:
    """What was put between what is as before."""
    old, new = changed.old, changed.new
    start = common(old, new)
    end = common(old[start:][::-1], new[start:][::-1])
    return Edit(new[:start], new[start : len(new) - end], new[len(new) - end :])


def common(one: str, other: str) -> int:
    """The length of what two texts begin with."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
