"""Whose turn it is, and where: users take turns, and a session stays with the worker that has read its text.

Who waits is bounded: a request beyond that is refused at once, for an answer that comes too late serves nobody. It is
the last request of the user who has the most of them. Of the users that wait, the one who was served longest ago is
next; within a user, who came first. A request waits for its
session's own worker for a moment only, since reading the text anew costs little more than one fill.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from functools import partial

import msgspec

from engine.contract import FillRequest, Progress
from engine.serving.ipc import Filled
from engine.serving.workers import Job, WorkerDied, WorkerProcess

PATIENCE = 0.02  # seconds that a request waits for its session's worker while another is free
SESSIONS = 10_000  # whose worker is remembered


class QueueFull(Exception):
    """So many wait that one more is refused."""


class DeadlineExceeded(Exception):
    """The deadline passed before it was the request's turn."""


class QueuedRequest(msgspec.Struct, eq=False):
    user: str
    session: str
    job: Job
    since: float


class Scheduler:
    """Over worker processes, of which any may be away."""

    def __init__(self, processes: list[WorkerProcess], most: int) -> None:
        self.processes, self._most = processes, most
        self._queues: OrderedDict[str, deque[QueuedRequest]] = (
            OrderedDict()
        )  # by user, the one served longest ago first
        self._homes: OrderedDict[str, WorkerProcess] = OrderedDict()  # of sessions, the least recent first
        self._sessions: Counter[WorkerProcess] = Counter()  # that are at home there

    @property
    def waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    @property
    def running(self) -> int:
        return sum(process.running for process in self.processes)

    @property
    def concurrency(self) -> int:
        """How many fills one who asks for several does well to ask for at once: no more than run at the same time, and
        not so many that they alone fill the queue.
        """
        return max(1, min(self._most, sum(process.parallel for process in self.processes)))

    async def fill(
        self, user: str, session: str, request: FillRequest, watch: Callable[[Progress], None] | None = None
    ) -> tuple[Filled, float]:
        """Fill when it is the request's turn; and the seconds until then. The deadline counts from now; cancelling the
        call stops the work.

        A session is one text that is typed: its requests are best read by one worker. Raises QueueFull,
        DeadlineExceeded, WorkerDied where the worker died and so did the next one, and EngineError where the model
        failed.
        """
        started = time.perf_counter()
        job = Job(request, watch)
        try:
            filled = await self._tried(user, session, job, started)
        except WorkerDied:
            job = Job(request, watch)
            filled = await self._tried(user, session, job, started)
        return filled, job.started - started

    async def _tried(self, user: str, session: str, job: Job, started: float) -> Filled:
        if self.waiting >= self._most:
            self._make_room(user)
        loop = asyncio.get_running_loop()
        waiting = QueuedRequest(user, session, job, loop.time())
        self._queues.setdefault(user, deque()).append(waiting)
        timers = [loop.call_later(PATIENCE, self.dispatch)]
        if job.request.deadline_ms is not None:
            job.deadline = started + job.request.deadline_ms / 1000
            timers.append(loop.call_later(job.deadline - time.perf_counter(), self._expire, waiting))
        job.answer.add_done_callback(partial(self._leave, waiting))
        self.dispatch()
        try:
            return await job.answer
        finally:
            for timer in timers:
                timer.cancel()

    def _make_room(self, user: str) -> None:
        """Refuse the last request of who has more than this user would have. Raises QueueFull where nobody has."""
        longest = max(self._queues.values(), key=len, default=deque[QueuedRequest]())
        if len(longest) < len(self._queues.get(user, ())) + 2:
            raise QueueFull
        self._refuse(longest[-1], QueueFull())

    def _expire(self, waiting: QueuedRequest) -> None:
        if waiting in self._queues.get(waiting.user, ()):
            self._refuse(waiting, DeadlineExceeded())

    def _refuse(self, waiting: QueuedRequest, why: Exception) -> None:
        self._leave(waiting)
        if not waiting.job.answer.done():
            waiting.job.answer.set_exception(why)

    def _leave(self, waiting: QueuedRequest, answer: asyncio.Future[Filled] | None = None) -> None:
        """Out of the queue, where it is still in it."""
        queue = self._queues.get(waiting.user)
        if queue is not None and waiting in queue:
            queue.remove(waiting)
            if not queue:
                del self._queues[waiting.user]

    def dispatch(self) -> None:
        """Give turns while there is room; called whenever there may be more of it."""
        for process in sorted(self.processes, key=self._sessions.__getitem__):
            process.end_lost()
            while process.running < process.parallel and (waiting := self._next(process)) is not None:
                self._leave(waiting)
                if waiting.user in self._queues:
                    self._queues.move_to_end(waiting.user)
                self._remember(waiting.session, process)
                process.start(waiting.job)

    def _next(self, process: WorkerProcess) -> QueuedRequest | None:
        """Who has waited for longest of those that may go to that worker."""
        now = asyncio.get_running_loop().time()
        for queue in self._queues.values():
            home = self._homes.get(queue[0].session)
            if home in (None, process) or not home.parallel or now - queue[0].since >= PATIENCE:
                return queue[0]
        return None

    def _remember(self, session: str, process: WorkerProcess) -> None:
        if session in self._homes:
            self._sessions[self._homes.pop(session)] -= 1
        self._homes[session] = process
        self._sessions[process] += 1
        if len(self._homes) > SESSIONS:
            self._sessions[self._homes.popitem(last=False)[1]] -= 1
