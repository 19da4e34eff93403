"""One next edit's life: the question, what is due once the user has paused, the offer's id, and what became of it.

The request has the shape of Copilot's `textDocument/copilotInlineEdit`, which is another name for it. The search takes
milliseconds, in a thread, and no model: completions go first all the same, and any change of the text ends it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Literal

from lsprotocol import types

from engine.next_edit.replay import KEPT, EditOffer, LineEdit, NoOfferReason, SettledEdit, propose
from engine.next_edit.substitution import Replacement, substitution
from lsp_server.buffers import Point, without_end
from lsp_server.documents import Document, Documents
from lsp_server.messages import DidRejectParams, NextEditParams
from lsp_server.settings import Json

APPLIED = "inpaint.nextEditApplied"  # the command that a client runs once it has made the edit

IDLE = 0.4  # seconds without a change, after which an edit is done though the cursor is still in its line
LARGEST = 400_000  # characters of a document that is searched
MANY = 30  # places from which on all are offered at once
SEEN = 100  # offers that are remembered

NextEditReason = Literal[NoOfferReason, "offered", "large"]
EXPLANATIONS: dict[NextEditReason, str] = {
    "offered": "An edit is offered.",
    "once": "Nothing was changed here twice in the same way.",
    "nowhere": "What was changed twice stands nowhere else in this file.",
    "passed": "What was changed twice stands at a place that was passed over, so not all are meant.",
    "far": "What was changed twice stands only far away, where it is less likely meant.",
    "rejected": "This change was rejected in this session.",
    "reversal": "It would take back what was changed before.",
    "unsure": "The two changes have too little in common, or the next place is not quite like them.",
    "error": "It would make a syntax error at the next place.",
    "large": f"The file has more than {LARGEST} characters.",
}


class NextEdits:
    """A session's: those that were offered, what was rejected, and why there is none now."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._offered: dict[str, Replacement] = {}  # by id, oldest first
        self._ids = itertools.count(1)
        self._muted: set[Replacement] = set()
        self.counts = {"shown": 0, "accepted": 0, "rejected": 0}
        self.why: NextEditReason = "once"

    async def answer(self, asked: NextEditParams) -> Json:
        """The one edit that is due, in the protocol's shape; beside it all edits, where there are many places."""
        document = self._documents.get(asked.text_document.uri)
        if document is None or asked.text_document.version not in (None, document.version):
            return {"edits": []}
        version = document.version
        await pause(document, asked.position.line)
        found = await self._search(asked.text_document.uri, document)
        if self._documents.get(asked.text_document.uri) is not document or document.version != version:
            return {"edits": []}
        if not isinstance(found, EditOffer):
            self.why = found
            return {"edits": []}
        self.why = "offered"
        return self._written(found, asked.text_document.uri, document)

    async def _search(self, uri: str, document: Document) -> EditOffer | NextEditReason:
        settled = self._settled(uri)
        if not settled:
            return "once"
        text = document.after(Point(0, 0), LARGEST)
        if len(text) == LARGEST:
            return "large"
        return await asyncio.to_thread(propose, settled, text, document.language, frozenset(self._muted))

    def _settled(self, uri: str) -> list[SettledEdit]:
        """The last edits of all open documents, where the very last is one of this document and its line still reads
        as it left it; else none.
        """
        made = ((each, name) for name, document in self._documents.items() for each in document.edits.ours())
        last = heapq.nlargest(2 * KEPT, made, key=lambda each: each[0].number)[::-1]
        document = self._documents[uri]
        latest = document.edits.latest
        if not last or last[-1][0] is not latest or not 0 <= latest.line < len(document):
            return []
        if without_end(document.lines[latest.line]) != latest.new or substitution(latest.old, latest.new) is None:
            return []
        found = ((name, each.line, substitution(each.old, each.new)) for each, name in last)
        return [SettledEdit(name, line, made) for name, line, made in found if made is not None]

    def _written(self, offer: EditOffer, uri: str, document: Document) -> Json:
        identifier = str(next(self._ids))
        self._offered[identifier] = offer.what
        if len(self._offered) > SEEN:
            del self._offered[next(iter(self._offered))]
        edits = [text_edit(change, document) for change in offer.changes]
        more, many = len(edits) - 1, len(edits) > MANY
        like = f"all {len(edits)} like this" if many else f"{more} more like this" if more else "the last like this"
        first = edits[0] | {
            "textDocument": {"uri": uri, "version": document.version},
            "command": {"title": "Next edit applied", "command": APPLIED, "arguments": [identifier]},
            "id": identifier,
            "kind": "edit",
            "label": like,
        }
        return {"edits": [first]} | ({"all": edits} if many else {})

    def rejected(self, report: DidRejectParams) -> None:
        """Mute what was rejected."""
        if report.id in self._offered and report.reason == "rejected":
            self._muted.add(self._offered.pop(report.id))
            self.counts["rejected"] += 1
            self.why = "rejected"

    def applied(self, *arguments: Json) -> None:
        """The command of an edit; without its id there is nothing to note."""
        if arguments and isinstance(arguments[0], str) and arguments[0] in self._offered:
            del self._offered[arguments[0]]
            self.counts["accepted"] += 1


async def pause(document: Document, line: int) -> None:
    """Wait until the edit is settled: at once where the cursor has left its line."""
    latest = document.edits.latest
    if latest is not None and latest.line == line:
        await asyncio.sleep(max(0.0, document.edits.touched + IDLE - time.monotonic()))


def text_edit(change: LineEdit, document: Document) -> dict[str, Json]:
    start, end = (document.position(Point(change.line, column)) for column in (change.start, change.end))
    return {"text": change.text, "range": types.Range(start, end)}
