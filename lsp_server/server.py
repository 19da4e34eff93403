"""One handler a feature, each a few lines around the module that does the work.

The handler that answers from the model is a coroutine, for pygls can cancel only these; it takes what it needs of the
text before it waits for anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any, NamedTuple

import msgspec
from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from engine import AUTO, Cancelled, EngineError, Fill, FillRequest
from engine.plain import plain
from engine.remote.address import is_url, parsed
from engine.retrieval.exclusions import may_read
from engine.retrieval.installed import site_packages
from lsp_server import fetching
from lsp_server.buffers import without_end
from lsp_server.completer import Completer
from lsp_server.cursor import Gap, fill_request, gap_at, place_of
from lsp_server.documents import Document, Documents, path_of
from lsp_server.feedback import ACCEPTED, FEEDBACK, RESET_STATISTICS, STATISTICS, Feedback, LeadsTo, Report
from lsp_server.gate import Shown, to_show
from lsp_server.log import JOURNAL
from lsp_server.messages import (
    Breath,
    Content,
    DidChange,
    DidClose,
    DidOpen,
    Focus,
    Identifier,
    Item,
    NotebookDidChange,
    NotebookDidClose,
    NotebookDidOpen,
    NotebookDidSave,
)
from lsp_server.next_edit import APPLIED, COPILOT, DID_REJECT, DID_SHOW, NEXT_EDIT, Asked, NextEdits
from lsp_server.postprocess import presentable
from lsp_server.protocol import Protocol, lenient_converter
from lsp_server.settings import Json, Settings, updated
from lsp_server.statistics import BOUNDS
from lsp_server.status import STATUS, Cost, Reason, knows, status
from lsp_server.transport import FAILURE, watch
from lsp_server.workspace import Workspace

logger = logging.getLogger(__name__)
requests = logging.getLogger(JOURNAL)

DID_FOCUS = "textDocument/didFocus"  # no standard, but what Copilot's clients send too
REBUILD = "inpaint.rebuildIndex"  # the command that reads all files of the workspace again
ANY_NOTEBOOK = types.NotebookDocumentFilterWithNotebook(notebook="*")  # of any kind, and all its cells
SEVERAL = 3  # completions that are offered to who asks for some by key
EDITS = 20  # changes that may be made again
TURN = 0.005  # seconds between looks at whether a completion is waited for


class InpaintServer(LanguageServer):
    """The state of one client's session."""

    protocol: Protocol

    def __init__(self, completer: Completer, settings: Settings) -> None:
        super().__init__(
            "inpaint",
            own_version(),
            protocol_cls=Protocol,
            converter_factory=lenient_converter,
            notebook_document_sync=types.NotebookDocumentSyncOptions(notebook_selector=[ANY_NOTEBOOK], save=True),
        )
        self.completer = completer
        self.settings = settings
        self.feedback = Feedback()
        self.files = Workspace(self.announce_soon, completer.forget)
        self.source: str | None = None  # where the last suggestion was copied from
        self.cost: Cost | None = None  # of the last fill
        self.asked = 0  # requests that wait for the engine
        self.announced: dict[str, Any] = {}
        self.documents = Documents()
        self.next_edits = NextEdits(self.documents)
        self.focus = ""  # the document that the user looks at
        self.silence: Reason | None = None  # why the last request in it has nothing to show
        self.shutting_down = False
        self.watches_client = False  # whether to end with the client's process
        self.knows_one_folder = True  # the client; one that knows several may have closed all
        self.inserts_verbatim = True  # whether the client leaves the line ends of inserted text alone
        self.following: asyncio.Future[Any] | None = None
        self.indexing: asyncio.Future[Any] | None = None
        self.files_watched = False  # by the client
        self.offered = False  # the better model, in this session
        self.fetching: asyncio.Task[None] | None = None

    def configure(self, options: Json) -> None:
        """Take over the options; say what is wrong with them; load the model where it is another."""
        before = self.settings
        self.settings, warnings = updated(before, options)
        for warning in warnings:
            self.tell(types.MessageType.Warning, warning)
        if (self.settings.model, self.settings.device) != (before.model, before.device):
            self.completer.load(self.settings.model, self.settings.device)
        elif self.settings != before:
            self.completer.forget()
        if self.settings.show != before.show:
            self.feedback.unlearn()

    async def index_imports(self, documents: Iterable[Document]) -> None:
        """Index the packages that documents in Python import, where the user wants it."""
        if not self.settings.packages:
            return
        environment = await asyncio.to_thread(site_packages, self.settings.interpreter, self.files.folders)
        for document in documents:
            if document.language == "python":
                await self.files.imports(document.beginning, environment)

    def announce(self) -> None:
        """Tell a client that wants to know the status, where it is another than before."""
        if not self.settings.status:
            return
        reason = self.refusal() or self.silence
        now = status(
            self.settings,
            self.completer,
            self.asked > 0,
            self.cost,
            self.feedback.counts,
            reason,
            self.files.report(),
            self.source,
            self.next_edits.why,
        )
        if now != self.announced:
            self.announced = now
            self.protocol.notify(STATUS, now)

    def refusal(self) -> Reason | None:
        """Why no completion comes in the document that the user looks at, wherever in it."""
        document = self.documents.get(self.focus)
        if document is None:
            return None
        if self.allows(document):
            return None if knows(self.settings.model, document.language) else "untrained"
        named = {document.language, document.language_id}.intersection(self.settings.disabled_languages)
        return "language" if named else "excluded"

    def allows(self, document: Document, wait: bool = False) -> bool:
        """See Settings.allow."""
        return self.settings.allow(document.file, document.language, document.language_id, wait=wait)

    def keep_statistics(self) -> None:
        if self.settings.statistics:
            self.feedback.statistics.save()

    def announce_soon(self) -> None:
        """Announce after the answer of this moment, which must not wait for it."""
        asyncio.get_running_loop().call_later(0, self.announce)

    @contextlib.contextmanager
    def thinking(self) -> Iterator[None]:
        """While a request waits for its fill."""
        self.asked += 1
        self.announce_soon()
        try:
            yield
        finally:
            self.asked -= 1
            self.announce_soon()

    def tell(self, kind: types.MessageType, message: str) -> None:
        self.window_show_message(types.ShowMessageParams(type=kind, message=f"Inpaint: {plain(message)}"))

    def report_server_error(self, error: Exception, source: object) -> None:
        """A malformed message is a line in the log; pygls would have the editor pop up a message."""
        logger.error("%s: %s", type(error).__name__, error)


