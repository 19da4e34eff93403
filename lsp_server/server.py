"""One handler a feature, each a few lines around the module that does the work.

The handler that answers from the model is a coroutine, for pygls can cancel only these; it takes what it needs of the
text before it waits for anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Hashable, Iterable, Iterator
from pathlib import PurePath

import msgspec
from lsprotocol import types

from engine.retrieval.exclusions import may_read
from lsp_server import fetching, messages
from lsp_server.completer import Completer
from lsp_server.completion import CompletionAnswer, CompletionQuery, answer_query, completion_item, read_query
from lsp_server.cursor import fill_request, source_location
from lsp_server.documents import path_of
from lsp_server.feedback import ACCEPTED, RESET_STATISTICS, STATISTICS, ResultingText
from lsp_server.log import JOURNAL
from lsp_server.messages import LoopPauser
from lsp_server.next_edit import APPLIED
from lsp_server.session import InpaintServer
from lsp_server.settings import Json, Settings
from lsp_server.statistics import BOUNDS
from lsp_server.status import Reason, knows
from lsp_server.transport import FAILURE, watch

requests = logging.getLogger(JOURNAL)

REBUILD = "inpaint.rebuildIndex"  # the command that reads all files of the workspace again
TURN = 0.005  # seconds between looks at whether a completion is waited for


def create_server(completer: Completer, settings: Settings) -> InpaintServer:
    """The server with all its handlers, ready to be started; the completer is loading its model or has loaded it."""
    server = InpaintServer(completer, settings)
    server.feature(types.INITIALIZE)(initialize)
    server.feature(types.INITIALIZED)(initialized)
    server.feature(types.SHUTDOWN)(shutdown)
    server.feature(types.EXIT)(leave)
    server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)(did_change_configuration)
    server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)(files_changed)
    server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)(folders_changed)
    server.feature(types.TEXT_DOCUMENT_DID_SAVE)(did_save)
    server.command(REBUILD)(rebuild_index)
    server.command(fetching.GET_MODEL)(get_model)
    server.feature(types.TEXT_DOCUMENT_DID_OPEN)(did_open)
    server.feature(types.TEXT_DOCUMENT_DID_CHANGE)(did_change)
    server.feature(types.TEXT_DOCUMENT_DID_CLOSE)(did_close)
    server.feature(types.NOTEBOOK_DOCUMENT_DID_OPEN)(notebook_did_open)
    server.feature(types.NOTEBOOK_DOCUMENT_DID_CHANGE)(notebook_did_change)
    server.feature(types.NOTEBOOK_DOCUMENT_DID_SAVE)(notebook_did_save)
    server.feature(types.NOTEBOOK_DOCUMENT_DID_CLOSE)(notebook_did_close)
    server.feature(messages.DID_FOCUS)(did_focus)
    # without options pygls does not advertise the capability; of {} Emacs makes nil, which is none
    options = types.InlineCompletionOptions(work_done_progress=False)
    server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, options)(inline_completion)
    server.command(ACCEPTED)(accepted)
    server.feature(messages.FEEDBACK)(feedback)
    server.feature(messages.NEXT_EDIT)(next_edit)
    server.feature(messages.COPILOT)(next_edit)
    server.feature(messages.DID_SHOW)(did_show_next_edit)
    server.feature(messages.DID_REJECT)(did_reject_next_edit)
    server.command(APPLIED)(next_edit_applied)
    server.feature(STATISTICS)(statistics)
    server.feature(RESET_STATISTICS)(reset_statistics)
    return server


# ---------------------------------------------------------------- session


def initialize(ls: InpaintServer, params: types.InitializeParams) -> None:
    # Neovim splits what it inserts at \n and would keep each \r as a character; VS Code takes either
    ls.inserts_verbatim = params.client_info is None or params.client_info.name != "Neovim"
    ls.knows_one_folder = params.workspace_folders is None
    if ls.watches_client and params.process_id is not None:
        watch(params.process_id)
    options = params.initialization_options
    ls.configure({name: options[name] for name in options if name != "token"} if isinstance(options, dict) else options)


def initialized(ls: InpaintServer, params: types.InitializedParams) -> None:
    ls.follow_loading()
    ls.index_folders()


def did_change_configuration(ls: InpaintServer, params: types.DidChangeConfigurationParams) -> None:
    loading, before = ls.completer.loading, ls.settings
    ls.configure(params.settings)
    if ls.settings.indexing != before.indexing:
        ls.index_folders()
    ls.announce()
    if ls.completer.loading is not loading:
        ls.follow_loading()


def shutdown(ls: InpaintServer, params: None) -> None:
    ls.shutting_down = True
    if ls.fetching is not None:
        ls.fetching.cancel()
    ls.keep_statistics()
    ls.files.close()
    ls.completer.close()


def leave(ls: InpaintServer, params: None) -> None:
    """End the session; a client that has not asked for the shutdown did not mean this."""
    ls.protocol.exit_code = 0 if ls.shutting_down else FAILURE


# ---------------------------------------------------------------- a better model


def get_model(ls: InpaintServer, *arguments: Json) -> None:
    """The command of a menu, and all that ever fetches a model: of the name that is given."""
    name = arguments[0] if arguments else fetching.BETTER
    ls.fetching = asyncio.ensure_future(fetching.fetch_and_use(ls, str(name)))


# ---------------------------------------------------------------- the workspace's files


def files_changed(ls: InpaintServer, params: types.DidChangeWatchedFilesParams) -> None:
    ls.files.files_changed(path_of(change.uri) for change in params.changes)


def folders_changed(ls: InpaintServer, params: types.DidChangeWorkspaceFoldersParams) -> None:
    ls.index_folders()


def rebuild_index(ls: InpaintServer, *arguments: Json) -> None:
    """The command of a menu: forget the index, read all files again."""
    ls.files.rebuild()
    ls.indexing = [asyncio.ensure_future(ls.show_indexing())]


# ---------------------------------------------------------------- text


async def did_open(ls: InpaintServer, params: messages.DidOpenParams) -> None:
    await open_documents(ls, [params.text_document], LoopPauser())


async def did_change(ls: InpaintServer, params: messages.DidChangeParams) -> None:
    await change_document(ls, params.text_document, params.content_changes, LoopPauser())


async def did_close(ls: InpaintServer, params: messages.DidCloseParams) -> None:
    close_document(ls, params.text_document.uri)


async def did_save(ls: InpaintServer, params: types.DidSaveTextDocumentParams) -> None:
    await note_saved(ls, params.text_document.uri, [params.text_document.uri])


async def notebook_did_open(ls: InpaintServer, params: messages.DidOpenNotebookParams) -> None:
    ls.documents.open_notebook(params.notebook_document)
    await open_documents(ls, cells(params.cell_text_documents), LoopPauser())


async def notebook_did_change(ls: InpaintServer, params: messages.DidChangeNotebookParams) -> None:
    change, pauser = params.change.cells, LoopPauser()
    if change is None:
        return
    if change.structure is not None:
        ls.documents.splice_notebook(params.notebook_document.uri, change.structure.array)
        await open_documents(ls, cells(change.structure.did_open or []), pauser)
        for cell in change.structure.did_close or []:
            close_document(ls, cell.uri)
            await pauser.pause()
    for written in change.text_content or []:
        content = msgspec.json.decode(written, type=messages.CellTextChange)
        await change_document(ls, content.document, content.changes, pauser)


async def notebook_did_save(ls: InpaintServer, params: messages.DidSaveNotebookParams) -> None:
    uri = params.notebook_document.uri
    await note_saved(ls, uri, ls.documents.notebooks.get(uri, []))


async def notebook_did_close(ls: InpaintServer, params: messages.DidCloseNotebookParams) -> None:
    ls.documents.notebooks.pop(params.notebook_document.uri, None)
    pauser = LoopPauser()
    for cell in params.cell_text_documents:
        close_document(ls, cell.uri)
        await pauser.pause()


def cells(items: list[msgspec.Raw]) -> Iterator[messages.DocumentItem]:
    """Those that are opened. Raises DecodeError where one is none."""
    return (msgspec.json.decode(item, type=messages.DocumentItem) for item in items)


async def open_documents(ls: InpaintServer, items: Iterable[messages.DocumentItem], pauser: LoopPauser) -> None:
    encoding, root = types.PositionEncodingKind(ls.workspace.position_encoding).value, ls.workspace.root_path
    documents = []
    for item in items:
        ls.completer.edited(item.uri)  # it may have been closed and opened anew
        documents.append(await ls.documents.open(item, encoding, root, pauser))
    await asyncio.to_thread(lambda: [ls.allows(document, wait=True) for document in documents])
    ls.announce()  # one may be where the user looks
    await ls.index_imports(documents)


async def change_document(
    ls: InpaintServer, document: messages.DocumentIdentifier, changes: list[msgspec.Raw], pauser: LoopPauser
) -> None:
    if document.uri in ls.documents:
        ls.completer.edited(document.uri)
        await ls.documents.change(document, changes, pauser)


async def note_saved(ls: InpaintServer, uri: str, documents: Iterable[str]) -> None:
    """A file has been saved, which has the text of these documents."""
    ls.files.files_changed([path_of(uri)])
    await ls.index_imports(ls.documents.saved(documents))


def close_document(ls: InpaintServer, uri: str) -> None:
    ls.completer.edited(uri)
    ls.documents.pop(uri, None)
    ls.feedback.closed(uri)


def did_focus(ls: InpaintServer, focus: messages.DidFocusParams) -> None:
    """The user looks at a document, which the status is about now, and rests at a place in it, if one is given: what a
    request there would have the model read is read ahead.
    """
    if focus.text_document.uri != ls.focus:
        ls.focus, ls.silence = focus.text_document.uri, None
        ls.announce()
    if focus.position is not None:
        document = types.TextDocumentIdentifier(ls.focus)
        asked_by_key = types.InlineCompletionContext(types.InlineCompletionTriggerKind.Invoked)  # is never refused
        place = types.Position(focus.position.line, focus.position.character)
        query = read_query(ls, types.InlineCompletionParams(asked_by_key, document, place))
        ls.completer.read_ahead(query.request if query else None)


# ---------------------------------------------------------------- completion


async def inline_completion(ls: InpaintServer, params: types.InlineCompletionParams) -> types.InlineCompletionList:
    """One item or none; several where they are asked for by key. An empty list hides ghost text; null would leave an
    old one standing.
    """
    started = time.perf_counter()
    query, uri, line = read_query(ls, params), params.text_document.uri, params.position.line
    ls.focus, ls.silence = uri, "nothing" if query and not query.request else None
    with ls.thinking():
        answer = await answer_query(ls, uri, line, query)
    took = (time.perf_counter() - started) * 1000
    passes = answer.fill.passes if answer else "none"
    requests.info("request %.20s: %.1f ms, passes: %s", ls.protocol.msg_id, took, passes)
    if query is None or query.request is None or answer is None:
        return types.InlineCompletionList(items=[])
    fill, then = answer.fill, query.gap.filled(answer.shown.text)
    ls.fill, ls.latency_ms = fill, took
    leads_to = ResultingText(uri, then.prefix + then.suffix)
    ls.silence = why_hidden(ls, query, answer, leads_to)
    if ls.silence is not None:
        return types.InlineCompletionList(items=[])
    request = query.request
    ls.source = source_location(fill.source, request, query.range.start.line) if fill.source else None
    known = request.files, request.indexes, request.edits
    ls.completer.prefetch(fill_request(then, request.path, request.related, ls.settings, False, *known))
    items = shown_items(ls, query, answer, leads_to, (uri, line))
    fetching.offer(ls)
    return types.InlineCompletionList(items=items)


def why_hidden(
    ls: InpaintServer, query: CompletionQuery, answer: CompletionAnswer, leads_to: ResultingText
) -> Reason | None:
    """Why nothing of an answer is shown; None where something is."""
    fill, (text, chance), _ = answer
    if not (query.invoked or knows(fill.model, query.gap.language)):
        return "untrained"  # small answers while a server, which may know more, is away
    if not text:
        return "unsure" if chance else "nothing"
    if fill.source and not may_read(PurePath(fill.source.path), ls.settings.disabled_globs, wait=False):
        ls.completer.forget()  # it may not be told any more
        return "nothing"
    return "dismissed" if not query.invoked and ls.feedback.is_dismissed(leads_to) else None


def shown_items(
    ls: InpaintServer, query: CompletionQuery, answer: CompletionAnswer, leads_to: ResultingText, line: Hashable
) -> list[types.InlineCompletionItem]:
    """The best completion, and the others that are offered beside it; each is noted."""
    text, chance = answer.shown
    identifier = ls.feedback.show(leads_to, text, query.gap.language, chance, ls.latency_ms, line)
    others = [other for other in answer.others if other not in ("", text)]
    offers = {ls.feedback.offer(identifier, other): other for other in others}
    return [completion_item(query, each, own) for own, each in ({identifier: text} | offers).items()]


# ---------------------------------------------------------------- next edit


async def next_edit(ls: InpaintServer, params: messages.NextEditParams) -> Json:
    """The one edit that is due after those that were just made, or none."""
    document = ls.documents.get(params.text_document.uri)
    if document is None or not (ls.settings.next_edit and ls.allows(document)):
        return {"edits": []}
    while ls.asked:  # completions go first
        await asyncio.sleep(TURN)
    answer = await ls.next_edits.answer(params)
    ls.announce_soon()
    return answer


def did_show_next_edit(ls: InpaintServer, params: Json) -> None:
    ls.next_edits.counts["shown"] += 1


def did_reject_next_edit(ls: InpaintServer, params: messages.DidRejectParams) -> None:
    ls.next_edits.rejected(params)
    ls.announce_soon()


def next_edit_applied(ls: InpaintServer, *arguments: Json) -> None:
    ls.next_edits.applied(*arguments)


# ---------------------------------------------------------------- what became of it


def accepted(ls: InpaintServer, *arguments: Json) -> None:
    """The command of an item: the client has inserted it. Without the item's id there is nothing to note."""
    if arguments and isinstance(arguments[0], str):
        ls.feedback.note(arguments[0], "accepted")
        ls.keep_statistics()
        ls.announce_soon()


def feedback(ls: InpaintServer, params: messages.FeedbackParams) -> None:
    ls.feedback.note(params.id, params.kind, params.characters or 0)
    ls.keep_statistics()
    ls.announce_soon()


def statistics(ls: InpaintServer, params: Json) -> Json:
    """All that is kept of the session: counts, and the last completions with cost, confidence and outcome."""
    return {
        "counts": ls.feedback.counts,
        "completions": msgspec.to_builtins(ls.feedback.completions),
        "nextEdits": ls.next_edits.counts,
        "work": msgspec.to_builtins(ls.completer.work),
        "days": msgspec.to_builtins(ls.feedback.statistics.days(on_disk=ls.settings.statistics)),
        "bounds": BOUNDS,
    }


def reset_statistics(ls: InpaintServer, params: Json) -> None:
    ls.feedback.reset()
