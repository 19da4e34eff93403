"""HTTP/2 streams that are given up are reset, as RFC 9113, section 8.1, has it.

httpcore2 forgets such a stream and does not tell the server, which would work on for nobody, nor makes up for what it
sends on it. There is no public way to the stream, so this looks into the connection; where that has other insides one
day, nothing is reset, and a test fails.
"""

from __future__ import annotations

import contextlib
from typing import Any

import httpx2
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError


class StreamResets:
    """A `trace` of httpcore2 for the requests of a client."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        if event == "http2.response_closed.started":
            with contextlib.suppress(AttributeError, ProtocolError, OSError, httpx2.HTTPError):
                await self._reset(info["stream_id"])

    async def _reset(self, number: int) -> None:
        transports: list[Any] = [self._http._transport, *filter(None, self._http._mounts.values())]  # proxies' too
        for each in (each for transport in transports for each in transport._pool.connections):
            connection: Any = getattr(each, "_connection", None)
            if number not in getattr(connection, "_events", ()):
                continue
            stream = connection._h2_state.streams.get(number)
            if stream is not None and not stream.closed:
                async with connection._write_lock:
                    connection._h2_state.reset_stream(number, ErrorCodes.CANCEL)
                    await connection._network_stream.write(connection._h2_state.data_to_send())