def create_server(completer: Completer, settings: Settings) -> InpaintServer:
    """The server with all its handlers, ready to be started; the completer is loading its model or has loaded it."""
    server = InpaintServer(completer, settings)
    completer.on_hang = partial(report_hang, server)
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
    server.feature(DID_FOCUS)(did_focus)
    # without options pygls does not advertise the capability; of {} Emacs makes nil, which is none
    options = types.InlineCompletionOptions(work_done_progress=False)
    server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, options)(inline_completion)
    server.command(ACCEPTED)(accepted)
    server.feature(FEEDBACK)(feedback)
    server.feature(NEXT_EDIT)(next_edit)
    server.feature(COPILOT)(next_edit)
    server.feature(DID_SHOW)(did_show_next_edit)
    server.feature(DID_REJECT)(did_reject_next_edit)
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
    follow_loading(ls)
    index_folders(ls)


def did_change_configuration(ls: InpaintServer, params: types.DidChangeConfigurationParams) -> None:
    loading, before = ls.completer.loading, ls.settings
    ls.configure(params.settings)
    if indexed_by(ls.settings) != indexed_by(before):
        index_folders(ls)
    ls.announce()
    if ls.completer.loading is not loading:
        follow_loading(ls)


def follow_loading(ls: InpaintServer) -> None:
    """Show the client that the model is loading, and what is wrong if it does not."""
    ls.announce()
    ls.following = asyncio.gather(show_progress(ls), report_end(ls), return_exceptions=True)


def report_hang(ls: InpaintServer, sentence: str) -> None:
    """Say that a pass did not come back, and follow the model that is loaded anew; or is not, which is said too."""
    if not ls.completer.loading.done():
        ls.tell(types.MessageType.Warning, sentence)
    follow_loading(ls)


async def show_progress(ls: InpaintServer) -> None:
    loading, window = ls.completer.loading, ls.client_capabilities.window
    if loading.done() or window is None or not window.work_done_progress:
        return
    token = str(uuid.uuid4())
    await ls.work_done_progress.create_async(token)
    ls.work_done_progress.begin(token, types.WorkDoneProgressBegin(title="Inpaint", message="loading the model"))
    await asyncio.wait([asyncio.wrap_future(loading)])
    ls.work_done_progress.end(token, types.WorkDoneProgressEnd())


