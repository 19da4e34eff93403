"""One request's life: the newest wins, whatever the client does.

The engine runs on one worker thread and the event loop never waits for it. A new request, an edit or a cancel sets the
event of the one that runs, which stops between two passes, and takes one that still waits out of the queue. A
superseded request is answered with nothing, at once and before the newer one, since Neovim shows what arrives last.

Nothing here knows LSP, so the model loads while the protocol's modules, half a second of them, are imported.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from engine import Cancelled, Engine, EngineError, Fill, FillRequest
from lsp_server.cache import Cache

logger = logging.getLogger(__name__)


class Filler(Protocol):
    """What is asked of a loaded engine."""

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill: ...


class Completer:
    """Answers requests one at a time, from the cache or the engine; with nothing while no model is loaded."""

    def __init__(self, load_engine: Callable[[str], Filler] = Engine.load) -> None:
        self._load_engine = load_engine
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._engine: Filler | None = None
        self._cache = Cache()
        self._uri = ""  # of the newest request
        self._cancel = threading.Event()
        self._pending: asyncio.Future[Fill] | None = None  # its work on the worker
        self._task: asyncio.Task[None] | None = None  # its answer
        self.loading: Future[None] = Future()

    def load(self, model: str) -> None:
        """Start loading a model on the worker; `loading` ends with it, by EngineError where that fails."""
        self.loading = self._worker.submit(self._load, model)
        self._cache.clear()

    def _load(self, model: str) -> None:
        try:
            self._engine = self._load_engine(model)
        except EngineError as error:
            logger.error("%s", error)
            raise
        except Exception as error:
            logger.exception('The model "%s" could not be loaded.', model)
            raise EngineError(f'The model "{model}" could not be loaded: {error}.') from error

    async def fill(self, uri: str, request: FillRequest | None) -> Fill | None:
        """The fill of a request in the document `uri`; None where there is none, or a newer request came.

        A request of None asks for nothing, but is the newest all the same.
        """
        self.supersede()
        previous, self._task = self._task, asyncio.current_task()
        self._uri, cancel = uri, threading.Event()
        self._cancel = cancel
        if previous is not None and not previous.done():
            await asyncio.wait({previous})
        if request is None or self._engine is None or not self.loading.done() or cancel.is_set():
            return None
        return self._cache.find(uri, request) or await self._ask(uri, request, cancel)

    async def _ask(self, uri: str, request: FillRequest, cancel: threading.Event) -> Fill | None:
        pending = self._pending = asyncio.wrap_future(self._worker.submit(self._run, request, cancel))
        try:
            fill = await pending
        except asyncio.CancelledError:
            if cancel.is_set():
                return None  # superseded
            cancel.set()
            raise  # cancelled by the client: pygls answers that
        except Cancelled:
            return None
        except Exception:
            logger.exception("The engine failed.")
            return None
        if fill.text or fill.complete:  # nothing within the deadline does not mean that nothing comes here
            self._cache.add(uri, request, fill)
        return None if cancel.is_set() else fill

    def _run(self, request: FillRequest, cancel: threading.Event) -> Fill:
        if self._engine is None or cancel.is_set():
            raise Cancelled
        return self._engine.fill(request, cancel)

    def supersede(self) -> None:
        """Stop the newest request's work, if there is any, and have it answered with nothing."""
        self._cancel.set()
        if self._pending is not None:
            self._pending.cancel()

    def edited(self, uri: str) -> None:
        """The text of the document is another now: an answer to the one before would be stale."""
        if uri == self._uri:
            self.supersede()

    def forget(self) -> None:
        """Drop the cached completions."""
        self._cache.clear()

    def close(self) -> None:
        """Stop the work and let the worker end."""
        self.supersede()
        self._worker.shutdown(wait=False, cancel_futures=True)
