"""What the user has just changed: lines of a document as they were and as they are, for a change is often made again at
the next place that is alike. Lines that were blank are new and no change; an edit of several lines ends one.

Each knows its line, which moves with those above it, and when it was begun, among those of all documents.
"""

from __future__ import annotations

import itertools
import time
from collections import deque

import msgspec

from engine.contract import Edit
from engine.next_edit.substitution import common

MOST = 20  # lines that are remembered of a document
LONGEST = 400  # characters of one
BY_HAND = 3  # lines that are changed at once; who changes more formats, renames or pastes
GONE = -1  # the line of a change whose line is no more


class LineChange(msgspec.Struct):
    """A line as it was, and as it is; `number` grows from change to change, and is 0 for one not made by hand."""

    old: str
    new: str
    line: int = GONE
    number: int = 0


numbers = itertools.count(1)


class EditHistory:
    """Those of one document."""

    def __init__(self) -> None:
        self._changed = deque[LineChange](maxlen=MOST)
        self._line = GONE  # the one that is being changed
        self._counts = False  # whether it is remembered
        self.touched = 0.0  # when, by time.monotonic

    def note(self, line: int, old: str, new: str) -> None:
        """An edit within a line."""
        self.touched = time.monotonic()
        if line != self._line:
            self._line, self._counts = line, bool(old.strip()) and len(old) <= LONGEST
            if self._counts:
                self._changed.append(LineChange(old, new, line, next(numbers)))
        elif self._counts:
            self._changed[-1].new = new[:LONGEST]

    def move(self, first: int, last: int, more: int) -> None:
        """The text from line to line is another, and so many lines longer."""
        self._line = GONE
        for each in self._changed:
            if each.line > last:
                each.line += more
            elif each.line > first:
                each.line = GONE

    def end(self, since: int) -> None:
        """All changes of a moment are there, which began with that number."""
        new = [each for each in self._changed if each.number > since]
        for each in new if len(new) > BY_HAND else []:
            each.number = 0

    @property
    def latest(self) -> LineChange | None:
        """The change of the line that is being changed, or was last; None where other edits came after it."""
        return self._changed[-1] if self._line != GONE and self._counts else None

    def ours(self) -> list[LineChange]:
        """Those made by hand, oldest first."""
        return [each for each in self._changed if each.number]

    def made(self, but: str = "") -> list[Edit]:
        """What was put in, the latest first; not into the line that reads `but` now."""
        edits = [edit(each) for each in reversed(self._changed) if each.new != but]
        return [each for each in edits if each.text]


def edit(changed: LineChange) -> Edit:
    """What was put between what is as before."""
    old, new = changed.old, changed.new
    start = len(common(old, new))
    end = len(common(old[start:][::-1], new[start:][::-1]))
    return Edit(new[:start], new[start : len(new) - end], new[len(new) - end :])