async def report_end(ls: InpaintServer) -> None:
    try:
        await asyncio.wrap_future(ls.completer.loading)
        say_where_text_goes(ls)
    except EngineError as error:
        ls.tell(types.MessageType.Error, str(error))
    ls.announce()


def say_where_text_goes(ls: InpaintServer) -> None:
    """Once for a model that is a server."""
    if not is_url(ls.settings.model):
        return
    address = parsed(ls.settings.model)
    what = f"{address.host} is sent the text around the cursor, and of other open files"
    if address.in_the_open:
        ls.tell(types.MessageType.Warning, f"{what}, over the network unencrypted: https would hide it from others.")
    else:
        ls.tell(types.MessageType.Info, f"{what}. Secrets' files are not.")


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
    ls.fetching = asyncio.ensure_future(fetch_and_use(ls, str(name)))


async def fetch_and_use(ls: InpaintServer, name: str) -> None:
    """The model that answers is loaded anew where it may be another now."""
    try:
        await fetching.fetch(ls, name)
    except Cancelled:
        ls.tell(types.MessageType.Info, f"{name} was not fetched. The next time goes on where this stopped.")
    except EngineError as error:
        ls.tell(types.MessageType.Error, str(error))
    else:
        ls.tell(types.MessageType.Info, f"{name} is there.")
        if ls.settings.model.partition(":")[0] in (AUTO, name):
            ls.completer.load(ls.settings.model, ls.settings.device)
            follow_loading(ls)
    ls.announce()


def offer_model(ls: InpaintServer) -> None:
    """Offer a better one, once, where it is time for that."""
    window = ls.client_capabilities.window
    can_ask = window is not None and window.show_message is not None
    if can_ask and not ls.offered and fetching.is_due(ls.cost.model if ls.cost else "", ls.feedback.counts["shown"]):
        ls.offered = True
        ls.fetching = asyncio.ensure_future(fetch_if_wanted(ls))


async def fetch_if_wanted(ls: InpaintServer) -> None:
    if await fetching.accepts(ls):
        await fetch_and_use(ls, fetching.BETTER)


# ---------------------------------------------------------------- the workspace's files


def index_folders(ls: InpaintServer) -> None:
    """Index the session's folders anew, where the user wants it, and have them watched by the client if it can."""
    if not (ls.settings.workspace and ls.settings.enabled):
        ls.files.close("off")
        return
    folders = ls.settings.folders or tuple(path_of(folder.uri) for folder in ls.workspace.folders.values())
    if ls.knows_one_folder and not folders and ls.workspace.root_path:
        folders = (ls.workspace.root_path,)
    ls.files.open([folder for folder in folders if folder], ls.settings.disabled_globs)
    capabilities = ls.client_capabilities.workspace
    watched = capabilities.did_change_watched_files if capabilities else None
    if watched is None or not watched.dynamic_registration:
        ls.files.watch()
    elif not ls.files_watched:
        ls.files_watched = True
        watchers = [types.FileSystemWatcher(glob_pattern="**/*")]
        options = types.DidChangeWatchedFilesRegistrationOptions(watchers=watchers)
        registration = types.Registration("files", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)
        ls.client_register_capability(types.RegistrationParams(registrations=[registration]))
    ls.indexing = asyncio.gather(ls.index_imports([*ls.documents.values()]), show_indexing(ls))


def indexed_by(settings: Settings) -> tuple[Json, ...]:
    """The options that the index depends on."""
    return settings.enabled, settings.workspace, settings.folders, settings.packages, settings.disabled_globs


