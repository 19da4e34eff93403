"""Faults put in on purpose: in the engine, its files, the disk. Every request is answered, nothing hangs, and what went
wrong is said.
"""

from __future__ import annotations

import asyncio
import builtins
import io
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lsp_client import INVOKED, REAL, ROOT, LspClient
from scripted_server import fill_with

from engine import Engine, EngineError, Fill, FillRequest
from engine.checksums import READ_BY_PEOPLE
from engine.embedded import WEIGHTS
from lsp_server import completer as completers
from lsp_server import watchdog
from lsp_server.completer import Completer

URI = "file:///project/a.py"
REQUEST = FillRequest(prefix="x = ", deadline_ms=1)
GOOD = fill_with("1", 1.0)


class Faulty:
    """An engine that does what the test says."""

    reach = 100

    def __init__(self, act: Callable[[], Fill]) -> None:
        self._act = act

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill:
        return self._act()


@pytest.fixture
async def hasty(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A watchdog that waits for a moment only."""
    for name, seconds in (("LONG", 0.3), ("UNKNOWN", 0.3)):
        monkeypatch.setattr(watchdog, name, seconds)
    monkeypatch.setattr(completers, "LOOK", 0.02)
    yield


async def loaded(act: Callable[[], Fill]) -> Completer:
    completer = Completer(lambda model, device: Faulty(act))
    completer.load("small")
    await asyncio.wrap_future(completer.loading)
    return completer


async def ask(completer: Completer, request: FillRequest) -> Fill | None:
    """As the server does: each request is a task."""
    return await asyncio.create_task(completer.fill(URI, request))


def raising(error: Exception) -> Callable[[], Fill]:
    def act() -> Fill:
        raise error

    return act


@pytest.mark.parametrize(
    "act",
    [
        raising(RuntimeError("broken")),
        raising(MemoryError()),
        raising(RecursionError()),
        raising(OSError(28, "No space left on device")),
        lambda: msgspec.structs.replace(GOOD, confidence=math.nan),
        lambda: msgspec.structs.replace(GOOD, confidence=math.inf),
        lambda: None,
    ],
)
async def test_an_engine_that_fails_is_told_of_and_the_next_request_is_another(act: Callable[[], Any]) -> None:
    acts = [act, lambda: GOOD]
    completer = await loaded(lambda: acts.pop(0)())
    assert await ask(completer, REQUEST) is None
    assert completer.failure is not None
    assert await ask(completer, REQUEST) == GOOD
    assert completer.failure is None
    completer.close()


@pytest.mark.usefixtures("hasty")
async def test_a_pass_that_does_not_come_back_is_given_up_and_the_model_loaded_anew_three_times() -> None:
    never = threading.Event()
    hangs = [True, False, True, True, True]

    def act() -> Fill:
        if hangs.pop(0):
            never.wait()
        return GOOD

    completer, told = await loaded(act), list[str]()
    completer.on_hang = told.append
    assert await ask(completer, REQUEST) is None
    await asyncio.wrap_future(completer.loading)
    assert await ask(completer, REQUEST) == GOOD
    for number in range(3):
        request = msgspec.structs.replace(REQUEST, prefix=f"y{number} = ")
        assert await ask(completer, request) is None
        if number < 2:
            await asyncio.wrap_future(completer.loading)
    with pytest.raises(EngineError, match="Completion is off"):
        await asyncio.wrap_future(completer.loading)
    assert await ask(completer, msgspec.structs.replace(REQUEST, prefix="z = ")) is None
    assert len(told) == 4
    never.set()
    completer.close()


@pytest.mark.usefixtures("hasty")
async def test_what_comes_back_too_late_changes_nothing() -> None:
    gate = threading.Event()

    def late() -> Fill:
        gate.wait()
        return GOOD

    acts: list[Callable[[], Fill]] = [late, lambda: fill_with("2", 1.0)]
    completer = await loaded(lambda: acts.pop(0)())
    assert await ask(completer, REQUEST) is None
    await asyncio.wrap_future(completer.loading)
    gate.set()
    fill = await ask(completer, msgspec.structs.replace(REQUEST, prefix="y = "))
    assert fill is not None and fill.text == "2"
    completer.close()


# ---------------------------------------------------------------- files


async def test_files_that_are_removed_while_the_server_runs(tmp_path: Path) -> None:
    model = shutil.copytree(WEIGHTS / "small", tmp_path / "model")
    async with LspClient.start([*REAL, "--model", str(model)], cwd=ROOT) as client:
        await client.initialize(initializationOptions={"status": True})
        await client.wait_for("inpaint/status", '"idle"')
        client.open(URI, "import os\n\nfor name in os.listdir('.'):\n    print(name)\n\nfor name in ")
        await client.complete(URI, 5, 12, INVOKED)
        shutil.rmtree(model)
        client.insert(URI, 0, 0, "# more\n")
        await client.complete(URI, 6, 12, INVOKED)
        client.notify("workspace/didChangeConfiguration", {"settings": {"model": str(model), "device": "cpu"}})
        assert "no model" in (await client.wait_for("window/showMessage"))["message"]
        await client.complete(URI, 6, 12, INVOKED)  # by the one before
        assert await client.leave() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_on_standard_output_does_not_keep_the_process() -> None:
    with open("/dev/full", "wb") as full:
        server = subprocess.Popen(REAL, cwd=ROOT, stdin=subprocess.PIPE, stdout=full)
        body = b'{"jsonrpc": "2.0", "id": 1, "method": "shutdown"}'
        server.communicate(b"Content-Length: %d\r\n\r\n%s" % (len(body), body), timeout=60)
    assert server.returncode == 0


def files_of_a_load() -> list[str]:
    """What the engine opens of its own."""
    return [name for name in sorted(os.listdir(WEIGHTS / "small")) if name not in (*READ_BY_PEOPLE, "NOTICE")]


@pytest.mark.parametrize("name", files_of_a_load())
def test_each_file_that_cannot_be_read_is_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = io.open

    def failing(file: Any, *arguments: Any, **options: Any) -> Any:
        if os.path.basename(str(file)) == name:
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, *arguments, **options)

    monkeypatch.setattr(io, "open", failing)
    monkeypatch.setattr(builtins, "open", failing)
    with pytest.raises(EngineError):
        Engine.load("small", "cpu")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_no_memory_for_the_model_is_a_sentence() -> None:
    import resource

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (220 << 20, 220 << 20))

    line = b'{"id": 1, "prefix": "import ", "suffix": ""}\n'
    command = [sys.executable, "-m", "engine", "fill", "--jsonl"]
    done = subprocess.run(command, input=line, capture_output=True, cwd=ROOT, preexec_fn=little, check=False)
    assert done.returncode != 0 or done.stdout
    assert done.returncode >= 0  # it was not killed
