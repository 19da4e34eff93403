"""Text messages: read in pieces, and in stretches of work that leave the event loop its turn."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from pytest import MonkeyPatch

from lsp_server import messages
from lsp_server.completer import Completer
from lsp_server.messages import pieces
from lsp_server.server import create_server
from lsp_server.session import InpaintServer
from lsp_server.settings import Settings

URI = "file:///a.py"
STRETCH = 0.1  # seconds of processor time; alone on the machine it is 0.02, and what is to be found takes seconds


def read(text: str, ascii_only: bool = True) -> list[str]:
    return list(pieces(msgspec.Raw(json.dumps(text, ensure_ascii=ascii_only).encode())))


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    "text",
    ["", "\n", "a\nb", "\\n", "\\\n", "\\\\n\\\\\n", '"\n"', "é😀\n" * 9, "\r\n" * 9, "\\" * 9 + "\n", "\ud83d\n"],
)
def test_the_pieces_are_the_text_and_end_at_newlines(text: str, ascii_only: bool, monkeypatch: MonkeyPatch) -> None:
    if not ascii_only and not text.isprintable() and "\ud83d" in text:
        return  # has no UTF-8
    monkeypatch.setattr(messages, "PIECE", 2)
    taken = read(text, ascii_only)
    assert "".join(taken) == text
    assert all(piece.endswith("\n") for piece in taken[:-1])


@pytest.mark.parametrize("literal", [b"1", b"null", b"[]", b'{"a": 1}', b'"\xff"'])
def test_what_is_no_text(literal: bytes) -> None:
    with pytest.raises(ValueError):
        list(pieces(msgspec.Raw(literal)))


# ---------------------------------------------------------------- the loop


class Loop:
    """The longest stretch of processor time between two turns of another task of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, before = max(self.longest, now - before), now


@pytest.fixture
async def ls() -> AsyncIterator[InpaintServer]:
    completer = Completer()
    server = create_server(completer, Settings())
    await tell(server, "initialize", {"capabilities": {}, "processId": None}, id=1)
    yield server
    completer.close()


async def tell(ls: InpaintServer, method: str, params: Any, **more: Any) -> float:
    """Send a message. Returns the longest stretch."""
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **more}).encode()
    gc.collect()
    gc.freeze()  # to look through what the other tests have left takes longer than what is measured
    loop = Loop()
    watching = asyncio.create_task(loop.watch())
    await asyncio.sleep(0)
    await ls.protocol.receive(bytearray(body))
    gc.unfreeze()
    watching.cancel()
    return loop.longest


def change(line: int, character: int, text: str) -> dict[str, Any]:
    position = {"line": line, "character": character}
    return {"range": {"start": position, "end": position}, "text": text}


async def opened(ls: InpaintServer, text: str) -> float:
    item = {"uri": URI, "languageId": "python", "version": 1, "text": text}
    return await tell(ls, "textDocument/didOpen", {"textDocument": item})


async def changed(ls: InpaintServer, changes: list[dict[str, Any]]) -> float:
    return await tell(
        ls, "textDocument/didChange", {"textDocument": {"uri": URI, "version": 2}, "contentChanges": changes}
    )


async def test_a_document_of_four_million_lines_and_a_key_in_it(ls: InpaintServer) -> None:
    stretches = [await opened(ls, "x = 1\n" * 4_000_000)]
    stretches += [await changed(ls, [change(line, 0, "y\n")]) for line in (0, 2_000_000, 3_999_999)]
    stretches += [await changed(ls, [{"text": "x = 2\n" * 4_000_000}])]
    assert len(ls.documents[URI]) == 4_000_001
    assert max(stretches) < STRETCH


@pytest.mark.parametrize("text", ["y", "y\n", "é"])
async def test_twenty_thousand_changes_in_one_message(ls: InpaintServer, text: str) -> None:
    await opened(ls, "x = 1\n" * 100_000)
    assert await changed(ls, [change(0, 0, text)] * 20_000) < STRETCH
    assert "".join(ls.documents[URI].lines) == text * 20_000 + "x = 1\n" * 100_000


async def test_a_hundred_thousand_inserts_at_the_beginning(ls: InpaintServer) -> None:
    await opened(ls, "")
    body = [change(0, 0, "y" if number % 10 else "z\n") for number in range(10_000)]
    assert max([await changed(ls, body) for _ in range(10)]) < STRETCH
    assert len(ls.documents[URI]) == 10_001


async def test_a_notebook_of_three_thousand_cells_and_a_long_one(ls: InpaintServer) -> None:
    uris = [f"vscode-notebook-cell:/a.ipynb#{number}" for number in range(3_001)]
    cells = [{"kind": 2, "document": uri} for uri in uris]
    texts = ["import os\n"] * 3_000 + ["x = 1\n" * 1_000_000]
    items = [
        {"uri": uri, "languageId": "python", "version": 1, "text": text} for uri, text in zip(uris, texts, strict=True)
    ]
    notebook = {"uri": "file:///a.ipynb", "notebookType": "jupyter-notebook", "version": 1, "cells": cells}
    stretches = [await tell(ls, "notebookDocument/didOpen", {"notebookDocument": notebook, "cellTextDocuments": items})]
    assert len(ls.documents) == 3_001
    about, identifiers = {"uri": "file:///a.ipynb", "version": 2}, [{"uri": uri} for uri in uris]
    contents = [{"document": {"uri": uri, "version": 2}, "changes": [change(0, 0, "y")]} for uri in uris]
    for message, params in [
        ("didChange", {"change": {"cells": {"textContent": contents}}}),
        ("didSave", {}),
        ("didClose", {"cellTextDocuments": identifiers}),
    ]:
        assert all(document.lines[0].startswith("y") for document in ls.documents.values()) or message == "didChange"
        stretches.append(await tell(ls, f"notebookDocument/{message}", {"notebookDocument": about, **params}))
    assert ls.documents == {}
    assert max(stretches) < STRETCH


@pytest.mark.parametrize("wrong", [{"text": 1}, {"text": "x", "range": {}}, {}, None])
async def test_a_change_that_cannot_be_read_forgets_the_document(ls: InpaintServer, wrong: Any) -> None:
    await opened(ls, "x")
    await changed(ls, [change(0, 0, "y"), wrong])
    assert URI not in ls.documents