async def show_indexing(ls: InpaintServer) -> None:
    """Work-done progress while an index is built that takes a while."""
    window = ls.client_capabilities.window
    if window is None or not window.work_done_progress:
        return
    await asyncio.sleep(1)
    if ls.files.state != "building":
        return
    token = str(uuid.uuid4())
    await ls.work_done_progress.create_async(token)
    begin = types.WorkDoneProgressBegin(title="Inpaint", message="reading the workspace", percentage=0)
    ls.work_done_progress.begin(token, begin)
    while ls.files.state == "building":
        read, of = ls.files.progress.read, ls.files.progress.of
        report = types.WorkDoneProgressReport(message=f"{read} of {of} files", percentage=100 * read // max(1, of))
        ls.work_done_progress.report(token, report)
        await asyncio.sleep(0.5)
    ls.work_done_progress.end(token, types.WorkDoneProgressEnd(message=f"{len(ls.files.index)} files"))


def files_changed(ls: InpaintServer, params: types.DidChangeWatchedFilesParams) -> None:
    ls.files.files_changed(path_of(change.uri) for change in params.changes)


def folders_changed(ls: InpaintServer, params: types.DidChangeWorkspaceFoldersParams) -> None:
    index_folders(ls)


def rebuild_index(ls: InpaintServer, *arguments: Json) -> None:
    """The command of a menu: forget the index, read all files again."""
    ls.files.rebuild()
    ls.indexing = asyncio.ensure_future(show_indexing(ls))


# ---------------------------------------------------------------- text


async def did_open(ls: InpaintServer, params: DidOpen) -> None:
    await opened(ls, [params.text_document], Breath())


async def did_change(ls: InpaintServer, params: DidChange) -> None:
    await changed(ls, params.text_document, params.content_changes, Breath())


async def did_close(ls: InpaintServer, params: DidClose) -> None:
    closed(ls, params.text_document.uri)


async def did_save(ls: InpaintServer, params: types.DidSaveTextDocumentParams) -> None:
    await saved(ls, params.text_document.uri, [params.text_document.uri])


async def notebook_did_open(ls: InpaintServer, params: NotebookDidOpen) -> None:
    ls.documents.open_notebook(params.notebook_document)
    await opened(ls, cells(params.cell_text_documents), Breath())


async def notebook_did_change(ls: InpaintServer, params: NotebookDidChange) -> None:
    change, breath = params.change.cells, Breath()
    if change is None:
        return
    if change.structure is not None:
        ls.documents.splice_notebook(params.notebook_document.uri, change.structure.array)
        await opened(ls, cells(change.structure.did_open or []), breath)
        for cell in change.structure.did_close or []:
            closed(ls, cell.uri)
            await breath.take()
    for written in change.text_content or []:
        content = msgspec.json.decode(written, type=Content)
        await changed(ls, content.document, content.changes, breath)


async def notebook_did_save(ls: InpaintServer, params: NotebookDidSave) -> None:
    uri = params.notebook_document.uri
    await saved(ls, uri, ls.documents.notebooks.get(uri, []))


async def notebook_did_close(ls: InpaintServer, params: NotebookDidClose) -> None:
    ls.documents.notebooks.pop(params.notebook_document.uri, None)
    breath = Breath()
    for cell in params.cell_text_documents:
        closed(ls, cell.uri)
        await breath.take()


def cells(items: list[msgspec.Raw]) -> Iterator[Item]:
    """Those that are opened. Raises DecodeError where one is none."""
    return (msgspec.json.decode(item, type=Item) for item in items)


async def opened(ls: InpaintServer, items: Iterable[Item], breath: Breath) -> None:
    encoding, root = types.PositionEncodingKind(ls.workspace.position_encoding).value, ls.workspace.root_path
    documents = []
    for item in items:
        ls.completer.edited(item.uri)  # it may have been closed and opened anew
        documents.append(await ls.documents.open(item, encoding, root, breath))
    await asyncio.to_thread(lambda: [ls.allows(document, wait=True) for document in documents])
    ls.announce()  # one may be where the user looks
    await ls.index_imports(documents)


async def changed(ls: InpaintServer, document: Identifier, changes: list[msgspec.Raw], breath: Breath) -> None:
    if document.uri in ls.documents:
        ls.completer.edited(document.uri)
        await ls.documents.change(document, changes, breath)


async def saved(ls: InpaintServer, uri: str, documents: Iterable[str]) -> None:
    """A file has been saved, which has the text of these documents."""
    ls.files.files_changed([path_of(uri)])
    await ls.index_imports(ls.documents.saved(documents))


def closed(ls: InpaintServer, uri: str) -> None:
    ls.completer.edited(uri)
    ls.documents.pop(uri, None)
    ls.feedback.closed(uri)


def did_focus(ls: InpaintServer, params: Json) -> None:
    """The user looks at a document, which the status is about now, and rests at a place in it, if one is given: what a
    request there would have the model read is read ahead.
    """
    try:
        focus = msgspec.convert(params, Focus)
    except msgspec.ValidationError as error:
        logger.error("%s was ignored: %s.", DID_FOCUS, error)
        return
    if focus.text_document.uri != ls.focus:
        ls.focus, ls.silence = focus.text_document.uri, None
        ls.announce()
    if focus.position is not None:
        document = types.TextDocumentIdentifier(ls.focus)
        asked_by_key = types.InlineCompletionContext(types.InlineCompletionTriggerKind.Invoked)  # is never refused
        place = types.Position(focus.position.line, focus.position.character)
        question = read_question(ls, types.InlineCompletionParams(asked_by_key, document, place))
        ls.completer.read_ahead(question.request if question else None)


# ---------------------------------------------------------------- completion


class Question(NamedTuple):
    """What a client asks: the gap, the text that a popup menu has put in front of it, and where an item goes."""

    gap: Gap
    typed: str
    range: types.Range
    line_end: str
    invoked: bool
    request: FillRequest | None


async def inline_completion(ls: InpaintServer, params: types.InlineCompletionParams) -> types.InlineCompletionList:
    """One item or none; several where they are asked for by key. An empty list hides ghost text; null would leave an
    old one standing.
    """
    started = time.perf_counter()
    question, uri, line = read_question(ls, params), params.text_document.uri, params.position.line
    ls.focus, ls.silence = uri, "nothing" if question and not question.request else None
    with ls.thinking():
        answer = await answered(ls, uri, line, question)
    took = (time.perf_counter() - started) * 1000
    requests.info(
        "request %.20s: %.1f ms, passes: %s", ls.protocol.msg_id, took, answer.fill.passes if answer else "none"
    )
    nothing = types.InlineCompletionList(items=[])
    if question is None or question.request is None or answer is None:
        return nothing
    fill, (text, chance), others = answer
    ls.cost = Cost(took, fill.passes, fill.instead, fill.model)
    if not (question.invoked or knows(fill.model, question.gap.language)):
        ls.silence = "untrained"  # nano answers while small, which knows more, is loading
        return nothing
    if not text:
        ls.silence = "unsure" if chance else "nothing"
        return nothing
    if fill.source and not may_read(PurePath(fill.source.path), ls.settings.disabled_globs, wait=False):
        ls.completer.forget()  # it may not be told any more
        return nothing
    then = question.gap.filled(text)
    leads_to = LeadsTo(uri, then.prefix + then.suffix)
    if not question.invoked and ls.feedback.is_dismissed(leads_to):
        ls.silence = "dismissed"
        return nothing
    request = question.request
    ls.source = place_of(fill.source, request, question.range.start.line) if fill.source else None
    known = request.files, request.indexes, request.edits
    ls.completer.prefetch(fill_request(then, request.path, request.related, ls.settings, False, *known))
    identifier = ls.feedback.show(leads_to, text, question.gap.language, chance, ls.cost.latency_ms, (uri, line))
    offers = {ls.feedback.offer(identifier, other): other for other in others if other not in ("", text)}
    items = [completion_item(question, each, own) for own, each in ({identifier: text} | offers).items()]
    offer_model(ls)
    return types.InlineCompletionList(items=items)


class Answer(NamedTuple):
    """The best fill, what is shown of it, and of others, of which none is said twice."""

    fill: Fill
    shown: Shown
    others: list[str]


async def answered(ls: InpaintServer, uri: str, line: int, question: Question | None) -> Answer | None:
    """What the engine says; None where that is nothing, or a newer request came. Who asks by key and would see nothing
    of it sees what there would be unasked.
    """
    request = question.request if question else None
    fills = await ls.completer.fills(uri, request, SEVERAL if question and question.invoked else 1)
    if question is None or request is None or not fills:
        return None
    answer = await ls.completer.aside(partial(judged, ls, (uri, line), question, fills))
    if answer is None or answer.shown.text or not question.invoked or request.max_lines == 1:
        return answer
    ls.completer.drop(request)
    unasked = msgspec.structs.replace(request, max_lines=1, deadline_ms=ls.settings.deadline_automatic_ms)
    return await answered(ls, uri, line, question._replace(request=unasked))


def judged(ls: InpaintServer, line: Hashable, question: Question, fills: list[Fill]) -> Answer:
    """The first of the fills of which something is shown. Beside the event loop, for it parses."""
    for number, fill in enumerate(fills):
        shown = to_show(fill, question.gap, ls.settings, question.invoked, ls.feedback, line)
        if shown.text or number == len(fills) - 1:
            break
    others = dict.fromkeys(presentable(other, question.gap) for other in fills[number + 1 :])
    return Answer(fill, shown, [*others])


def read_question(ls: InpaintServer, params: types.InlineCompletionParams) -> Question | None:
    """The question as of now; None where the document is unknown or completion is off in it."""
    document = ls.documents.get(params.text_document.uri)
    if document is None or not ls.allows(document):
        return None
    ls.documents.use(params.text_document.uri)
    selected = params.context.selected_completion_info
    start = document.at(selected.range.start if selected else params.position)
    end = document.at(selected.range.end if selected else params.position)
    typed = selected.text if selected else ""
    gap = ls.documents.with_cells(params.text_document.uri, gap_at(document, start, end, typed, document.language))
    invoked = params.context.trigger_kind is types.InlineCompletionTriggerKind.Invoked
    others = ls.documents.related(document, ls.allows)
    unsaved = [other for other in ls.documents.values() if other.unsaved and other not in (document, *others)]
    files = tuple(other.file.as_posix() for other in (document, *others, *unsaved))
    texts = tuple(other.beginning for other in others)
    line = without_end(document.line(start.line))
    edits = tuple(edit for each in (document, *others) for edit in each.edits.made(but=line))[:EDITS]
    request = fill_request(gap, document.path, texts, ls.settings, invoked, files, ls.files.indexes, edits)
    return Question(
        gap=gap,
        typed=typed,
        range=types.Range(document.position(start), document.position(end)),
        line_end=document.line_end if ls.inserts_verbatim else "\n",
        invoked=invoked,
        request=request if invoked or knows(ls.settings.model, document.language) else None,
    )


def completion_item(question: Question, text: str, identifier: str) -> types.InlineCompletionItem:
    """An item with an empty range at the cursor, which both editors draw beside the rest of the line and not over it.

    With a popup menu open its range and beginning are those of the selected entry, or VS Code would drop it.
    """
    return types.InlineCompletionItem(
        insert_text=question.typed + text.replace("\n", question.line_end),
        range=question.range,
        command=types.Command(title="Completion accepted", command=ACCEPTED, arguments=[identifier]),
    )


# ---------------------------------------------------------------- next edit


async def next_edit(ls: InpaintServer, params: Json) -> Json:
    """The one edit that is due after those that were just made, or none. Raises JsonRpcInvalidParams."""
    try:
        asked = msgspec.convert(params, Asked)
    except msgspec.ValidationError as error:
        raise JsonRpcInvalidParams(f"{NEXT_EDIT} names a document and a position: {error}") from None
    document = ls.documents.get(asked.text_document.uri)
    if document is None or not (ls.settings.next_edit and ls.allows(document)):
        return {"edits": []}
    while ls.asked:  # completions go first
        await asyncio.sleep(TURN)
    answer = await ls.next_edits.answer(asked)
    ls.announce_soon()
    return answer


def did_show_next_edit(ls: InpaintServer, params: Json) -> None:
    note_next_edit(DID_SHOW, ls.next_edits.shown, params)


def did_reject_next_edit(ls: InpaintServer, params: Json) -> None:
    note_next_edit(DID_REJECT, ls.next_edits.rejected, params)
    ls.announce_soon()


def note_next_edit(method: str, note: Callable[[Json], None], params: Json) -> None:
    try:
        note(params)
    except msgspec.ValidationError as error:
        logger.error("%s was ignored: %s.", method, error)


def next_edit_applied(ls: InpaintServer, *arguments: Json) -> None:
    ls.next_edits.applied(*arguments)


# ---------------------------------------------------------------- what became of it


def accepted(ls: InpaintServer, *arguments: Json) -> None:
    """The command of an item: the client has inserted it. Without the item's id there is nothing to note."""
    if arguments and isinstance(arguments[0], str):
        ls.feedback.note(arguments[0], "accepted")
        ls.keep_statistics()
        ls.announce_soon()


def feedback(ls: InpaintServer, params: Json) -> None:
    try:
        report = msgspec.convert(params, Report)
    except msgspec.ValidationError as error:
        logger.error("%s was ignored: %s.", FEEDBACK, error)
        return
    ls.feedback.note(report.id, report.kind, report.characters or 0)
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


def own_version() -> str:
    try:
        return version("inpaint-lsp")
    except PackageNotFoundError:
        return "0"  # run from a source tree
