"""uvicorn's HTTP protocol with the two bounds that it has no setting for: the time in which a request's head has to
come, and connections, of which one that is silent makes room for a new one.
"""

from __future__ import annotations

import asyncio
import sys
import time

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 10.0  # seconds for a head
BATCH = 16  # connections that are accepted at a time, of which three are there before the first is looked at
MOST, OWN = 4096, 3 * BATCH + 36  # connections, and files that the process needs itself, with four for each worker
LARGEST_HEAD = 16_384  # bytes


def most_connections(workers: int) -> int:
    """As many as this process may open files, less those that it needs itself."""
    if sys.platform == "win32":
        return MOST
    import resource

    return max(8, min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN - 4 * workers))


class Connection(H11Protocol):
    """One of at most `limit_concurrency`: where none is silent, uvicorn answers 503 to another."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._seen()
        if len(self.connections) >= (self.limit_concurrency or sys.maxsize):
            others = (each for each in self.connections if isinstance(each, Connection) and each is not self)
            silent = [each for each in others if each.is_silent and not each.transport.is_closing()]
            if silent:
                min(silent, key=lambda each: (each.cycle is not None, each.since)).transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._seen()

    def _seen(self) -> None:
        self.since = time.monotonic()
        if not self._awaits_head:
            self._forget_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(PATIENCE, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_timer()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _awaits_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_silent(self) -> bool:
        """Whether no request has come to its end."""
        return self._awaits_head or self.cycle.more_body
