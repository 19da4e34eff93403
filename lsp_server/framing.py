"""Where a message ends: the headers of the base protocol, read from bytes as they come.

Header names are case-insensitive, blanks around a value do not count and a bare line feed ends a line too. Anything
else ends the session: after bytes that cannot be understood, nobody knows where the next message begins. That is also
how a browser is refused, for the first line of HTTP is no header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST_HEADERS = 4096  # bytes
LARGEST = 1 << 28  # bytes of a message: a client that says more is wrong

BLANK_LINE = re.compile(rb"\r?\n\r?\n")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
UTF_8 = re.compile(r"[^;]*(;\s*charset=\"?utf-?8\"?)?\s*", re.IGNORECASE)


class FramingError(Exception):
    """The bytes are no message of the base protocol; the message says in a few words why."""


class Frames:
    """Takes bytes and gives the messages in them."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._data = bytearray()
        self._largest = largest
        self._length: int | None = None  # of the message whose headers were read

    def allow_any_length(self) -> None:
        """Take messages up to LARGEST."""
        self._largest = LARGEST

    def take(self, data: bytes) -> Iterator[bytearray]:
        """The bodies of the messages that are complete now. Raises FramingError after those that were."""
        self._data += data
        while True:
            if self._length is None:
                self._length = self._headers()
            if self._length is None or len(self._data) < self._length:
                return
            if len(self._data) == self._length:  # not to copy a large one
                body, self._data = self._data, bytearray()
            else:
                body = self._data[: self._length]
                del self._data[: self._length]
            self._length = None
            yield body

    def end(self) -> None:
        """There is no more. Raises FramingError where that is within a message."""
        if self._data or self._length is not None:
            raise FramingError("the input ends within a message")

    def _headers(self) -> int | None:
        """The length that the headers give, which are then taken off; None where they go on."""
        found = BLANK_LINE.search(self._data, 0, LONGEST_HEADERS)
        if found is None:
            if self._data and (len(self._data) >= LONGEST_HEADERS or not HEADER.match(self._data + b":")):
                raise FramingError("no header of a message where one should begin")
            return None
        length = content_length(bytes(self._data[: found.start()]))
        if length > self._largest:
            raise FramingError(f"a message of {length} bytes is too long: {self._largest} are the most")
        del self._data[: found.end()]
        return length


def content_length(headers: bytes) -> int:
    """The length that the lines of headers give. Raises FramingError."""
    lengths = set()
    for line in re.split(rb"\r?\n", headers):
        header = HEADER.fullmatch(line)
        if header is None:
            raise FramingError(f"{line[:40]!r} is no header")
        name, value = header[1].lower(), header[2].decode("latin-1")
        if name == b"content-length":
            lengths.add(value)
        elif name == b"content-type" and not UTF_8.fullmatch(value):
            raise FramingError(f"messages must be UTF-8, not {value[:40]!r}")
    if len(lengths) != 1:
        raise FramingError("a message has not one Content-Length")
    (length,) = lengths
    if not re.fullmatch("[0-9]{1,20}", length):
        raise FramingError(f"{length[:40]!r} is no length of a message")
    return int(length)
