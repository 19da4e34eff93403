"""Where a message ends: the headers of the base protocol, read from bytes as they come.

Header names are case-insensitive, blanks around a value do not count and a bare line feed ends a line too. Anything
else ends the session: after bytes that cannot be understood, nobody knows where the next message begins. That is also
how a browser is refused, for the first line of HTTP is no header.
"""

from __future__ import annotations

import asyncio
import re

LONGEST_HEADERS = 4096  # bytes
LARGEST = 1 << 28  # bytes of a message: a client that says more is wrong

HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
UTF_8 = re.compile(r"[^;]*(;\s*charset=\"?utf-?8\"?)?\s*", re.IGNORECASE)


class FramingError(Exception):
    """The bytes are no message of the base protocol; the message says in a few words why."""


async def read_message(reader: asyncio.StreamReader, largest: int = LARGEST) -> bytes | None:
    """The body of the next message; None where no more comes. Raises FramingError."""
    if not (first := await reader.read(1)):
        return None
    if not HEADER.match(first + b":"):
        raise FramingError("no header of a message where one should begin")
    try:
        length = content_length(await _headers(reader, first))
        if length > largest:
            raise FramingError(f"a message of {length} bytes is too long: {largest} are the most")
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise FramingError("the input ends within a message") from None


async def _headers(reader: asyncio.StreamReader, first: bytes) -> bytes:
    """The lines up to a blank one, of which the first byte was read."""
    headers = first
    while not headers.endswith((b"\n\n", b"\n\r\n")):
        try:
            headers += await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise FramingError("no header of a message is so long") from None
        if len(headers) > LONGEST_HEADERS:
            raise FramingError("no message has so many headers")
    return headers.rstrip(b"\r\n")


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
