"""Where messages end, and what is refused."""

from __future__ import annotations

import pytest

from lsp_server.framing import LONGEST_HEADERS, Frames, FramingError

TWO = b"Content-Length: 2\r\n\r\n{}"


def take_bytewise(data: bytes) -> list[bytes]:
    frames = Frames()
    taken = [body for at in range(len(data)) for body in frames.take(data[at : at + 1])]
    frames.end()
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
def test_headers_that_are_understood(data: bytes) -> None:
    assert list(Frames().take(data + TWO)) == [b"{}", b"{}"]
    assert take_bytewise(data + TWO) == [b"{}", b"{}"]


def test_an_empty_body() -> None:
    assert list(Frames().take(b"Content-Length: 0\r\n\r\n" + TWO)) == [b"", b"{}"]


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
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(FramingError):
        list(Frames().take(data))


def test_what_came_before_is_given_first() -> None:
    stream = Frames().take(TWO + b"garbage\r\n\r\n")
    assert next(stream) == b"{}"
    with pytest.raises(FramingError):
        next(stream)


@pytest.mark.parametrize("data", [b"Content", b"Content-Length: 3\r\n\r\n{}", b"Content-Length: 2\r\n\r\n"])
def test_an_end_within_a_message(data: bytes) -> None:
    frames = Frames()
    assert list(frames.take(data)) == []
    with pytest.raises(FramingError):
        frames.end()


def test_a_length_does_not_cost_memory_before_the_bytes_come() -> None:
    frames = Frames()
    assert list(frames.take(b"Content-Length: %d\r\n\r\n" % (1 << 28))) == []
    assert len(frames._data) == 0
