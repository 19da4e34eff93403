"""What an editor is to the language server: a process that sends changes and requests on its input.

It knows framing, ids and positions, and nothing of the server but its command. Positions are in utf-32 units, indices
into a Python string.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from engine.contract import EngineError

SERVER = (sys.executable, "-m", "lsp_server", "--stdio")
AUTOMATIC, ERROR = 2, 1
LOADING = 60.0  # seconds in which a model has to load
Json: TypeAlias = Any


class Answer(NamedTuple):
    """To a request: its id, when it was asked, and what is to come, with the time of its arrival under "at"."""

    number: int
    asked: float
    future: asyncio.Future[dict[str, Json]]

    def done(self) -> bool:
        return self.future.done()


class Reply(NamedTuple):
    """When it came, and the text of its item; none where there is no item or the request was cancelled."""

    at: float
    text: str = ""
    command: Json = None


class Editor:
    """One server process and its open documents."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self.complaint = ""  # of the server: an error it wants the user to see
        self._input, self._output = process.stdin, process.stdout
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Json]]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, model: str = "nano") -> AsyncIterator[Editor]:
        """Spawns the server, which loads its model while the client goes on."""
        pipe, quiet = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL  # it complains over the protocol too
        command = (*SERVER, "--model", model)
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=quiet)
        editor = cls(process)
        reading = asyncio.create_task(editor._read())
        try:
            capabilities = {"general": {"positionEncodings": ["utf-32"]}}
            await editor.request("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities})
            editor.notify("initialized", {})
            yield editor
            await editor.request("shutdown", None)
            editor.notify("exit", None)
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            await asyncio.gather(process.wait(), reading)

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                header = await self._output.readuntil(b"\r\n\r\n")
                length = int(header.partition(b"Content-Length:")[2].split()[0])
                message = msgspec.json.decode(await self._output.readexactly(length))
                if message.get("method") == "window/showMessage" and message["params"]["type"] == ERROR:
                    self.complaint = message["params"]["message"].removeprefix("Inpaint: ")
                elif "method" not in message:
                    self._waiting.pop(message["id"]).set_result(message | {"at": time.perf_counter()})
        for answer in self._waiting.values():
            answer.set_exception(
                EngineError("the language server has ended; to see why, run python -m lsp_server --try FILE:1:1")
            )

    def _write(self, message: dict[str, Json]) -> None:
        body = msgspec.json.encode({"jsonrpc": "2.0", **message})
        self._input.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def notify(self, method: str, params: Json) -> None:
        self._write({"method": method, "params": params})

    def send(self, method: str, params: Json) -> Answer:
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        answer = Answer(number, time.perf_counter(), future)
        self._write({"id": number, "method": method, "params": params})
        return answer

    async def request(self, method: str, params: Json) -> Json:
        return (await self.send(method, params).future).get("result")

    # ---------------------------------------------------------------- what an editor does

    def open(self, uri: str, text: str) -> None:
        item = {"uri": uri, "languageId": "python", "version": 0, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def close(self, uri: str) -> None:
        self.notify("textDocument/didClose", {"textDocument": {"uri": uri}})

    def change(self, uri: str, start: dict[str, int], end: dict[str, int], text: str) -> None:
        change = {"range": {"start": start, "end": end}, "text": text}
        self.notify("textDocument/didChange", {"textDocument": {"uri": uri, "version": 0}, "contentChanges": [change]})

    def ask(self, uri: str, at: dict[str, int]) -> Answer:
        """An automatic completion request."""
        params = {"textDocument": {"uri": uri}, "position": at, "context": {"triggerKind": AUTOMATIC}}
        return self.send("textDocument/inlineCompletion", params)

    async def complete(self, uri: str, at: dict[str, int]) -> Reply:
        return reply(await self.ask(uri, at).future)

    def accept(self, command: Json) -> None:
        """Run an item's command, as editors do after they have inserted it."""
        self.send("workspace/executeCommand", {"command": command["command"], "arguments": command.get("arguments")})

    def cancel(self, number: int) -> None:
        self.notify("$/cancelRequest", {"id": number})

    async def work(self) -> dict[str, float]:
        """The server's counts of what its requests have cost so far."""
        counts: dict[str, float] = (await self.request("inpaint/statistics", None))["work"]
        return counts

    async def loaded(self) -> None:
        """Waits for the first completion. Raises EngineError where there is none for long."""
        uri, until = "file:///loading.py", time.monotonic() + LOADING
        self.open(uri, "import numpy as \n\nimport os\n")
        while not (await self.complete(uri, {"line": 0, "character": 16})).text:
            if self.complaint or time.monotonic() > until:
                raise EngineError(self.complaint or "the language server gives no completion")
            await asyncio.sleep(0.005)


def reply(answer: dict[str, Json]) -> Reply:
    for item in (answer.get("result") or {"items": []})["items"]:
        return Reply(answer["at"], item["insertText"], item["command"])
    return Reply(answer["at"])


def position(before: str) -> dict[str, int]:
    """The position at the end of a text."""
    return {"line": before.count("\n"), "character": len(before) - before.rfind("\n") - 1}
