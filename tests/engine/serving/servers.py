"""Servers to ask: the command as users run it, and one whose workers are scripted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import httpx2

ROOT = Path(__file__).parents[3]
PATIENCE = 60.0  # seconds: only a hang is ever as slow
SCRIPTED = [sys.executable, str(Path(__file__).with_name("team_server.py"))]
REAL = [sys.executable, "-m", "engine", "serve", "--port", "0", "--workers", "1"]

Json: TypeAlias = Any


def script(text: str = "", **options: Json) -> str:
    """A prompt that tells a scripted worker what to do."""
    return "#" + json.dumps({"text": text, **options}) + "\n"


class Server:
    """A process that serves, and a client of it. What it logs is in `log`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log
        self.url = self._address()
        self.client = httpx2.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def _address(self) -> str:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            if found := re.search(r"served on (http://\S+)", self.log):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(self.log)

    def post(self, path: str, body: Json, **headers: str) -> httpx2.Response:
        return self.client.post(path, json=body, headers=headers)

    def events(self, path: str, body: Json) -> list[Json]:
        """The data of a stream's events, read as JSON where they are."""
        with self.client.stream("POST", path, json=body) as response:
            assert response.status_code == 200, response.read()
            lines = [line for line in response.iter_lines() if line]
        assert all(line.startswith("data: ") for line in lines)
        return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        assert found, name
        return float(found[1])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def serving(command: Sequence[str], **environment: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as target:
            process = subprocess.Popen(
                command, cwd=ROOT, stderr=target, stdout=target, env={**os.environ, **environment}
            )
        try:
            server = Server(process, log)
            with server.client:
                yield server
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def wait_until(true: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
