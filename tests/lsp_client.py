"""A small LSP client over a server's stdin and stdout, for tests: it knows framing, ids and nothing else.

async with LspClient.start([sys.executable, "-m", "lsp_server", "--stdio"]) as client:
    await client.initialize()
    client.open("file:///a.py", "def f():\\n    ")
    items = await client.complete("file:///a.py", 1, 4)
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).parents[1]
REAL = [sys.executable, "-m", "lsp_server", "--log", "none", "--stdio"]
SCRIPTED = [sys.executable, str(ROOT / "tests" / "lsp_server" / "scripted_server.py"), "--log", "none", "--stdio"]
PATIENCE = 60.0  # seconds: only a hang is ever as slow
AUTOMATIC, INVOKED = 2, 1

Json: TypeAlias = Any


def script(text: str = "", **options: Json) -> str:
    """The first line of a document, which tells the engine of the scripted server what to do."""
    return "#" + json.dumps({"text": text, **options}) + "\n"


class LspError(Exception):
    """The server answered a request with an error; `code` is its JSON-RPC code."""

    def __init__(self, error: dict[str, Json]) -> None:
        super().__init__(error["message"])
        self.code = error["code"]


class LspClient:
    """One server process. `received` has what the server sent on its own accord: notifications and requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.process: asyncio.subprocess.Process | None = None
        self.errors: asyncio.Task[bytes] | None = None
        self.received: list[dict[str, Json]] = []
        self.answers: dict[str, Json] = {}  # to requests of the server, by method
        self.arrival = asyncio.Condition()
        self.order: list[int] = []  # ids in the order of their answers
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._versions = itertools.count(1)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, command: Sequence[str], **options: Json) -> AsyncIterator[LspClient]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, **options)
        client = cls(process.stdout, process.stdin)
        client.process, client.errors = process, asyncio.create_task(process.stderr.read())
        reading = asyncio.create_task(client.read())
        try:
            yield client
        finally:
            if process.returncode is None:
                process.kill()
            await asyncio.gather(process.wait(), reading, client.errors)

    async def read(self) -> None:
        """Take what the server sends, until it closes its end."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                header = await self._reader.readuntil(b"\r\n\r\n")
                length = next(int(line[16:]) for line in header.split(b"\r\n") if line.startswith(b"Content-Length: "))
                await self._take(json.loads(await self._reader.readexactly(length)))
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionError("the server has gone"))

    async def _take(self, message: dict[str, Json]) -> None:
        if "method" in message:
            if "id" in message:  # most requests of this server want nothing but an acknowledgement
                self._send({"id": message["id"], "result": self.answers.get(message["method"])})
            async with self.arrival:
                self.received.append(message)
                self.arrival.notify_all()
            return
        if message["id"] is None:  # an error about what was no request
            self.received.append({"method": "", **message})
            return
        self.order.append(message["id"])
        future = self._waiting.pop(message["id"], None)
        if future is None or future.done():  # given up by the test, or none of its own
            return
        if "error" in message:
            future.set_exception(LspError(message["error"]))
        else:
            future.set_result(message["result"])

    def _send(self, message: dict[str, Json]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def notify(self, method: str, params: Json = None) -> None:
        self._send({"method": method, "params": params})

    def send(self, method: str, params: Json = None) -> tuple[int, asyncio.Future[Json]]:
        """Send a request. Returns its id and a future of the result."""
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._send({"id": number, "method": method, "params": params})
        return number, future

    async def request(self, method: str, params: Json = None) -> Json:
        return await asyncio.wait_for(self.send(method, params)[1], PATIENCE)

    async def wait_for(self, method: str, containing: str = "") -> dict[str, Json]:
        """The parameters of the first message of the server of that method that contain that text."""

        def find() -> dict[str, Json] | None:
            found = (m for m in self.received if m["method"] == method and containing in json.dumps(m))
            return next(found, None)

        await self.until(find)
        return find()["params"]

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until what the server has sent makes something true."""
        async with self.arrival:
            await asyncio.wait_for(self.arrival.wait_for(true), PATIENCE)

    # -------------------------------------------------------------- what an editor does

    async def initialize(
        self, encodings: Sequence[str] = ("utf-16",), progress: bool = False, **extra: Json
    ) -> dict[str, Json]:
        capabilities = {"general": {"positionEncodings": encodings}, "window": {"workDoneProgress": progress}}
        params = {"processId": None, "rootUri": None, "capabilities": capabilities, **extra}
        result = await self.request("initialize", params)
        self.notify("initialized", {})
        return result["capabilities"]

    def open(self, uri: str, text: str, language: str = "python") -> None:
        item = {"uri": uri, "languageId": language, "version": next(self._versions), "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def change(self, uri: str, *changes: dict[str, Json]) -> None:
        document = {"uri": uri, "version": next(self._versions)}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": changes})

    def insert(self, uri: str, line: int, character: int, text: str) -> None:
        self.change(uri, {"range": span(line, character), "text": text})

    def ask(
        self, uri: str, line: int, character: int, kind: int = AUTOMATIC, **context: Json
    ) -> tuple[int, asyncio.Future[Json]]:
        """Send a completion request. Returns its id and a future of its result."""
        context = {"triggerKind": kind, **context}
        position = {"line": line, "character": character}
        params = {"textDocument": {"uri": uri}, "position": position, "context": context}
        return self.send("textDocument/inlineCompletion", params)

    async def complete(self, uri: str, line: int, character: int, kind: int = AUTOMATIC, **context: Json) -> list[Json]:
        """The items of a completion request."""
        result = await asyncio.wait_for(self.ask(uri, line, character, kind, **context)[1], PATIENCE)
        return result["items"]

    def close(self) -> None:
        """Close the server's input without a word."""
        self._writer.close()

    async def stderr(self) -> str:
        """All that the server wrote on stderr; it must have ended."""
        return (await self.errors).decode()

    def cancel(self, number: int) -> None:
        self.notify("$/cancelRequest", {"id": number})

    async def leave(self) -> int:
        """Shut the server down as the protocol has it. Returns the exit code."""
        await self.request("shutdown")
        self.notify("exit")
        return await self.gone()

    async def gone(self) -> int:
        """The exit code, once the server has ended."""
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


def span(line: int, start: int, end: int | None = None) -> dict[str, Json]:
    """A range within a line; empty where no end is given."""
    end = start if end is None else end
    return {"start": {"line": line, "character": start}, "end": {"line": line, "character": end}}
