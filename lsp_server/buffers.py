"""Our own text buffer: incremental edits, and positions in utf-8, utf-16 or utf-32 units.

pygls' document joins and re-splits the whole text at every change, and splits lines at form feeds and U+2028 too, which
shifts every later position. Here a document is a list of blocks, and a block a list of lines with their ends, split at
newline, carriage return or both only. A block is one string until somebody looks into it: a document of millions of
lines is opened without splitting it. An edit re-splits the lines it touches. Lone surrogates, which no encoder takes,
become U+FFFD on the way in: as long in every encoding, so positions stay right.
"""

from __future__ import annotations

import io
import itertools
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
CODECS = {"utf-8": "utf-8", "utf-16": "utf-16-le"}  # utf-32 positions are indices into a Python string
UNIT_BYTES = {"utf-8": 1, "utf-16": 2}
CHUNK = 64
BEGINNING = 60_000  # characters
PIECE = 1 << 17  # characters of a block that is not split yet
BLOCK = 1 << 12  # lines of one that is; a list twice as long is cut


class Place(NamedTuple):
    """A place in a buffer: index of the line, index into the line's string; both from 0."""

    line: int
    column: int


class Buffer:
    """The text of one document. Line and character of a client are clamped to the text."""

    def __init__(self, text: str = "", encoding: str = "utf-16") -> None:
        self.encoding = encoding
        self._blocks: list[str | list[str]] = []
        self._starts = [0]  # each block's first line, and the number of lines
        self._beginning: str | None = None
        self.replace(text)

    def __len__(self) -> int:
        """The number of lines; the last has no end."""
        return self._starts[-1]

    @property
    def lines(self) -> list[str]:
        """All the lines with their ends."""
        return [line for index in range(len(self._blocks)) for line in self._lines(index)]

    @property
    def beginning(self) -> str:
        """The first lines, some 60,000 characters; made again after an edit only."""
        if self._beginning is None:
            self._beginning = self.after(Place(0, 0), BEGINNING)
        return self._beginning

    @property
    def line_end(self) -> str:
        """What ends the first line: all lines of a well-formed document."""
        first = self.line(0)
        return first[len(without_end(first)) :] or "\n"

    def place(self, line: int, character: int) -> Place:
        """Where a client's position is; the nearest place where there is no such position."""
        if line >= len(self):
            return Place(len(self) - 1, len(self.line(len(self) - 1)))
        content = without_end(self.line(max(line, 0)))
        return Place(max(line, 0), column_of(content, max(character, 0), self.encoding))

    def character(self, place: Place) -> int:
        """The client's character of a place, in units of the negotiated encoding."""
        before = self.line(place.line)[: place.column]
        if before.isascii() or self.encoding == "utf-32":
            return len(before)
        return len(before.encode(CODECS[self.encoding])) // UNIT_BYTES[self.encoding]

    def edit(self, start: Place, end: Place, text: str) -> None:
        """Put `text` in the place of what stands between `start` and `end`."""
        self._beginning = None
        start, end = min(start, end), max(start, end)
        piece = self.line(start.line)[: start.column] + text + self.line(end.line)[end.column :]
        first = start.line
        if piece.startswith("\n") and first and self.line(first - 1).endswith("\r"):
            first -= 1  # the two have become one line end
            piece = self.line(first) + piece
        self._put(first, end.line + 1, piece)

    def replace(self, text: str) -> None:
        """Start over with another text."""
        deque(self.replacing(cut(text)), maxlen=0)

    def replacing(self, pieces: Iterable[str]) -> Iterator[None]:
        """Start over with the text of all the pieces, which end at newlines but for the last; in as many steps, of
        which the last counts.
        """
        blocks: list[str | list[str]] = []
        ends = []
        for piece in pieces:
            blocks.append(well_formed(piece))
            ends.append(line_ends(piece))
            yield
        ends[-1] += 1
        self._beginning = None
        self._blocks, self._starts = blocks, [0, *itertools.accumulate(ends)]

    def before(self, place: Place, limit: int) -> str:
        """The text before a place: at least `limit` characters where there are as many, at most three times that.

        It starts at a 64th line, and so mostly stays put while the user types.
        """
        line = place.line - place.line % CHUNK
        text = self._text(line, place.line) + self.line(place.line)[: place.column]
        while line and len(text) < limit:
            line -= CHUNK
            text = self._text(line, line + CHUNK) + text
        return unix(text[-3 * limit :])

    def after(self, place: Place, limit: int) -> str:
        """The text after a place, at most `limit` characters of it."""
        line = place.line + 1
        text = self.line(place.line)[place.column :]
        while line < len(self) and len(text) < limit:
            text += self._text(line, line + CHUNK)
            line += CHUNK
        return unix(text[:limit])

    def line(self, line: int) -> str:
        """A line with its end."""
        index = self._index(line)
        return self._lines(index)[line - self._starts[index]]

    def _text(self, first: int, stop: int) -> str:
        """The text of the lines from `first` to before `stop`."""
        texts = []
        index = self._index(first)
        while first < min(stop, len(self)):
            start = self._starts[index]
            texts += self._lines(index)[first - start : stop - start]
            index += 1
            first = self._starts[index]
        return "".join(texts)

    def _index(self, line: int) -> int:
        """Of the block that holds a line."""
        return min(bisect_right(self._starts, line), len(self._blocks)) - 1

    def _lines(self, index: int) -> list[str]:
        """The lines of a block, which is split if it was not."""
        block = self._blocks[index]
        if isinstance(block, str):
            block = split_lines(block)
            if index + 1 < len(self._blocks):
                block.pop()  # an empty last line belongs to the end of the document only
            self._blocks[index] = block
        return block

    def _put(self, first: int, stop: int, piece: str) -> None:
        """Put a text in the place of the lines from `first` to before `stop`."""
        one, other = self._index(first), self._index(stop - 1)
        head, tail = self._lines(one), self._lines(other)
        head_end, tail_start = first - self._starts[one], stop - self._starts[other]
        if len(piece) > 2 * PIECE:
            text = "".join(head[:head_end]) + piece + "".join(tail[tail_start:])
            blocks: list[str | list[str]] = [*cut(text)]
        else:
            lines = split_lines(piece)
            if stop < len(self) and not lines[-1]:
                lines.pop()
            if one == other:
                head[head_end:tail_start] = lines
            else:
                head = head[:head_end] + lines + tail[tail_start:]
            whole = len(head) <= 2 * BLOCK
            blocks = [head] if whole else [head[at : at + BLOCK] for at in range(0, len(head), BLOCK)]
        self._blocks[one : other + 1] = blocks
        last = one + len(blocks) == len(self._blocks)
        ends = [line_ends(block) if isinstance(block, str) else len(block) for block in blocks]
        ends[-1] += last and isinstance(blocks[-1], str)
        after = self._starts[other + 2 :]
        more = self._starts[one] + sum(ends) - self._starts[other + 1]
        self._starts[one:] = itertools.accumulate(ends, initial=self._starts[one])
        self._starts += [start + more for start in after] if more else after


def cut(text: str) -> Iterator[str]:
    """The text in pieces that end at newlines but for the last; at least one."""
    at = 0
    while (found := text.find("\n", at + PIECE)) >= 0:
        yield text[at : found + 1]
        at = found + 1
    yield text[at:]


def line_ends(text: str) -> int:
    """How many there are, of any kind."""
    return text.count("\n") + (text.count("\r") - text.count("\r\n") if "\r" in text else 0)


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
