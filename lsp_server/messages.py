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


class ContentChange(msgspec.Struct, gc=False):
    """Of a part of the text, or of all of it; `text` is JSON."""

    text: msgspec.Raw
    range: Range | None = None


class DocumentIdentifier(msgspec.Struct, gc=False):
    uri: str
    version: int | None = None


class DocumentItem(msgspec.Struct, rename="camel"):
    """A document that is opened; `text` is JSON."""

    uri: str
    language_id: str
    text: msgspec.Raw
    version: int | None = None


class DidOpenParams(msgspec.Struct, rename="camel"):
    text_document: DocumentItem


class DidChangeParams(msgspec.Struct, rename="camel"):
    """`content_changes` are JSON, each a ContentChange."""

    text_document: DocumentIdentifier
    content_changes: list[msgspec.Raw]


class DidCloseParams(msgspec.Struct, rename="camel"):
    text_document: DocumentIdentifier


class NotebookCell(msgspec.Struct, gc=False):
    """Of a notebook: the URI of its document."""

    document: str


class NotebookDocument(msgspec.Struct):
    uri: str
    cells: list[NotebookCell]


class DidOpenNotebookParams(msgspec.Struct, rename="camel"):
    """`cell_text_documents` are JSON, each a DocumentItem."""

    notebook_document: NotebookDocument
    cell_text_documents: list[msgspec.Raw]


class CellArrayChange(msgspec.Struct, rename="camel"):
    """Cells put in the place of others."""

    start: int
    delete_count: int
    cells: list[NotebookCell] | None = None


class CellStructureChange(msgspec.Struct, rename="camel"):
    """Which cells there are; `did_open` are JSON, each a DocumentItem."""

    array: CellArrayChange
    did_open: list[msgspec.Raw] | None = None
    did_close: list[DocumentIdentifier] | None = None


class CellTextChange(msgspec.Struct):
    """`changes` of a cell's text are JSON, each a ContentChange."""

    document: DocumentIdentifier
    changes: list[msgspec.Raw]


class CellChanges(msgspec.Struct, rename="camel"):
    """`text_content` are JSON, each a CellTextChange."""

    structure: CellStructureChange | None = None
    text_content: list[msgspec.Raw] | None = None


class NotebookChange(msgspec.Struct):
    cells: CellChanges | None = None


class DidChangeNotebookParams(msgspec.Struct, rename="camel"):
    notebook_document: DocumentIdentifier
    change: NotebookChange


class DidSaveNotebookParams(msgspec.Struct, rename="camel"):
    notebook_document: DocumentIdentifier


class DidCloseNotebookParams(msgspec.Struct, rename="camel"):
    notebook_document: DocumentIdentifier
    cell_text_documents: list[DocumentIdentifier]


class DidFocusParams(msgspec.Struct, rename="camel"):
    """Where the user looks."""

    text_document: DocumentIdentifier
    position: Position | None = None


class FeedbackParams(msgspec.Struct):
    """`characters` are the UTF-16 units just accepted."""

    id: str
    kind: Literal["partlyAccepted", "dismissed"]
    characters: int | None = None


class NextEditParams(msgspec.Struct, rename="camel"):
    """Where the cursor is, in which version of the text."""

    text_document: DocumentIdentifier
    position: Position


class DidRejectParams(msgspec.Struct):
    """Only who rejects an edit does not want another like it."""

    id: str
    reason: Literal["rejected", "ignored", "replaced", "cancelled"] = "rejected"


TEXT = {
    types.TEXT_DOCUMENT_DID_OPEN: DidOpenParams,
    types.TEXT_DOCUMENT_DID_CHANGE: DidChangeParams,
    types.TEXT_DOCUMENT_DID_CLOSE: DidCloseParams,
    types.NOTEBOOK_DOCUMENT_DID_OPEN: DidOpenNotebookParams,
    types.NOTEBOOK_DOCUMENT_DID_CHANGE: DidChangeNotebookParams,
    types.NOTEBOOK_DOCUMENT_DID_SAVE: DidSaveNotebookParams,
    types.NOTEBOOK_DOCUMENT_DID_CLOSE: DidCloseNotebookParams,
}
OWN = {
    FEEDBACK: FeedbackParams,
    DID_FOCUS: DidFocusParams,
    NEXT_EDIT: NextEditParams,
    COPILOT: NextEditParams,
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


class LoopPauser:
    """Lets the event loop have its turn in long work."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def pause(self) -> None:
        if time.perf_counter() - self._since > STRETCH:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
