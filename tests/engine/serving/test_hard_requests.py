"""What must not stop the server, nor hold it up: hard requests by their expected answers, and made-up ones.

A report is one more line in hard_requests.jsonl, whose `…` stands for `unit`, and `close` behind it, so many `times`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import uvicorn
from servers import SCRIPTED, Server, script, serving, wait_until
from uvicorn.server import ServerState

from engine.serving import connections

CASES = [json.loads(line) for line in Path(__file__).with_name("hard_requests.jsonl").read_text("utf-8").splitlines()]
STRETCH = 1.0  # seconds: other requests wait no longer, on a busy machine; what these tests are for took 25 and more
ROUNDS = int(os.environ.get("ROUNDS", "1000"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving([*SCRIPTED, "16"]) as started:
        wait_until(lambda: started.client.get("/health").status_code == 200)
        yield started


class Watched:
    """The longest that somebody else waited for an answer meanwhile."""

    def __init__(self, server: Server) -> None:
        self._server, self._over, self.longest = server, threading.Event(), 0.0

    def __enter__(self) -> Watched:
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            started = time.perf_counter()
            assert self._server.client.get("/health").status_code == 200
            self.longest = max(self.longest, time.perf_counter() - started)
            time.sleep(0.005)


def health(server: Server) -> dict[str, Any]:
    return dict(server.client.get("/health").json())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_hard_request_has_its_answer_and_holds_up_nobody(server: Server, case: dict[str, Any]) -> None:
    times = case.get("times", 0)
    body = case["body"].replace("…", case.get("unit", "") * times + case.get("close", "") * times)
    headers = {"Content-Type": case.get("type", "application/json")}
    with Watched(server) as watched:
        answer = server.client.post(case["path"], content=body.encode(), headers=headers)
    assert answer.status_code == case["status"], answer.text[:300]
    assert case["says"] in answer.text
    assert watched.longest < STRETCH
    wait_until(lambda: health(server)["running"] == 0)


# ---------------------------------------------------------------- made-up requests

PATHS = ("/v1/completions", "/v1/fim/completions", "/infill", "/v1/models", "/health", "/nothing")
SCALARS = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    10**30,
    1.5,
    -0.0,
    1e300,
    "",
    "x",
    "\x00",
    "é😀",
    "\r\n",
    "a" * 999,
)
KEYS = (
    "prompt", "suffix", "max_tokens", "stop", "temperature", "top_p", "seed", "random_seed", "n", "logprobs", "echo",
    "stream", "stream_options", "include_usage", "inpaint", "path", "max_lines", "deadline_ms", "steps", "trust",
    "min_confidence", "related", "others", "drafts", "copies", "canvas", "sampling", "top_k", "alg", "block_length",
    "suppress_tokens", "input_prefix", "input_suffix", "input_extra", "text", "n_predict", "n_indent",
    "response_fields",
)  # fmt: skip
STATUSES = {200, 400, 404, 405, 413, 415}


def anything(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.random()
    if depth > 3 or kind < 0.6:
        return rng.choice(SCALARS)
    if kind < 0.75:
        return [anything(rng, depth + 1) for _ in range(rng.randrange(3))]
    return {rng.choice(KEYS): anything(rng, depth + 1) for _ in range(rng.randrange(5))}


def plausible(rng: random.Random) -> Any:
    """A body as a client's, in which a few things may be off."""
    prompt = script(rng.choice(("", "abc", "a\n  b\n")))
    body = {"prompt": prompt, "input_prefix": prompt, "input_suffix": "", "max_tokens": 3, "inpaint": {"steps": 2}}
    for _ in range(rng.randrange(3)):
        rng.choice((body, body["inpaint"]))[rng.choice(KEYS)] = anything(rng)
        body["inpaint"] = body["inpaint"] if isinstance(body["inpaint"], dict) else {}
    return body


def message(rng: random.Random) -> bytes:
    """A request, seldom a whole one."""
    body = json.dumps(rng.choice((plausible, plausible, anything))(rng)).encode()
    length = rng.choice((len(body), len(body), len(body), len(body) + 3, max(0, len(body) - 3), -1, 10**30))
    head = f"POST {rng.choice(PATHS)} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    whole = f"{head}Connection: close\r\nContent-Length: {length}\r\n\r\n".encode() + body
    if rng.random() < 0.3:
        at = rng.randrange(len(whole))
        return whole[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(3))) + whole[at + 1 :]
    return whole


def test_made_up_requests(server: Server) -> None:
    """Each is answered, or its connection ends; then the server fills as before. `ROUNDS=100000` makes more."""
    rng, address = random.Random(28), urlsplit(server.url)
    for _ in range(ROUNDS):
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(message(rng))
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                status = answer.readline().split()
        assert not status or int(status[1]) in STATUSES, status
    wait_until(lambda: (health(server)["running"], health(server)["waiting"]) == (0, 0))
    assert server.post("/v1/completions", {"prompt": script("on")}).json()["choices"][0]["text"] == "on"
    assert "Traceback" not in server.log


# ---------------------------------------------------------------- connections


def test_endless_headers_are_refused_and_not_kept(server: Server) -> None:
    address, before = urlsplit(server.url), psutil.Process(server.process.pid).memory_info().rss
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for number in range(200_000):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"a" * 1000))
    assert psutil.Process(server.process.pid).memory_info().rss < before + 20_000_000


async def test_a_head_has_to_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.2)
    config = uvicorn.Config(lambda: None, http=connections.Connection, ws="none")
    made = lambda: connections.Connection(config, ServerState(), {})  # noqa: E731
    async with await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0) as listener:
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        closed = asyncio.create_task(reader.read())
        while not closed.done():  # however it drips
            writer.write(b"a")
            await asyncio.sleep(0.01)
        assert closed.result() == b""
        writer.close()


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")
def test_silent_connections_make_room_for_others() -> None:
    limited = ["bash", "-c", f"ulimit -n 120; exec {subprocess.list2cmdline(SCRIPTED)} 4"]
    with serving(limited) as server:
        address, log = urlsplit(server.url), server.log
        silent = [socket.create_connection((address.hostname, address.port)) for _ in range(140)]
        wait_until(lambda: server.client.get("/health").status_code == 200)
        assert server.post("/v1/completions", {"prompt": script("on")}).json()["choices"][0]["text"] == "on"
        for connection in silent:
            connection.close()
        assert server.log == log
