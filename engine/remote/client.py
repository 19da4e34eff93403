"""Requests to one server, from a thread that waits and looks at a cancel event meanwhile.

An event loop in a thread of its own keeps connections open, over HTTP/2 where the server has it. A request that is
cancelled is given up there: its connection closes, or its stream ends, which tells the server. What fails on the way is
asked once more; redirections are not followed, for a key is meant for one host; this machine is asked through no proxy.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
import weakref
from collections.abc import Coroutine
from concurrent import futures
from typing import Any, NamedTuple, TypeVar

import httpx2
import msgspec

from engine.contract import Cancelled
from engine.plain import plain
from engine.remote.http2_resets import StreamResets

T = TypeVar("T")

POLL = 0.004  # seconds between looks at the cancel event
TIMEOUT, CONNECT = 10.0, 2.0  # seconds for the whole answer, however it drips, and for a connection
MOST_BYTES = 1_000_000  # of an answer, which is not compressed: a little would become much
PASSING = (502, 503, 504)  # statuses of a server that is about to come back


class Unreachable(Exception):
    """The server does not answer; the message says what happened, `pause` for how many seconds to leave it alone."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class HttpResponse(NamedTuple):
    status: int
    body: bytes


class Client:
    def __init__(self, base: str, key: str | None, local: bool = False) -> None:
        """`local` is for a server on this machine."""
        self._base, self._local = base, local
        self._headers = {"X-Session-Id": str(uuid.uuid4()), "Accept-Encoding": "identity"}
        self._headers |= {"Authorization": f"Bearer {key}"} if key else {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="remote").start()
        weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
        self._extensions: dict[str, Any] = {}
        self._http = self.wait(self._opened(), threading.Event())

    async def _opened(self) -> httpx2.AsyncClient:
        transport = httpx2.AsyncHTTPTransport(http2=True) if self._local else None  # with one, no proxy is looked for
        http = httpx2.AsyncClient(
            base_url=self._base,
            headers=self._headers,
            timeout=httpx2.Timeout(TIMEOUT, connect=CONNECT),
            http2=True,
            transport=transport,
        )
        if self._base.startswith("https:"):  # no other connection has streams
            self._extensions = {"trace": StreamResets(http)}
        return http

    def ask(self, path: str, cancel: threading.Event, body: Any = None) -> HttpResponse:
        """What answers a POST of the body, or a GET without one. Raises Unreachable and Cancelled."""
        return self.wait(self._asked(path, body), cancel)

    def wait(self, work: Coroutine[Any, Any, T], cancel: threading.Event) -> T:
        """The result of the work, which is given up where `cancel` is set. Raises Cancelled then."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while not futures.wait([future], POLL).done:
            if cancel.is_set():
                future.cancel()
                raise Cancelled
        return future.result()

    async def _asked(self, path: str, body: Any) -> HttpResponse:
        try:
            return await asyncio.wait_for(self._answered(path, body), TIMEOUT)
        except (httpx2.TimeoutException, asyncio.TimeoutError):  # two kinds before Python 3.11
            raise Unreachable("it did not answer in time") from None
        except httpx2.HTTPError as error:
            raise Unreachable(plain(str(error)) or type(error).__name__) from None

    async def _answered(self, path: str, body: Any) -> HttpResponse:
        try:
            answer = await self._once(path, body)
        except (httpx2.NetworkError, httpx2.RemoteProtocolError):  # a kept connection may have been closed meanwhile
            answer = None
        if answer is None or answer.status in PASSING:
            answer = await self._once(path, body)
        if answer.status == 429:
            raise Unreachable("it is overloaded", pause=1.0)
        if answer.status in PASSING:
            raise Unreachable(f"status {answer.status}")
        return answer

    async def _once(self, path: str, body: Any) -> HttpResponse:
        method, content, headers = "GET", None, {}
        if body is not None:
            method, content, headers = "POST", msgspec.json.encode(body), {"Content-Type": "application/json"}
        sent = self._http.stream(method, path, content=content, headers=headers, extensions=self._extensions)
        async with sent as response:
            parts = bytearray()
            async for part in response.aiter_raw():
                parts += part
                if len(parts) > MOST_BYTES:
                    raise Unreachable(f"its answer is longer than {MOST_BYTES} bytes")
            return HttpResponse(response.status_code, bytes(parts))
