"""Inputs that tools like this one were reported to fail on, each a line of inputs.jsonl with what is expected: another
report is another line. None holds the event loop up, whatever is answered.

    {"file", "language"?, "ignore"?, "read"}     whether a file may be read, below an .inpaintignore
    {"language", "file", "named"}                what a client's name of a language means
    {"text", "fill", "language", "shows"?}       what is shown of a fill at the | of a text, by key; the fill is another
                                                 one, "block", where several lines are asked for
    {"beside", "holds"?}                         URI and text of a document beside another, which is completed

A text may be a list of parts, each with how often it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path, PurePath
from typing import Any

import pytest
from lsprotocol import types
from scripted_server import fill_with
from test_messages import Loop

from engine import Fill, FillRequest
from engine.languages import language_of_id
from engine.retrieval.exclusions import IGNORE_FILE
from lsp_server.completer import Completer
from lsp_server.server import create_server, inline_completion
from lsp_server.session import InpaintServer
from lsp_server.settings import Settings

STRETCH = 0.05  # seconds of the loop's processor time
INPUTS = [json.loads(line) for line in Path(__file__).with_name("inputs.jsonl").read_text().splitlines()]
Kind = types.InlineCompletionTriggerKind
GOOD = "file:///project/good"


def of_kind(name: str) -> pytest.MarkDecorator:
    given = [each for each in INPUTS if name in each]
    return pytest.mark.parametrize("given", given, ids=lambda each: json.dumps(each)[:60])


def written(text: Any) -> str:
    return text if isinstance(text, str) else "".join(part * times for part, times in text)


class Says:
    """An engine that says one thing."""

    reach = 100_000
    text, block = "", None  # where one line is asked for; where several are, if that is another

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill:
        text = self.text if request.max_lines == 1 or self.block is None else self.block
        return fill_with("" if request.others else text, 1.0)

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        return True


@contextlib.asynccontextmanager
async def going_on() -> AsyncIterator[None]:
    """The loop has its turns."""
    loop = Loop()
    gc.disable()
    watching = asyncio.create_task(loop.watch())
    await asyncio.sleep(0)
    yield
    await asyncio.sleep(0)
    watching.cancel()
    gc.enable()
    assert loop.longest < STRETCH


async def tell(ls: InpaintServer, method: str, params: Any, **more: Any) -> None:
    await ls.protocol.receive(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **more}).encode())


@pytest.fixture
async def ls() -> AsyncIterator[InpaintServer]:
    completer = Completer(lambda *_: Says())
    completer.load("small")
    server = create_server(completer, Settings(workspace=False))
    await tell(server, "initialize", {"capabilities": {}, "processId": None}, id=1)
    await asyncio.wrap_future(completer.loading)
    yield server
    completer.close()


async def opened(ls: InpaintServer, uri: str, text: str, language: str = "python") -> None:
    item = {"uri": uri, "languageId": language, "version": 1, "text": text}
    await tell(ls, "textDocument/didOpen", {"textDocument": item})


async def shown(ls: InpaintServer, uri: str, marked: str, kind: Kind = Kind.Invoked) -> str:
    """What is shown at the mark of the document's text."""
    before = marked.partition("|")[0]
    position = types.Position(before.count("\n"), len(before) - before.rfind("\n") - 1)
    context = types.InlineCompletionContext(kind)
    asked = types.InlineCompletionParams(context, types.TextDocumentIdentifier(uri), position)
    answer = await asyncio.create_task(inline_completion(ls, asked))
    return next((item.insert_text for item in answer.items if isinstance(item.insert_text, str)), "")


@of_kind("read")
async def test_whether_a_file_may_be_read(given: dict[str, Any], tmp_path: Path) -> None:
    file = PurePath(written(given["file"]))
    if "ignore" in given:
        (tmp_path / IGNORE_FILE).write_text(written(given["ignore"]))
        file = tmp_path / file
    async with going_on():
        at_once = Settings().allow(file, given.get("language", ""), wait=False)
        in_time = await asyncio.to_thread(Settings().allow, file, given.get("language", ""))
    assert in_time is given["read"]
    assert in_time or not at_once


@of_kind("named")
def test_what_a_language_is_called(given: dict[str, Any]) -> None:
    assert language_of_id(given["language"], given["file"]) == given["named"]


@of_kind("fill")
async def test_what_is_shown(given: dict[str, Any], ls: InpaintServer, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = written(given["text"])
    monkeypatch.setattr(Says, "text", written(given["fill"]))
    monkeypatch.setattr(Says, "block", given.get("block"))
    async with going_on():
        await opened(ls, GOOD, marked.replace("|", "", 1), given["language"])
        text = await shown(ls, GOOD, marked)
    assert text == given.get("shows", text)
    if "block" in given:  # what a key shows is no less than what is shown unasked, before and after
        assert await shown(ls, GOOD, marked, Kind.Automatic) == text


@of_kind("beside")
async def test_a_fault_stays_with_its_document(
    given: dict[str, Any], ls: InpaintServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Says, "text", "1")
    async with going_on():
        await opened(ls, written(given["beside"]), written(given.get("holds", "x")))
        await opened(ls, GOOD, "x = ")
        assert await shown(ls, GOOD, "x = |") == "1"
