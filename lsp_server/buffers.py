"""Our own text buffer: incremental edits, and positions in utf-8, utf-16 or utf-32 units.

pygls' document joins and re-splits the whole text at every change, and splits lines at form feeds and U+2028 too, which
shifts every later position. Here a document is a list of lines with their ends, split at newline, carriage return or
both only, and an edit re-splits the lines it touches. Lone surrogates, which no encoder takes, become U+FFFD on the way
in: as long in every encoding, so positions stay right.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
CODECS = {"utf-8": "utf-8", "utf-16": "utf-16-le"}  # utf-32 positions are indices into a Python string
UNIT_BYTES = {"utf-8": 1, "utf-16": 2}
CHUNK = 64
BEGINNING = 60_000  # characters
FREED = 1 << 16  # lines at a time


class Point(NamedTuple):
    """A place in a buffer: index of the line, index into the line's string; both from 0."""

    line: int
    column: int


class Buffer:
    """The text of one document. Line and character of a client are clamped to the text."""

    def __init__(self, text: str = "", encoding: str = "utf-16") -> None:
        self.encoding = encoding
        self.lines = split_lines(text)  # with their ends; the last has none
        self._beginning: str | None = None

    def __len__(self) -> int:
        """The number of lines."""
        return len(self.lines)

    @property
    def beginning(self) -> str:
        """The first lines, some 60,000 characters; made again after an edit only."""
        if self._beginning is None:
            self._beginning = self.after(Point(0, 0), BEGINNING)
        return self._beginning

    @property
    def line_end(self) -> str:
        """What ends the first line: all lines of a well-formed document."""
        first = self.lines[0]
        return first[len(without_end(first)) :] or "\n"

    def point(self, line: int, character: int) -> Point:
        """Where a client's position is; the nearest place where there is no such position."""
        if line >= len(self):
            return Point(len(self) - 1, len(self.lines[-1]))
        content = without_end(self.lines[max(line, 0)])
        return Point(max(line, 0), column_of(content, max(character, 0), self.encoding))

    def character(self, place: Point) -> int:
        """The client's character of a place, in units of the negotiated encoding."""
        before = self.lines[place.line][: place.column]
        if before.isascii() or self.encoding == "utf-32":
            return len(before)
        return len(before.encode(CODECS[self.encoding])) // UNIT_BYTES[self.encoding]

    def edit(self, start: Point, end: Point, text: str) -> None:
        """Put `text` in the place of what stands between `start` and `end`."""
        self._beginning = None
        start, end = min(start, end), max(start, end)
        piece = self.lines[start.line][: start.column] + text + self.lines[end.line][end.column :]
        first, stop = start.line, end.line + 1
        if piece.startswith("\n") and first and self.lines[first - 1].endswith("\r"):
            first -= 1  # the two have become one line end
            piece = self.lines[first] + piece
        new = split_lines(piece)
        if stop < len(self) and not new[-1]:
            new.pop()
        self.lines[first:stop] = new

    def replace(self, pieces: Iterable[str]) -> Iterator[None]:
        """Start over with the text of all the pieces, which end at newlines but for the last; a piece a step, and then
        what was there goes in steps.
        """
        lines = list[str]()
        for piece in pieces:
            lines[-1:] = split_lines(piece)
            yield
        self._beginning = None
        old, self.lines = self.lines, lines
        while old:
            del old[-FREED:]
            yield

    def before(self, place: Point, limit: int) -> str:
        """The text before a place: at least `limit` characters where there are as many, at most three times that.

        It starts at a 64th line, and so mostly stays put while the user types.
        """
        line = place.line - place.line % CHUNK
        text = "".join(self.lines[line : place.line]) + self.lines[place.line][: place.column]
        while line and len(text) < limit:
            line -= CHUNK
            text = "".join(self.lines[line : line + CHUNK]) + text
        return unix(text[-3 * limit :])

    def after(self, place: Point, limit: int) -> str:
        """The text after a place, at most `limit` characters of it."""
        line = place.line + 1
        text = self.lines[place.line][place.column :]
        while line < len(self) and len(text) < limit:
            text += "".join(self.lines[line : line + CHUNK])
            line += CHUNK
        return unix(text[:limit])


def well_formed(text: str) -> str:
    return text if text.isascii() else LONE_SURROGATE.sub("\ufffd", text)


def split_lines(text: str) -> list[str]:
    """The lines of a text with their ends; the last has none, and is empty where the text ends with a line end."""
    lines = io.StringIO(well_formed(text), newline="").readlines()
    if not lines or lines[-1][-1] in "\r\n":
        lines.append("")
    return lines


def without_end(line: str) -> str:
    return line.rstrip("\r\n")


def unix(text: str) -> str:
    """The text with `\\n` line ends, the only ones the model knows."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def column_of(content: str, character: int, encoding: str) -> int:
    """Index into a line of a client's character; before the code point where the character is inside one."""
    content = content[:character]  # no character is longer than its units are many
    if content.isascii() or encoding == "utf-32":
        return len(content)
    encoded = content.encode(CODECS[encoding])[: character * UNIT_BYTES[encoding]]
    return len(encoded.decode(CODECS[encoding], "ignore"))
