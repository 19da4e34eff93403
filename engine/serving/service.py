"""One question's life on the server: its turn, its fill, and what of that is said when."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from engine import AUTO
from engine.contract import EngineError, Fill, Progress, TokenSpan
from engine.serving.ipc import Filled
from engine.serving.metrics import Metrics
from engine.serving.scheduler import DeadlineExceeded, Scheduler
from engine.serving.schema import Answer, CompletionRequest, Finish, Token
from engine.serving.stop_strings import cut
from engine.serving.workers import WorkerProcess


class Service:
    """Worker processes, who has a turn at them, and what is counted. Runs within `running`.

    With `must_load` that begins once a worker has loaded the model, and raises EngineError where it cannot.
    """

    def __init__(self, model: str, command: Sequence[str], workers: int, queue: int, must_load: bool = False) -> None:
        self.model, self._must_load = shown(model), must_load
        self.name = secrets.token_hex(4)  # among others of one address
        self.scheduler = Scheduler([WorkerProcess(command) for _ in range(workers)], queue)
        self.metrics = Metrics(self.scheduler)
        self.settled = asyncio.Event()  # a worker is ready, or says that the model cannot be loaded

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(process.run(self._changed)) for process in self.scheduler.processes]
        try:
            if self._must_load:
                await self.settled.wait()
                if self.failure:
                    raise EngineError(self.failure)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _changed(self) -> None:
        if self.ready or self.failure:
            self.settled.set()
        self.scheduler.dispatch()

    @property
    def ready(self) -> bool:
        return any(process.ready for process in self.scheduler.processes)

    @property
    def reach(self) -> int:
        """See Engine.reach; 0 until a worker has been ready."""
        return max(process.reach for process in self.scheduler.processes)

    @property
    def failure(self) -> str | None:
        """Why no worker could load the model."""
        failures = [process.failure for process in self.scheduler.processes]
        return None if self.ready else next(filter(None, failures), None)

    async def whole(self, asked: CompletionRequest, user: str, session: str) -> Answer:
        """The answer at once. Raises as Scheduler.fill does."""
        parts = [part async for part in self.parts(asked, user, session)]
        text, made = "".join(part.text for part in parts), tuple(token for part in parts for token in part.made)
        return msgspec.structs.replace(parts[-1], text=text, made=made)

    async def parts(self, asked: CompletionRequest, user: str, session: str) -> AsyncIterator[Answer]:
        """The answer as it comes; the last one has `finish`. Raises as Scheduler.fill does."""
        news: asyncio.Queue[Progress | None] = asyncio.Queue()
        watched = asked.stream or asked.stops or asked.indent  # may end before the fill does
        watch = news.put_nowait if watched else None
        filling = asyncio.create_task(self.scheduler.fill(user, session, asked.request, watch))
        filling.add_done_callback(lambda _: news.put_nowait(None))
        answering = AnswerStream(asked)
        try:
            while (progress := await news.get()) is not None:
                part = answering.progressed(progress)
                if part.finish or part.text or part.canvas is not None:
                    yield part
                if part.finish:
                    return
            yield await self._last(answering, filling)
        finally:
            filling.cancel()

    async def _last(self, answering: AnswerStream, filling: asyncio.Task[tuple[Filled, float]]) -> Answer:
        try:
            filled, queued = await filling
        except DeadlineExceeded:
            self.metrics.late.inc()
            return Answer(text="", finish="limit")
        self.metrics.filled(filled, queued)
        return msgspec.structs.replace(answering.ended(filled.fill), queued_ms=queued * 1000)


def shown(model: str) -> str:
    """The name that clients see: of a folder its last part, for where it lies is nobody's business."""
    if model.startswith(f"{AUTO}:"):
        return AUTO
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model


class AnswerStream:
    """What was said of a fill so far."""

    def __init__(self, asked: CompletionRequest) -> None:
        self._asked = asked
        self._text, self._spoken = "", 0  # tokens

    def progressed(self, progress: Progress) -> Answer:
        """What a pass adds. Nothing is taken back: where a worker died, the next one comes to the same text."""
        made = cut(progress.text, self._asked, final=False)
        text, tokens = self._new(made.text, progress.pieces)
        finish: Finish | None = ("stop" if made.stop else "limit") if made.ended else None
        canvas = progress.canvas if self._asked.canvas else None
        return Answer(text=text, finish=finish, stop=made.stop, made=tokens, canvas=canvas)

    def ended(self, fill: Fill) -> Answer:
        made = cut(fill.text, self._asked, final=True)
        text, tokens = self._new(made.text, fill.pieces)
        finish: Finish = "stop" if made.stop else "end" if fill.complete and not made.ended else "limit"
        return Answer(text=text, finish=finish, stop=made.stop, made=tokens, fill=fill)

    def _new(self, text: str, pieces: tuple[TokenSpan, ...]) -> tuple[str, tuple[Token, ...]]:
        if not text.startswith(self._text):
            return "", ()
        new, self._text = text[len(self._text) :], text
        ends = [0, *(piece.end for piece in pieces if piece.end <= len(text))]
        spans = list(zip(pairwise(ends), pieces, strict=False))
        tokens = [Token(text[start:end], piece.probability) for (start, end), piece in spans if end > start]
        fresh, self._spoken = tokens[self._spoken :], max(self._spoken, len(tokens))
        return new, tuple(fresh)
