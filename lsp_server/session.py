"""One client's session: its state, and what the client is told unasked: the status, progress, warnings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from engine import EngineError, Fill, get
from engine.plain import plain
from engine.remote.address import is_url, parse_url
from engine.retrieval.installed import site_packages
from lsp_server.completer import Completer
from lsp_server.documents import Document, Documents, path_of
from lsp_server.feedback import Feedback
from lsp_server.next_edit import EXPLANATIONS as NEXT_EDIT_EXPLANATIONS
from lsp_server.next_edit import NextEdits
from lsp_server.protocol import InpaintProtocol, lenient_converter
from lsp_server.settings import Json, Settings, apply_options
from lsp_server.status import DRAFTING, EXPLANATIONS, STATUS, Reason, knows, learned, state_of
from lsp_server.workspace import Workspace

logger = logging.getLogger(__name__)

ANY_NOTEBOOK = types.NotebookDocumentFilterWithNotebook(notebook="*")  # of any kind, and all its cells


class InpaintServer(LanguageServer):
    """The state of one client's session."""

    protocol: InpaintProtocol

    def __init__(self, completer: Completer, settings: Settings) -> None:
        super().__init__(
            "inpaint",
            own_version(),
            protocol_cls=InpaintProtocol,
            converter_factory=lenient_converter,
            notebook_document_sync=types.NotebookDocumentSyncOptions(notebook_selector=[ANY_NOTEBOOK], save=True),
        )
        self.completer = completer
        completer.on_hang = self.report_hang
        self.settings = settings
        self.feedback = Feedback()
        self.files = Workspace(self.announce_soon, completer.forget)
        self.source: str | None = None  # where the last suggestion was copied from
        self.fill: Fill | None = None  # the last
        self.latency_ms = 0.0  # from its request's arrival to the answer
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
        self.indexing: list[asyncio.Future[None]] = []  # which keeps the tasks
        self.files_watched = False  # by the client
        self.offered = False  # the better model, in this session
        self.fetching: asyncio.Task[None] | None = None

    def configure(self, options: Json) -> None:
        """Take over the options; say what is wrong with them; load the model where it is another."""
        before = self.settings
        self.settings, warnings = apply_options(before, options)
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
        now = self.status()
        if now != self.announced:
            self.announced = now
            self.protocol.notify(STATUS, now)

    def status(self) -> dict[str, Any]:
        """The parameters of the notification."""
        state, message = state_of(self.settings, self.completer, self.asked > 0)
        reason = self.refusal() or self.silence if state == "idle" else None
        fill = self.fill
        return {
            "state": state,
            "reason": reason,
            "message": message or (fill and fill.instead) or EXPLANATIONS[reason],
            "model": self.settings.model,
            "models": [{"name": n, "there": get.installed(n), "takes": str(m)} for n, m in get.MODELS.items()],
            "answered": (fill and fill.model) or None,
            "drafting": fill and DRAFTING[fill.drafting],
            "learned": learned(self.settings.model),
            "latencyMs": fill and round(self.latency_ms, 2),
            "passes": fill and fill.passes,
            "fromCache": fill and fill.passes == 0,
            "counts": dict(self.feedback.counts),
            "index": self.files.report(),
            "source": self.source,
            "nextEdit": NEXT_EDIT_EXPLANATIONS[self.next_edits.why] if self.settings.next_edit else None,
        }

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

    def follow_loading(self) -> None:
        """Show the client that the model is loading, and what is wrong if it does not."""
        self.announce()
        self.following = asyncio.gather(self.show_loading(), self.report_end(), return_exceptions=True)

    def report_hang(self, sentence: str) -> None:
        """Say that a pass did not come back, and follow the model that is loaded anew; or is not, which is said too."""
        if not self.completer.loading.done():
            self.tell(types.MessageType.Warning, sentence)
        self.follow_loading()

    @contextlib.asynccontextmanager
    async def show_progress(self, ended: Callable[[], str] | None = None, **begin: Any) -> AsyncIterator[str]:
        """Work-done progress, where the client shows any, and what it says at its end. Yields its token, which is empty
        where the client shows none.
        """
        window = self.client_capabilities.window
        token = str(uuid.uuid4()) if window and window.work_done_progress else ""
        if token:
            await self.work_done_progress.create_async(token)
            self.work_done_progress.begin(token, types.WorkDoneProgressBegin(**begin))
        try:
            yield token
        finally:
            if token:
                self.work_done_progress.end(token, types.WorkDoneProgressEnd(message=ended() if ended else None))

    def report_progress(self, token: str, message: str, percentage: int | None = None) -> None:
        if token:
            self.work_done_progress.report(token, types.WorkDoneProgressReport(message=message, percentage=percentage))

    async def show_loading(self) -> None:
        loading = self.completer.loading
        if not loading.done():
            async with self.show_progress(title="Inpaint", message="loading the model"):
                await asyncio.wait([asyncio.wrap_future(loading)])

    async def report_end(self) -> None:
        try:
            await asyncio.wrap_future(self.completer.loading)
            self.say_where_text_goes()
        except EngineError as error:
            self.tell(types.MessageType.Error, str(error))
        self.announce()

    def say_where_text_goes(self) -> None:
        """Once for a model that is a server."""
        if not is_url(self.settings.model):
            return
        address = parse_url(self.settings.model)
        what = f"{address.host} is sent the text around the cursor, and of other open files"
        if address.in_the_open:
            self.tell(
                types.MessageType.Warning, f"{what}, over the network unencrypted: https would hide it from others."
            )
        else:
            self.tell(types.MessageType.Info, f"{what}. Secrets' files are not.")

    def index_folders(self) -> None:
        """Index the session's folders anew, where the user wants it, and have them watched by the client if it can."""
        if not (self.settings.workspace and self.settings.enabled):
            self.files.close("off")
            return
        folders = self.settings.folders or tuple(path_of(folder.uri) for folder in self.workspace.folders.values())
        if self.knows_one_folder and not folders and self.workspace.root_path:
            folders = (self.workspace.root_path,)
        self.files.open([folder for folder in folders if folder], self.settings.disabled_globs)
        capabilities = self.client_capabilities.workspace
        watched = capabilities.did_change_watched_files if capabilities else None
        if watched is None or not watched.dynamic_registration:
            self.files.watch()
        elif not self.files_watched:
            self.files_watched = True
            watchers = [types.FileSystemWatcher(glob_pattern="**/*")]
            options = types.DidChangeWatchedFilesRegistrationOptions(watchers=watchers)
            registration = types.Registration("files", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)
            self.client_register_capability(types.RegistrationParams(registrations=[registration]))
        work = self.index_imports([*self.documents.values()]), self.show_indexing()
        self.indexing = [asyncio.ensure_future(each) for each in work]

    async def show_indexing(self) -> None:
        """Progress while an index is built that takes a while."""
        await asyncio.sleep(1)
        if self.files.state != "building":
            return
        begin = {"title": "Inpaint", "message": "reading the workspace", "percentage": 0}
        async with self.show_progress(lambda: f"{len(self.files.index)} files", **begin) as token:
            while self.files.state == "building":
                read, of = self.files.progress.read, self.files.progress.of
                self.report_progress(token, f"{read} of {of} files", 100 * read // max(1, of))
                await asyncio.sleep(0.5)


def own_version() -> str:
    try:
        return version("inpaint-lsp")
    except PackageNotFoundError:
        return "0"  # run from a source tree
