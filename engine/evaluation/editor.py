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
from engine.options import ModelChoice

SERVER = (sys.executable, "-m", "lsp_server", "--stdio")
AUTOMATIC, ERROR = 2, 1
LONGEST = 1 << 24  # bytes of a message
LOADING = 60.0  # seconds in which a model has to load
Json: TypeAlias = Any


class Reply(NamedTuple):
    """When it came, the text of its item, none where there is none, and what an editor runs that inserts it."""

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
        self.state, self.index = "loading", "building"  # as it says in `inpaint/status`
        self._input, self._output = process.stdin, process.stdout
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Json]]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        choice: ModelChoice = ModelChoice(),
        command: tuple[str, ...] = SERVER,
        options: dict[str, Json] | None = None,
        root: str | None = None,
    ) -> AsyncIterator[Editor]:
        """Spawns the server, which loads its model while the client goes on; `root` is the URI of the workspace."""
        pipe, quiet = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL  # it complains over the protocol too
        process = await asyncio.create_subprocess_exec(
            *command, *choice.arguments(), stdin=pipe, stdout=pipe, stderr=quiet, limit=LONGEST
        )
        editor = cls(process)
        reading = asyncio.create_task(editor._read())
        try:
            capabilities = {"general": {"positionEncodings": ["utf-32"]}}
            session = {"processId": None, "rootUri": root, "capabilities": capabilities}
            await editor.request(
                "initialize", {**session, "initializationOptions": {"status": True, **(options or {})}}
            )
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
                elif message.get("method") == "inpaint/status":
                    self.state = message["params"]["state"]
                    self.index = message["params"]["index"]["state"]
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

    def send(self, method: str, params: Json) -> asyncio.Future[dict[str, Json]]:
        """What is to come, with the time of its arrival under "at"."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._write({"id": number, "method": method, "params": params})
        return answer

    async def request(self, method: str, params: Json) -> Json:
        return (await self.send(method, params)).get("result")

    # ---------------------------------------------------------------- what an editor does

    def open(self, uri: str, text: str, language: str = "python") -> None:
        item = {"uri": uri, "languageId": language, "version": 0, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def close(self, uri: str) -> None:
        self.notify("textDocument/didClose", {"textDocument": {"uri": uri}})

    def change(self, uri: str, start: dict[str, int], end: dict[str, int], text: str) -> None:
        change = {"range": {"start": start, "end": end}, "text": text}
        self.notify("textDocument/didChange", {"textDocument": {"uri": uri, "version": 0}, "contentChanges": [change]})

    async def complete(self, uri: str, at: dict[str, int]) -> Reply:
        """The reply to an automatic request."""
        params = {"textDocument": {"uri": uri}, "position": at, "context": {"triggerKind": AUTOMATIC}}
        answer = await self.send("textDocument/inlineCompletion", params)
        for item in (answer.get("result") or {"items": []})["items"]:
            return Reply(answer["at"], item["insertText"], item["command"])
        return Reply(answer["at"])

    def accept(self, command: Json) -> None:
        """Run an item's command, as editors do after they have inserted it."""
        self.send("workspace/executeCommand", {"command": command["command"], "arguments": command.get("arguments")})

    def tell(self, identifier: str, kind: str, characters: int | None = None) -> None:
        """What became of a completion."""
        self.notify("inpaint/feedback", {"id": identifier, "kind": kind, "characters": characters})

    async def statistics(self) -> dict[str, Json]:
        """All that the server keeps of the session."""
        kept: dict[str, Json] = await self.request("inpaint/statistics", None)
        return kept

    async def work(self) -> dict[str, float]:
        """The server's counts of what its requests have cost so far."""
        counts: dict[str, float] = (await self.statistics())["work"]
        return counts

    async def loaded(self) -> None:
        """Waits for the model. Raises EngineError where it cannot be loaded, or not for long."""
        until = time.monotonic() + LOADING
        while self.state in ("loading", "error"):
            if self.complaint or time.monotonic() > until:
                raise EngineError(self.complaint or "the language server does not load its model")
            await asyncio.sleep(0.005)

    async def indexed(self) -> None:
        """Waits for the index of the workspace. Raises EngineError where there is none for long."""
        until = time.monotonic() + LOADING
        while self.index == "building":
            if time.monotonic() > until:
                raise EngineError("the language server does not index the workspace")
            await asyncio.sleep(0.005)


def position(before: str) -> dict[str, int]:
    """The position at the end of a text."""
    return {"line": before.count("\n"), "character": len(before) - before.rfind("\n") - 1}
