"""From what a client asks at a place to the items that it is offered."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import msgspec
from lsprotocol import types

from engine import Fill, FillRequest
from lsp_server.buffers import without_end
from lsp_server.cursor import CursorContext, context_at, fill_request
from lsp_server.feedback import ACCEPTED
from lsp_server.gate import GateDecision, decide
from lsp_server.postprocess import postprocess
from lsp_server.session import InpaintServer
from lsp_server.status import knows

SEVERAL = 3  # completions that are offered to who asks for some by key
EDITS = 20  # changes that may be made again


class CompletionQuery(NamedTuple):
    """What a client asks: the gap, the text that a popup menu has put in front of it, and where an item goes."""

    gap: CursorContext
    typed: str
    range: types.Range
    line_end: str
    invoked: bool
    request: FillRequest | None


def read_query(ls: InpaintServer, params: types.InlineCompletionParams) -> CompletionQuery | None:
    """The query as of now; None where the document is unknown or completion is off in it."""
    document = ls.documents.get(params.text_document.uri)
    if document is None or not ls.allows(document):
        return None
    ls.documents.use(params.text_document.uri)
    selected = params.context.selected_completion_info
    start = document.at(selected.range.start if selected else params.position)
    end = document.at(selected.range.end if selected else params.position)
    typed = selected.text if selected else ""
    gap = ls.documents.with_cells(params.text_document.uri, context_at(document, start, end, typed, document.language))
    invoked = params.context.trigger_kind is types.InlineCompletionTriggerKind.Invoked
    others = ls.documents.related(document, ls.allows)
    unsaved = [other for other in ls.documents.values() if other.unsaved and other not in (document, *others)]
    files = tuple(other.file.as_posix() for other in (document, *others, *unsaved))
    texts = tuple(other.beginning for other in others)
    line = without_end(document.lines[start.line])
    edits = tuple(edit for each in (document, *others) for edit in each.edits.made(but=line))[:EDITS]
    request = fill_request(gap, document.path, texts, ls.settings, invoked, files, ls.files.indexes, edits)
    return CompletionQuery(
        gap=gap,
        typed=typed,
        range=types.Range(document.position(start), document.position(end)),
        line_end=document.line_end if ls.inserts_verbatim else "\n",
        invoked=invoked,
        request=request if invoked or knows(ls.settings.model, document.language) else None,
    )


class CompletionAnswer(NamedTuple):
    """The best fill, what is shown of it, and of others, of which none is said twice."""

    fill: Fill
    shown: GateDecision
    others: list[str]


async def answer_query(
    ls: InpaintServer, uri: str, line: int, query: CompletionQuery | None
) -> CompletionAnswer | None:
    """What the engine says; None where that is nothing, or a newer request came. Who asks by key and would see nothing
    of it sees what there would be unasked.
    """
    request = query.request if query else None
    fills = await ls.completer.fills(uri, request, SEVERAL if query and query.invoked else 1)
    if query is None or request is None or not fills:
        return None
    answer = first_shown(ls, (uri, line), query, fills)
    if answer.shown.text or not query.invoked or request.max_lines == 1:
        return answer
    ls.completer.drop(request)
    unasked = msgspec.structs.replace(request, max_lines=1, deadline_ms=ls.settings.deadline_automatic_ms)
    return await answer_query(ls, uri, line, query._replace(request=unasked))


def first_shown(ls: InpaintServer, line: Hashable, query: CompletionQuery, fills: list[Fill]) -> CompletionAnswer:
    """The first of the fills of which something is shown."""
    for number, fill in enumerate(fills):
        shown = decide(fill, query.gap, ls.settings, query.invoked, ls.feedback, line)
        if shown.text or number == len(fills) - 1:
            break
    others = dict.fromkeys(postprocess(other, query.gap) for other in fills[number + 1 :])
    return CompletionAnswer(fill, shown, [*others])


def completion_item(query: CompletionQuery, text: str, identifier: str) -> types.InlineCompletionItem:
    """An item with an empty range at the cursor, which both editors draw beside the rest of the line and not over it.

    With a popup menu open its range and beginning are those of the selected entry, or VS Code would drop it.
    """
    return types.InlineCompletionItem(
        insert_text=query.typed + text.replace("\n", query.line_end),
        range=query.range,
        command=types.Command(title="Completion accepted", command=ACCEPTED, arguments=[identifier]),
    )
