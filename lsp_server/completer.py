"""One request's life: the newest wins, whatever the client does.

The engine runs on one worker thread and the event loop never waits for it. A new request, an edit or a cancel sets the
event of the one that runs, which stops between two passes, and takes one that still waits out of the queue. A
superseded request is answered with nothing, at once and before the newer one, since Neovim shows what arrives last.
A request for what is being worked at already joins that work.

While the user looks at a completion, the worker prefetches what follows it. Any request but the expected one ends that;
an edit does not, for it may be the acceptance, and the request after it tells. What the model would have to read for a
request like the last one is read ahead then, too, until there is any request or edit.

A pass that does not come back costs its request and a load of the model, and after some of these the completions.

Nothing here knows LSP, so the model loads while the protocol's modules, half a second of them, are imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeAlias

import msgspec

from engine import Cancelled, Engine, EngineError, Fill, FillRequest
from lsp_server.cache import CompletionCache
from lsp_server.watchdog import LOOK, RELOADS, Watchdog

logger = logging.getLogger(__name__)

IDLE = 0.2  # seconds without a key, after which the user looks at the completion


LoadEngine: TypeAlias = Callable[..., Engine]  # of a model, a device, and what else Engine.load takes


class FillJob(NamedTuple):
    """A fill that the worker makes or is about to make; of None where it was stopped or failed."""

    request: FillRequest
    cancel: threading.Event
    work: Future[Fill | None]
    answer: asyncio.Future[Fill | None]


class WorkCounters(msgspec.Struct, rename="camel"):
    """What a session's requests have cost.

    A request is answered from the cache, joins a job, starts one, or asks for nothing. A started job is finished,
    cancelled or failed; it is stale where it was finished although nobody waited any more. `passes`, `encoded` and
    `reused` (tokens of context) are those of finished jobs, `wasted_ms` the worker's time for the cancelled and stale.
    `found_read` counts the finished that the best model answered with its whole window, `read_ahead` the readings that
    were finished before there was a request.
    """

    requests: int = 0
    from_cache: int = 0
    joined: int = 0
    prefetched: int = 0
    started: int = 0
    finished: int = 0
    cancelled: int = 0
    stale: int = 0
    passes: int = 0
    encoded: int = 0
    reused: int = 0
    wasted_ms: float = 0.0
    found_read: int = 0
    read_ahead: int = 0


class Completer:
    """Answers requests one at a time, from the cache or the engine; with nothing while no model is loaded."""

    def __init__(self, load_engine: LoadEngine = Engine.load) -> None:
        self._load_engine = load_engine
        self._model = ("", "")  # and its device
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._watchdog = Watchdog()
        self._given_up = 0  # passes that did not come back
        self.on_hang: Callable[[str], None] = lambda sentence: None  # is told what is done about one
        self._engine: Engine | None = None
        self._cache = CompletionCache(reach=0)
        self._uri = ""  # of the newest request
        self._turn = object()  # another one when that is superseded
        self._task: asyncio.Task[None] | None = None  # its answer
        self._answer: asyncio.Future[Fill | None] | None = None  # what that waits for
        self._job: FillJob | None = None  # the newest
        self._idle_timer: asyncio.TimerHandle | None = None  # ends in a prefetch, and in reading ahead
        self._to_prefetch: FillRequest | None = None
        self._to_read: FillRequest | None = None
        self._reading: tuple[threading.Event, asyncio.Future[bool]] | None = None  # the newest, and what cancels it
        self.work = WorkCounters()
        self.failure: str | None = None  # what went wrong in the last fill
        self.loading: Future[None] = Future()

    def load(self, model: str, device: str = "auto") -> None:
        """Start loading a model on the worker; `loading` ends with it, by EngineError where that fails."""
        self._model = (model, device)
        self._stop_idle_work()
        self.loading = self._worker.submit(self._load, model, device)

    def _load(self, model: str, device: str) -> None:
        try:
            engine = self._load_engine(model, device)
        except EngineError as error:
            logger.error("%s", error)
            raise
        except Exception as error:
            logger.exception('The model "%s" could not be loaded.', model)
            raise EngineError(f'The model "{model}" could not be loaded: {error}.') from error
        self._engine, self._cache, self.failure = engine, CompletionCache(engine.reach), None

    async def fill(self, uri: str, request: FillRequest | None) -> Fill | None:
        """The fill of a request in the document `uri`; None where there is none, or a newer request came.

        A request of None asks for nothing, but is the newest all the same.
        """
        self.work.requests += 1
        joined = self._joinable(request) if request else None
        self.supersede(keep=joined)
        turn, previous, self._uri, self._task = self._turn, self._task, uri, asyncio.current_task()
        fill = self._cache.find(request) if request and self._ready() else None
        self.work.from_cache += fill is not None
        answer = None
        if request and fill is None and self._ready():
            self.work.joined += joined is not None
            answer = asyncio.shield((joined or self._start(request)).answer)
        self._answer = answer
        try:
            if previous is not None and previous is not self._task and not previous.done():
                await asyncio.wait({previous})
            fill = await answer if answer is not None else fill
        except asyncio.CancelledError:
            if self._turn is turn:
                self.supersede()
                raise  # cancelled by the client: pygls answers that
        if self._turn is not turn:
            return None
        self.read_ahead(request)
        return fill

    async def fills(self, uri: str, request: FillRequest | None, most: int) -> list[Fill]:
        """The fill, and others that differ from it while the deadline lasts; none where a newer request came."""
        found, started, asked = list[Fill](), time.perf_counter(), request
        while asked is not None and len(found) < most:
            fill = await self.fill(uri, asked)
            if fill is None:
                return []
            found.append(fill)
            asked = next_alternative(asked, fill, (time.perf_counter() - started) * 1000)
            started = time.perf_counter()
        return found

    def _ready(self) -> bool:
        return self._engine is not None and self.loading.done()

    def _joinable(self, request: FillRequest) -> FillJob | None:
        """The job whose answer is one to the request too, if it goes on."""
        job = self._job
        going_on = job is not None and not job.answer.done() and not job.cancel.is_set()
        return job if job and going_on and self._cache.same(request, job.request) else None

    def prefetch(self, request: FillRequest | None) -> None:
        """Soon fill what a client may ask for next, if nothing else happens until then."""
        self._to_prefetch = request
        self._restart_idle_timer()

    def read_ahead(self, request: FillRequest | None) -> None:
        """Soon read what a request like this one would have to, if nothing else happens until then."""
        self._to_read = request
        self._restart_idle_timer()

    def _restart_idle_timer(self) -> None:
        self._stop_idle_work()
        self._idle_timer = asyncio.get_running_loop().call_later(IDLE, self._on_idle)

    def _on_idle(self) -> None:
        if not self.loading.done():
            self._restart_idle_timer()
            return
        then, ahead, self._to_prefetch = self._to_prefetch, self._to_read, None
        idle = self._job is None or self._job.answer.done()
        if not idle or not self._ready():
            return
        if then is not None and self._cache.find(then) is None:
            self.work.prefetched += 1
            self._start(then)
        if ahead is not None:
            cancel = threading.Event()
            work = asyncio.wrap_future(self._worker.submit(self._run_reading, ahead, cancel))
            self._reading = cancel, work
            work.add_done_callback(partial(self._retry_reading, ahead, cancel))

    def _run_reading(self, request: FillRequest, cancel: threading.Event) -> bool:
        """See Engine.read; True where it was stopped or failed, too."""
        if self._engine is None or cancel.is_set():
            return True
        try:
            done = self._engine.read(request, cancel)
        except Cancelled:
            return True
        except Exception:
            logger.exception("The engine failed to read ahead.")
            return True
        self.work.read_ahead += done
        return done

    def _retry_reading(self, request: FillRequest, cancel: threading.Event, work: asyncio.Future[bool]) -> None:
        """What could not be read because a model was still being loaded is read later."""
        if not (work.cancelled() or work.result() or cancel.is_set()):
            self.read_ahead(request)

    def _start(self, request: FillRequest) -> FillJob:
        cancel = threading.Event()
        work = self._worker.submit(self._run, request, cancel)
        self._job = FillJob(request, cancel, work, asyncio.wrap_future(work))
        self._job.answer.add_done_callback(partial(add_to_cache, self._cache, request))
        self._watch_for_hang(self._job)
        return self._job

    def _watch_for_hang(self, job: FillJob) -> None:
        """Look again and again whether the worker comes back, until the job is done."""
        if self._watchdog.overdue():
            self._give_up()
        elif not job.answer.done():
            asyncio.get_running_loop().call_later(LOOK, self._watch_for_hang, job)

    def _give_up(self) -> None:
        """Leave the worker to its pass, and load the model anew on another; not for ever."""
        self._watchdog.forget()
        self.supersede()
        if self._job is not None:
            self._job.answer.cancel()
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._engine = None
        self._given_up += 1
        if self._given_up > RELOADS:
            sentence = f"Completion is off: the model did not come back {self._given_up} times. Start the server anew."
            self.loading = Future()
            self.loading.set_exception(EngineError(sentence))
        else:
            sentence = "A pass of the model did not come back: it is loaded anew."
            self.load(*self._model)
        logger.error("%s", sentence)
        self.on_hang(sentence)

    def _run(self, request: FillRequest, cancel: threading.Event) -> Fill | None:
        engine = self._engine
        if engine is None or cancel.is_set():
            return None
        work, started, fill = self.work, time.perf_counter(), None
        work.started += 1
        try:
            with self._watchdog.watching(request.deadline_ms):
                fill = validated(engine.fill(request, cancel))
            if engine is not self._engine:
                return None  # it was given up
            self._watchdog.learn(fill)
            self.failure = None
            work.finished += 1
            work.stale += cancel.is_set()
            work.passes += fill.passes
            work.encoded += fill.encoded
            work.reused += fill.reused
            work.found_read += fill.whole_window
        except Cancelled:
            work.cancelled += 1
        except Exception as error:
            logger.exception("The engine failed.")
            self.failure = f"The last completion failed ({type(error).__name__}: {error}); the log says more."
        if cancel.is_set():
            work.wasted_ms += (time.perf_counter() - started) * 1000
        return fill

    def supersede(self, keep: FillJob | None = None) -> None:
        """Have the newest request answered with nothing, and stop the work, if there is any, but for a job to keep."""
        self._turn = object()
        self._stop_idle_work()
        self._to_prefetch = None
        if self._job is not None and self._job is not keep:
            self._job.cancel.set()
            self._job.work.cancel()
        if self._answer is not None:
            self._answer.cancel()

    def _stop_idle_work(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._reading is not None:
            self._reading[0].set()

    def edited(self, uri: str) -> None:
        """The text of the document is another now: an answer to the one before would be stale."""
        if uri == self._uri:
            waited_for = self._answer is not None and not self._answer.done()
            self.supersede(keep=None if waited_for else self._job)

    def forget(self) -> None:
        """Drop the cached completions."""
        self._cache.clear()

    def drop(self, request: FillRequest) -> None:
        """Drop the cached completion of a request, of which nothing can be shown."""
        self._cache.remove(request)

    def close(self) -> None:
        """Stop the work and let the worker end. The loop may be gone, and then cannot be told of what is cancelled."""
        with contextlib.suppress(RuntimeError):
            self.supersede()
        if self._job is not None:
            with contextlib.suppress(RuntimeError):
                self._job.answer.cancel()
        if self._reading is not None:
            with contextlib.suppress(RuntimeError):
                self._reading[1].cancel()
        self._worker.shutdown(wait=False, cancel_futures=True)


def validated(fill: Fill) -> Fill:
    """Raises ValueError where a number of the fill is none: so are the logits then."""
    if not 0 <= fill.confidence <= 1:
        raise ValueError(f"a confidence of {fill.confidence}")
    return fill


def next_alternative(request: FillRequest, fill: Fill, took_ms: float) -> FillRequest | None:
    """What asks for another fill in the time that is left; None where there is none, or no other fill."""
    left = None if request.deadline_ms is None else request.deadline_ms - took_ms
    if not fill.text or fill.text in request.others or (left is not None and left <= 0):
        return None
    return msgspec.structs.replace(request, others=(*request.others, fill.text), deadline_ms=left)


def add_to_cache(cache: CompletionCache, request: FillRequest, answer: asyncio.Future[Fill | None]) -> None:
    """Add a fill to the cache, but an empty one: who asks for more, or again, may get some."""
    fill = None if answer.cancelled() else answer.result()
    if fill is not None and fill.text:
        cache.add(request, fill)
