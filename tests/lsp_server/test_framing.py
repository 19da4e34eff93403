"""Where messages end, and what is refused."""

from __future__ import annotations

import asyncio
import io

import pytest

from lsp_server import transport
from lsp_server.framing import LONGEST_HEADERS, FramingError, read_message
from lsp_server.transport import feed

TWO = b"Content-Length: 2\r\n\r\n{}"


def reader_of(data: bytes, ended: bool = False) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(LONGEST_HEADERS)
    reader.feed_data(data)
    if ended:
        reader.feed_eof()
    return reader


async def taken_bytewise(data: bytes) -> list[bytes | None]:
    reader = asyncio.StreamReader(LONGEST_HEADERS)
    taking = asyncio.ensure_future(take_all(reader))
    for at in range(len(data)):
        reader.feed_data(data[at : at + 1])
        await asyncio.sleep(0)
    reader.feed_eof()
    return await taking


async def take_all(reader: asyncio.StreamReader) -> list[bytes | None]:
    taken = [await read_message(reader)]
    while taken[-1] is not None:
        taken.append(await read_message(reader))
    return taken


@pytest.mark.parametrize(
    "data",
    [
        TWO,
        b"content-length: 2\r\n\r\n{}",
        b"CONTENT-LENGTH:2\r\n\r\n{}",
        b"Content-Length: \t 2  \r\n\r\n{}",
        b"Content-Length: 2\n\n{}",
        b"Content-Length: 0002\r\n\r\n{}",
        b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        b"Content-Type: application/vscode-jsonrpc; charset=utf8\r\nContent-Length: 2\r\n\r\n{}",
        b"Content-Length: 2\r\nX-Other: yes\r\n\r\n{}",
    ],
)
async def test_headers_that_are_understood(data: bytes) -> None:
    assert await take_all(reader_of(data + TWO, ended=True)) == [b"{}", b"{}", None]
    assert await taken_bytewise(data + TWO) == [b"{}", b"{}", None]


async def test_an_empty_body() -> None:
    assert await take_all(reader_of(b"Content-Length: 0\r\n\r\n" + TWO, ended=True)) == [b"", b"{}", None]


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"\r\n" + TWO,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /a:b HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"Content-Length\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: 0x2\r\n\r\n{}",
        b"Content-Length: 2.0\r\n\r\n{}",
        b"Content-Length: two\r\n\r\n{}",
        b"Content-Length: 99999999999999\r\n\r\n",
        b"Content-Length: " + b"9" * 1000 + b"\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Content-Type: text/plain\r\n\r\n{}",
        b"Content-Length: 2\r\nContent-Type: text/plain; charset=utf-16\r\n\r\n{}",
        b"X: " + b"y" * LONGEST_HEADERS,
    ],
)
async def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(FramingError):
        await asyncio.wait_for(read_message(reader_of(data)), 10)


async def test_what_came_before_is_given_first() -> None:
    reader = reader_of(TWO + b"garbage\r\n\r\n")
    assert await read_message(reader) == b"{}"
    with pytest.raises(FramingError):
        await read_message(reader)


@pytest.mark.parametrize("data", [b"Content", b"Content-Length: 3\r\n\r\n{}", b"Content-Length: 2\r\n\r\n"])
async def test_an_end_within_a_message(data: bytes) -> None:
    with pytest.raises(FramingError):
        await read_message(reader_of(data, ended=True))


async def test_a_length_does_not_cost_memory_before_the_bytes_come() -> None:
    reader = reader_of(b"Content-Length: %d\r\n\r\n" % (1 << 28))
    reading = asyncio.ensure_future(read_message(reader))
    await asyncio.sleep(0)
    assert len(reader._buffer) == 0
    reading.cancel()


async def test_standard_input_waits_while_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that floods the server waits, and the server does not fill its memory."""
    monkeypatch.setattr(transport, "after", lambda *_: None)  # else the process ends some time after its input
    body = b"x" * 10_000_000
    stdin = io.BytesIO(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    reader = asyncio.StreamReader(LONGEST_HEADERS)
    feeding = asyncio.ensure_future(feed(reader, stdin))
    await asyncio.sleep(0.2)
    assert stdin.tell() < 1_000_000
    assert await asyncio.wait_for(read_message(reader), 10) == body
    assert await read_message(reader) is None
    await feeding
