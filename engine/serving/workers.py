"""The processes that fill. On a CPU there is one for each core, or for as many as a pass of the model uses, each with
one fill at a time; on a GPU there is one, whose fills share passes.

A process that ends is started again; what ran in it is answered by Away, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from engine.contract import Cancelled, EngineError, FillRequest, Progress, Refusal
from engine.embedded import Embedded
from engine.options import Choice
from engine.serving.frames import (
    Broken,
    Filled,
    Order,
    Progressed,
    Ready,
    Report,
    Start,
    Stop,
    Unable,
    fields_of,
    frame,
    receive,
    reports,
)

PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds before a process that ended is started again; twice as long each time

logger = logging.getLogger(__name__)


class Away(Exception):
    """The process has ended while it filled; the same request may be asked again."""


class Asked:
    """A fill that is asked for, and its answer: cancelling that stops the work at its next pass."""

    def __init__(self, request: FillRequest, watch: Callable[[Progress], None] | None) -> None:
        self.request, self.watch = request, watch
        self.started = 0.0  # by time.perf_counter(), as the deadline
        self.deadline: float | None = None
        self.answer: asyncio.Future[Filled] = asyncio.get_running_loop().create_future()


class Process:
    """One worker process, for ever: `run` starts it and starts it again. `parallel` is 0 while it is not ready."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._numbers = itertools.count()
        self._jobs: dict[int, Asked] = {}
        self._input: asyncio.StreamWriter | None = None
        self.parallel = self.reach = self.pid = 0
        self.failure: str | None = None  # why the model could not be loaded

    @property
    def running(self) -> int:
        """Fills that have not ended; one that was cancelled ends at its next pass."""
        return len(self._jobs)

    async def run(self, changed: Callable[[], None]) -> None:
        """Until cancelled; `changed` is called when there is room for another fill."""
        pause = PAUSE
        while True:
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe)
            assert process.stdin is not None
            assert process.stdout is not None
            self._input, self.pid = process.stdin, process.pid
            try:
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    while True:
                        self._take(reports.decode(await receive(process.stdout)))
                        pause = PAUSE if self.parallel else pause
                        changed()
            finally:
                self.parallel, self._input = 0, None
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

    def _take(self, report: Report) -> None:
        if isinstance(report, Ready):
            self.parallel, self.reach, self.failure = report.parallel, report.reach, None
        elif isinstance(report, Unable):
            self.failure = report.message
        elif isinstance(report, Progressed):
            watch = self._jobs[report.number].watch
            if watch is not None and not self._jobs[report.number].answer.done():
                watch(report.progress)
        else:
            self._end(self._jobs.pop(report.number).answer, report)

    def _end(self, answer: asyncio.Future[Filled], report: Report) -> None:
        if answer.done():
            return  # cancelled
        if isinstance(report, Filled):
            answer.set_result(report)
        elif isinstance(report, Broken):
            answer.set_exception((Refusal if report.refused else EngineError)(report.error))
        else:
            answer.set_exception(Cancelled())

    def _lose(self) -> None:
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            if not job.answer.done():
                job.answer.set_exception(Away())

    def start(self, asked: Asked) -> None:
        """Begin the fill. Its answer is Away where the process ends, and an EngineError where the fill fails."""
        number = next(self._numbers)
        self._jobs[number] = asked
        asked.started = time.perf_counter()
        request = asked.request
        if asked.deadline is not None:
            request = msgspec.structs.replace(request, deadline_ms=(asked.deadline - asked.started) * 1000)
        self._send(Start(number, fields_of(request), asked.watch is not None))
        asked.answer.add_done_callback(partial(self._stop, number))

    def _stop(self, number: int, answer: asyncio.Future[Filled]) -> None:
        if number in self._jobs:
            self._send(Stop(number))

    def _send(self, order: Order) -> None:
        if self._input is not None:
            self._input.write(frame(order))


def command(choice: Choice) -> Sequence[str]:
    """That starts a process."""
    return sys.executable, "-m", "engine.serving.worker", *choice.arguments()


def default_count(choice: Choice) -> int:
    """How many processes use the machine well: public checkpoints use all of it in one."""
    if not Embedded.holds(choice.model) or choice.device not in ("auto", "cpu"):
        return 1
    return max(1, cores() // Embedded.threads(choice.model))


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
