"""The processes that fill. On a CPU there is one for each core, or for as many as a pass of the model uses, each with
one fill at a time; on a GPU there is one, whose fills share passes.

A process that ends is started again; what ran in it is answered by WorkerDied, once. One that goes on for nobody is
stuck, which a health check sees, and after a while it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from engine.contract import Cancelled, EngineError, FillRequest, Progress, Refusal
from engine.embedded import Embedded
from engine.options import ModelChoice
from engine.serving import ipc

PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds before a process that ended is started again; twice as long each time
LONGEST_FILL = 600.0  # seconds: what takes longer is waited for by nobody
STUCK, LOST = 30.0, 600.0  # seconds that a fill goes on for nobody; a pass of a large model on a CPU takes minutes

logger = logging.getLogger(__name__)


class WorkerDied(Exception):
    """The process has ended while it filled; the same request may be asked again."""


class Job:
    """A fill that is asked for, and its answer: cancelling that stops the work at its next pass.

    Times are by time.perf_counter(). Raises OverflowError and UnicodeError where no process could be told the request.
    """

    def __init__(self, request: FillRequest, watch: Callable[[Progress], None] | None) -> None:
        self.request, self.watch = request, watch
        self.packed = ipc.packed(request)
        self.started = 0.0
        self.deadline = self.left = math.inf  # when who asked has gone
        self.answer: asyncio.Future[ipc.Filled] = asyncio.get_running_loop().create_future()

    @property
    def overdue(self) -> float:
        """Seconds for which it has gone on for nobody; negative where somebody waits."""
        return time.perf_counter() - min(self.left, self.deadline, self.started + LONGEST_FILL)


class WorkerProcess:
    """One worker process, for ever: `run` starts it and starts it again. `parallel` is 0 while it is not ready."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._numbers = itertools.count()
        self._jobs: dict[int, Job] = {}
        self._process: asyncio.subprocess.Process | None = None
        self.parallel = self.reach = self.pid = 0
        self.failure: str | None = None  # why the model could not be loaded

    @property
    def running(self) -> int:
        """Fills that have not ended; one that was cancelled ends at its next pass."""
        return len(self._jobs)

    @property
    def ready(self) -> bool:
        """Whether it can fill: the model is loaded, and not all of its fills are stuck."""
        return sum(job.overdue > STUCK for job in self._jobs.values()) < self.parallel

    def end_lost(self) -> None:
        """End the process where a fill does not come back."""
        if self._process is not None and any(job.overdue > LOST for job in self._jobs.values()):
            self._process.kill()

    async def run(self, changed: Callable[[], None]) -> None:
        """Until cancelled; `changed` is called when there is room for another fill."""
        pause = PAUSE
        while True:
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe)
            assert process.stdin is not None
            assert process.stdout is not None
            self._process, self.pid = process, process.pid
            try:
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
                    while True:
                        self._take(ipc.reports.decode(await ipc.receive(process.stdout)))
                        pause = PAUSE if self.parallel else pause
                        changed()
            finally:
                self.parallel, self._process = 0, None
                self._lose()
                process.stdin.close()
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                # to the end of its output too, or its pipes are closed when the event loop no longer is there
                await process.communicate()
            if self.failure is None:
                logger.error("The worker %d ended (exit code %s) and is started again.", self.pid, process.returncode)
            changed()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _take(self, report: ipc.Report) -> None:
        if isinstance(report, ipc.Ready):
            self.parallel, self.reach, self.failure = report.parallel, report.reach, None
        elif isinstance(report, ipc.LoadFailed):
            self.failure = report.message
        elif isinstance(report, ipc.Progressed):
            watch = self._jobs[report.number].watch
            if watch is not None and not self._jobs[report.number].answer.done():
                watch(report.progress)
        else:
            self._end(self._jobs.pop(report.number).answer, report)

    def _end(self, answer: asyncio.Future[ipc.Filled], report: ipc.Report) -> None:
        if answer.done():
            return  # cancelled
        if isinstance(report, ipc.Filled):
            answer.set_result(report)
        elif isinstance(report, ipc.Failed):
            answer.set_exception((Refusal if report.refused else EngineError)(report.error))
        else:
            answer.set_exception(Cancelled())

    def _lose(self) -> None:
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            if not job.answer.done():
                job.answer.set_exception(WorkerDied())

    def start(self, job: Job) -> None:
        """Begin the fill. Its answer is WorkerDied where the process ends, and an EngineError where the fill fails."""
        number = next(self._numbers)
        self._jobs[number] = job
        job.started = time.perf_counter()
        left = None if job.request.deadline_ms is None else (job.deadline - job.started) * 1000
        self._send(ipc.Start(number, job.packed, left, job.watch is not None))
        job.answer.add_done_callback(partial(self._stop, number))

    def _stop(self, number: int, answer: asyncio.Future[ipc.Filled]) -> None:
        if job := self._jobs.get(number):
            job.left = time.perf_counter()
            self._send(ipc.StopRequest(number))

    def _send(self, command: ipc.Command) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(ipc.frame(command))


def command(choice: ModelChoice) -> Sequence[str]:
    """That starts a process."""
    return sys.executable, "-m", "engine.serving.worker", *choice.arguments()


def default_count(choice: ModelChoice) -> int:
    """How many processes use the machine well: public checkpoints use all of it in one."""
    if not Embedded.holds(choice.model) or choice.device not in ("auto", "cpu"):
        return 1
    return max(1, cores() // Embedded.threads(choice.model))


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
