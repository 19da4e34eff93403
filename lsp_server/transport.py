"""Bytes in and out: standard input and output, or the one connection that a TCP server takes.

A process serves one session and always ends with it, whatever the engine does: when the client has said `exit`, has
closed its end or is gone, nothing is waited for. On TCP a connection becomes the session by a first message that is
`initialize` and has the token, where there is one; until then others may come and go, and after it nobody gets in.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import os
import queue
import select
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import msgspec
import psutil

from lsp_server.framing import LARGEST, LONGEST_HEADERS, FramingError, read_message

if TYPE_CHECKING:
    from lsp_server.protocol import InpaintProtocol

logger = logging.getLogger(__name__)

CHUNK = 1 << 18  # bytes
GREETING = 1 << 20  # bytes of a first message on TCP, at most
PATIENCE = 10.0  # seconds for it; and for the session to end by itself when the input has ended
LOOK = 2.0  # seconds between two looks whether the client's process lives
TOKEN = "INPAINT_TOKEN"  # in the environment; a client has it as `token` in its initializationOptions
FAILURE, BAD_INPUT = 1, 2  # exit codes


class AddressError(Exception):
    """Nobody can be served there; the message says in one sentence what to do about it."""


class FirstMessage(msgspec.Struct):
    """Of a first message, what decides whether it is taken."""

    method: str
    params: dict[str, Any] = {}


async def serve_stdio(session: InpaintProtocol, stdin: BinaryIO, stdout: BinaryIO) -> int:
    """Serve until the client leaves. Returns the exit code."""
    session.set_writer(StdoutWriter(stdout))
    reader = asyncio.StreamReader(LONGEST_HEADERS)
    feeding = asyncio.ensure_future(feed(reader, stdin))
    try:
        return await serve_messages(session, reader)
    finally:
        feeding.cancel()


async def serve_tcp(session: InpaintProtocol, host: str, port: int) -> int:
    """Serve one client on a port. Returns the exit code. Raises AddressError and OSError."""
    first: asyncio.Future[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]]
    first = asyncio.get_running_loop().create_future()
    token = os.environ.get(TOKEN, "")

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            body = await asyncio.wait_for(read_message(reader, GREETING), PATIENCE)
            if body is not None:  # or it just looked
                check_greeting(body, token)
                if not first.done():
                    first.set_result((body, reader, writer))
                    return
        except (FramingError, OSError, asyncio.TimeoutError) as error:
            logger.error("a connection was refused: %s", str(error) or "it says nothing")
        writer.close()

    server = await asyncio.start_server(greet, host, port, limit=LONGEST_HEADERS, start_serving=False)
    if not token and not all(is_loopback(listening) for listening in server.sockets):
        server.close()
        raise AddressError(f"{host} can be reached from other machines: set {TOKEN}, or serve on 127.0.0.1")
    await server.start_serving()
    body, reader, writer = await first
    server.close()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    session.set_writer(writer)
    await session.receive(body)
    try:
        return await serve_messages(session, reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), PATIENCE)


def is_loopback(listening: Any) -> bool:
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def check_greeting(body: bytes, token: str) -> None:
    """Raises FramingError where a connection does not begin as a client with the token would begin it."""
    try:
        greeting = msgspec.json.decode(body, type=FirstMessage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FramingError("it does not begin with a request to initialize") from None
    if greeting.method != "initialize":
        raise FramingError(f"it begins with {greeting.method[:40]!r} and not with initialize")
    options = greeting.params.get("initializationOptions")
    given = options.get("token") if isinstance(options, dict) else None
    if token and not hmac.compare_digest(str(given).encode(errors="replace"), token.encode(errors="replace")):
        raise FramingError(f"the token in its initializationOptions is not that of {TOKEN}")


async def serve_messages(session: InpaintProtocol, reader: asyncio.StreamReader) -> int:
    """Hand the messages over until the session has ended. Returns the exit code."""
    try:
        while (body := await read_message(reader)) is not None:
            await session.receive(body)
            await asyncio.sleep(0)  # a request takes what it needs of the text before the next message changes it
            if session.exit_code is not None:
                return session.exit_code
    except FramingError as error:
        logger.error("the client's messages cannot be understood: %s", error)
        return BAD_INPUT
    except ConnectionError:  # it is gone
        return 0
    return 0


class FlowControl(asyncio.ReadTransport):
    """A reader's transport that knows only whether the reader has room."""

    def __init__(self) -> None:
        super().__init__()
        self.has_room = asyncio.Event()
        self.has_room.set()

    def pause_reading(self) -> None:
        self.has_room.clear()

    def resume_reading(self) -> None:
        self.has_room.set()


async def feed(reader: asyncio.StreamReader, stdin: BinaryIO) -> None:
    """Give the reader what comes on standard input, which a thread waits for, as far as it has room."""
    loop, thread, control = asyncio.get_running_loop(), ThreadPoolExecutor(1, "stdin"), FlowControl()
    reader.set_transport(control)
    try:
        while chunk := await loop.run_in_executor(thread, read_some, stdin):
            reader.feed_data(chunk)
            await control.has_room.wait()
    finally:
        reader.feed_eof()


def read_some(stdin: BinaryIO) -> bytes:
    chunk: bytes = stdin.read1(CHUNK)  # type: ignore[attr-defined]
    if not chunk:  # should the loop hang too, the process ends all the same
        after(PATIENCE, FAILURE)
    return chunk


class StdoutWriter:
    """Standard output as a writer that waits for nobody: a thread writes what a slow client has no room for.

    What a client that is gone does not take is dropped: its input ends too.
    """

    def __init__(self, stdout: BinaryIO) -> None:
        self._stdout = stdout
        self._later: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._put = self._written = 0  # bytes that the thread was given, and has written
        threading.Thread(target=self._write_later, name="stdout", daemon=True).start()

    def write(self, data: bytes) -> None:
        if self._put == self._written and has_room(self._stdout, len(data)):
            write(self._stdout, data)
            return
        self._put += len(data)
        self._later.put(data)
        if self._put - self._written > LARGEST:
            leave(FAILURE)  # nobody reads

    def _write_later(self) -> None:
        while True:
            data = self._later.get()
            write(self._stdout, data)
            self._written += len(data)

    def close(self) -> None: ...


def has_room(stdout: BinaryIO, size: int) -> bool:
    """Whether a write would not wait, as far as is known; only a pipe of POSIX tells."""
    return sys.platform != "win32" and size <= select.PIPE_BUF and bool(select.select([], [stdout], [], 0)[1])


def write(stdout: BinaryIO, data: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):
        stdout.write(data)
        stdout.flush()


def watch(process: int) -> None:
    """End with the client's process; one that is not there, as where it is in another container, is not watched."""
    try:
        client = psutil.Process(process)
    except (psutil.Error, ValueError, OverflowError):
        return

    def look() -> None:
        while client.is_running() and client.status() != psutil.STATUS_ZOMBIE:
            time.sleep(LOOK)
        leave(FAILURE)

    threading.Thread(target=look, name="client", daemon=True).start()


def after(seconds: float, code: int) -> None:
    timer = threading.Timer(seconds, leave, [code])
    timer.daemon = True
    timer.start()


def leave(code: int) -> NoReturn:
    """End the process now. An ordinary end would wait for the threads: for a load or a pass that never returns."""
    os._exit(code)
