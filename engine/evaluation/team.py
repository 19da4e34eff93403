"""`bench serve`: a team types, and every key is a request to one server.

The load is open: keys come at their times, however slow the server is, and a request that is not answered before its
typist's next key is given up, as editors do. A latency counts from the key's time; of a request that was given up,
until then. What a server's work costs is read from its processes.

TEAM typists for ten minutes show whether memory is flat.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx2
import msgspec
import numpy as np

from engine import EngineError, FillRequest
from engine.evaluation.latency import read as read_text
from engine.evaluation.report import Meter, Promise, Report, Row, matrix_product_ms, times
from engine.evaluation.typist import Typist
from engine.remote.address import parse_url
from engine.remote.apis import read
from engine.remote.keys import key_for
from engine.remote.model import Remote, ServerInfo

TEAM = 20  # typists
OURS = (sys.executable, "-m", "engine", "serve")


class Load(msgspec.Struct):
    """What some typists met. Milliseconds; `overhead_ms` are those of an answer that were no fill and no queue."""

    typists: int
    seconds: float = 0.0
    latency_ms: list[float] = []
    overhead_ms: list[float] = []
    answered: int = 0
    cancelled: int = 0
    refused: int = 0
    failed: int = 0
    cpu_seconds: float = 0.0
    memory_mb: list[float] = []  # each second

    def row(self) -> Row:
        latency = times(self.latency_ms or [0.0])
        return {
            "typists": self.typists,
            "requests": len(self.latency_ms),
            "p50 ms": latency.p50,
            "p95 ms": latency.p95,
            "p99 ms": latency.p99,
            "fills/s": self.answered / self.seconds,
            "fills/s/core": self.answered / self.cpu_seconds if self.cpu_seconds else 0.0,
            "cores": self.cpu_seconds / self.seconds,
            "HTTP ms": float(np.median(self.overhead_ms)) if self.overhead_ms else 0.0,
            "cancelled": self.cancelled,
            "refused": self.refused,
            "failed": self.failed,
            "MB": self.memory_mb[-1],
            "MB more": self.memory_mb[-1] - self.memory_mb[0],
        }

    def promises(self) -> list[Promise]:
        """Memory counts from the middle on: until then, memories of texts fill."""
        made = [
            Promise(f"{self.typists} typists, p95", times(self.latency_ms or [0.0]).p95, "ms", 100),
            Promise("refused or failed", self.refused + self.failed, "requests", 0),
        ]
        if middle := self.memory_mb[len(self.memory_mb) // 2]:  # of a server elsewhere nothing is known
            made.append(Promise("memory at the end", 100 * self.memory_mb[-1] / middle, "% of that in the middle", 105))
        return made


async def watch(meter: Meter, megabytes: list[float]) -> None:
    """Note the memory each second until cancelled, and once more then."""
    try:
        while True:
            megabytes.append(meter.memory_mb())
            await asyncio.sleep(1)
    finally:
        megabytes.append(meter.memory_mb())


class Server(NamedTuple):
    """What is asked; `pid` of one that was started here."""

    base: str
    served: ServerInfo
    pid: int | None


async def load(server: Server, file: Path, typists: int, seconds: float) -> Load:
    """So many typists of a file at once, for so long. Raises EngineError where it cannot be read."""
    text = read_text(file)
    base, served, pid = server
    result, meter, key = Load(typists), Meter(pid), key_for(parse_url(base))
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(base_url=base, timeout=30, limits=limits) as http:
        cpu, start = meter.cpu_seconds(), time.perf_counter()
        watching = asyncio.create_task(watch(meter, result.memory_mb))
        ends = start + seconds
        async with contextlib.AsyncExitStack() as stack:
            people = [Person(http, served, key, result, file.name) for _ in range(typists)]
            for person in people:
                stack.push_async_callback(person.leave)
            await asyncio.gather(
                *(person.types(Typist(text, seed), ends, seed / typists / 5) for seed, person in enumerate(people))
            )
        result.seconds = time.perf_counter() - start
        result.cpu_seconds = meter.cpu_seconds() - cpu
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return result


class Person:
    """Types, asks at every key, and gives up what is unanswered at the next."""

    def __init__(self, http: httpx2.AsyncClient, served: ServerInfo, key: str | None, result: Load, path: str) -> None:
        self._http, self._served, self._result, self._path = http, served, result, path
        self._headers = {"X-Session-Id": str(uuid.uuid4())} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._asking: asyncio.Task[str] | None = None

    async def types(self, typist: Typist, ends: float, offset: float) -> None:
        due, keys = time.perf_counter() + offset, typist.pressed()
        while due < ends:
            await asyncio.sleep(due - time.perf_counter())
            if self._asking is not None:
                typist.suggestion = self._asking.result() if self._asking.done() else ""
                await self.leave()
            wait_ms = next(keys)
            request = FillRequest(prefix=typist.before, suffix=typist.after, path=self._path, max_lines=1)
            self._asking = asyncio.create_task(self._asked(request, due))
            due += wait_ms / 1000

    async def leave(self) -> None:
        """Give up what is unanswered."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _asked(self, request: FillRequest, due: float) -> str:
        kind, result = self._served.kind, self._result
        body = kind.body(request, self._served.model)
        try:
            response = await self._http.post(kind.endpoint, json=body, headers=self._headers)
            spent = time.perf_counter() - due
        except asyncio.CancelledError:
            result.cancelled += 1
            result.latency_ms.append((time.perf_counter() - due) * 1000)
            raise
        except httpx2.HTTPError:
            result.failed += 1
            return ""
        if response.status_code != 200:
            result.refused += response.status_code == 429
            result.failed += response.status_code != 429
            return ""
        fill = read(kind, request, response.content, spent)
        result.answered += 1
        result.latency_ms.append(spent * 1000)
        queued = msgspec.json.decode(response.content).get("choices", [{}])[0].get("inpaint", {}).get("queue_ms")
        if queued is not None:
            result.overhead_ms.append(spent * 1000 - fill.encode_ms - fill.decode_ms - queued)
        return fill.text


@contextlib.contextmanager
def started(options: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Our server: its URL and process. Raises EngineError where it does not start."""
    command = (*OURS, "--port", "0", *options)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    try:
        for line in process.stderr:
            said += line
            if found := re.search(r"served on (http://\S+)", line):
                yield found[1], process.pid
                break
        else:
            raise EngineError(f"the server did not start: {said.strip()}")
    finally:
        process.terminate()
        process.communicate()


def measured(
    url: str | None,
    options: Sequence[str],
    file: Path,
    typists: Sequence[int],
    seconds: float,
) -> list[Load]:
    """Raises EngineError, and ModuleNotFoundError without the extra serve."""
    with contextlib.ExitStack() as stack:
        address, pid = (url, None) if url else stack.enter_context(started(options))
        server = Server(parse_url(address).base, what_is(address), pid)
        return [asyncio.run(load(server, file, count, seconds)) for count in typists]


def what_is(url: str) -> ServerInfo:
    """Raises EngineError where no server answers."""
    remote = Remote.load(url)
    if remote.served is None:
        raise EngineError(f"no server answers at {url}")
    return remote.served


def report(loads: Sequence[Load]) -> Report:
    product = matrix_product_ms()
    promises = [promise for each in loads if each.typists == TEAM for promise in each.promises()]
    shown = {"matrix_product_ms": product, "loads": [each.row() for each in loads], "promises": promises}
    return Report({"matrix_product_ms": product, "loads": loads}, shown)
