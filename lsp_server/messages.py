"""The messages that carry text, read without a stretch of work that would hold the event loop up, and those of our own.

lsprotocol's types take a second for 20,000 changes, and a JSON parser as long for a document of millions of lines. Here
the texts stay as they came until they are wanted, and a long one is read in pieces.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import Literal

import msgspec
from lsprotocol import types

FEEDBACK = "inpaint/feedback"  # what became of a completion that was not accepted as a whole
DID_FOCUS = "textDocument/didFocus"  # no standard, but what Copilot's clients send too
NEXT_EDIT, COPILOT = "inpaint/nextEdit", "textDocument/copilotInlineEdit"  # ours, and Copilot's name of it
DID_SHOW, DID_REJECT = "textDocument/didShowInlineEdit", "inpaint/didRejectNextEdit"

PIECE = 1 << 17  # bytes of JSON
STRETCH = 0.01  # seconds of work, after which the loop gets its turn
NEWLINE = re.compile(rb"[^\\]\\n")  # as JSON writes it: after it, no character and no escape goes on


class RpcMessage(msgspec.Struct):
    """Any message; `params` is JSON."""

    jsonrpc: str
    method: str
    params: msgspec.Raw = msgspec.Raw(b"null")
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Position(msgspec.Struct, gc=False):
    line: int
    character: int


class Range(msgspec.Struct, gc=False):
    start: Position
    end: Position


class TextChange(msgspec.Struct, gc=False):
    """Of a part of the text, or of all of it; `text` is JSON."""

    text: msgspec.Raw
    range: Range | None = None


class Identifier(msgspec.Struct, gc=False):
    uri: str
    version: int | None = None


class DocumentItem(msgspec.Struct, rename="camel"):
    """A document that is opened; `text` is JSON."""

    uri: str
    language_id: str
    text: msgspec.Raw
    version: int | None = None


class DidOpen(msgspec.Struct, rename="camel"):
    text_document: DocumentItem


class DidChange(msgspec.Struct, rename="camel"):
    """`content_changes` are JSON, each a TextChange."""

    text_document: Identifier
    content_changes: list[msgspec.Raw]


class DidClose(msgspec.Struct, rename="camel"):
    text_document: Identifier


class Cell(msgspec.Struct, gc=False):
    """Of a notebook: the URI of its document."""

    document: str


class Notebook(msgspec.Struct):
    uri: str
    cells: list[Cell]


class NotebookDidOpen(msgspec.Struct, rename="camel"):
    """`cell_text_documents` are JSON, each a DocumentItem."""

    notebook_document: Notebook
    cell_text_documents: list[msgspec.Raw]


class Splice(msgspec.Struct, rename="camel"):
    """Cells put in the place of others."""

    start: int
    delete_count: int
    cells: list[Cell] | None = None


class Structure(msgspec.Struct, rename="camel"):
    """Which cells there are; `did_open` are JSON, each a DocumentItem."""

    array: Splice
    did_open: list[msgspec.Raw] | None = None
    did_close: list[Identifier] | None = None


class CellContent(msgspec.Struct):
    """`changes` of a cell's text are JSON, each a TextChange."""

    document: Identifier
    changes: list[msgspec.Raw]


class CellChanges(msgspec.Struct, rename="camel"):
    """`text_content` are JSON, each a CellContent."""

    structure: Structure | None = None
    text_content: list[msgspec.Raw] | None = None


class NotebookChange(msgspec.Struct):
    cells: CellChanges | None = None


class NotebookDidChange(msgspec.Struct, rename="camel"):
    notebook_document: Identifier
    change: NotebookChange


class NotebookDidSave(msgspec.Struct, rename="camel"):
    notebook_document: Identifier


class NotebookDidClose(msgspec.Struct, rename="camel"):
    notebook_document: Identifier
    cell_text_documents: list[Identifier]


class Focus(msgspec.Struct, rename="camel"):
    """Where the user looks."""

    text_document: Identifier
    position: Position | None = None


class FeedbackParams(msgspec.Struct):
    """`characters` are the UTF-16 units just accepted."""

    id: str
    kind: Literal["partlyAccepted", "dismissed"]
    characters: int | None = None


class NextEditParams(msgspec.Struct, rename="camel"):
    """Where the cursor is, in which version of the text."""

    text_document: Identifier
    position: Position


class Command(msgspec.Struct):
    arguments: list[str]


class ShownItem(msgspec.Struct):
    command: Command


class DidShowParams(msgspec.Struct):
    item: ShownItem


class DidRejectParams(msgspec.Struct):
    """Only who rejects an edit does not want another like it."""

    id: str
    reason: Literal["rejected", "ignored", "replaced", "cancelled"] = "rejected"


TEXT = {
    types.TEXT_DOCUMENT_DID_OPEN: DidOpen,
    types.TEXT_DOCUMENT_DID_CHANGE: DidChange,
    types.TEXT_DOCUMENT_DID_CLOSE: DidClose,
    types.NOTEBOOK_DOCUMENT_DID_OPEN: NotebookDidOpen,
    types.NOTEBOOK_DOCUMENT_DID_CHANGE: NotebookDidChange,
    types.NOTEBOOK_DOCUMENT_DID_SAVE: NotebookDidSave,
    types.NOTEBOOK_DOCUMENT_DID_CLOSE: NotebookDidClose,
}
OWN = {
    FEEDBACK: FeedbackParams,
    DID_FOCUS: Focus,
    NEXT_EDIT: NextEditParams,
    COPILOT: NextEditParams,
    DID_SHOW: DidShowParams,
    DID_REJECT: DidRejectParams,
}


def pieces(literal: msgspec.Raw) -> Iterator[str]:
    """The value of a string of JSON, in pieces that end at newlines but for the last. Raises ValueError for others."""
    written = memoryview(literal)
    if len(written) <= PIECE:
        yield string(bytes(written))
        return
    at, end = 1, len(written) - 1
    while found := NEWLINE.search(written, at + PIECE, end):
        yield string(b'"%b"' % bytes(written[at : found.end()]))
        at = found.end()
    yield string(b'"%b"' % bytes(written[at:end]))


def string(literal: bytes) -> str:
    text = json.loads(literal.decode())  # msgspec takes no lone surrogates, of which JSON may have some
    if not isinstance(text, str):
        raise ValueError("a text is a string")
    return text


class Breath:
    """Lets the event loop have its turn in long work."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def take(self) -> None:
        if time.perf_counter() - self._since > STRETCH:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
