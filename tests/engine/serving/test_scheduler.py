"""The scheduler over workers that fill when the test says so."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from engine.contract import Fill, FillRequest, Sampling
from engine.serving import workers
from engine.serving.ipc import Filled
from engine.serving.scheduler import PATIENCE, DeadlineExceeded, QueueFull, Scheduler
from engine.serving.workers import Job, WorkerDied, WorkerProcess

FILL = Fill(text="x", confidence=1, passes=1, tokens=1, encoded=0, reused=0, encode_ms=0, decode_ms=0, complete=True)


class Held:
    """A worker with room for one fill."""

    def __init__(self) -> None:
        self.parallel = 1
        self.jobs: list[Job] = []

    @property
    def running(self) -> int:
        return len(self.jobs)

    def start(self, job: Job) -> None:
        self.jobs.append(job)

    def end_lost(self) -> None: ...

    def end(self, scheduler: Scheduler) -> str:
        """The prefix of what it filled."""
        job = self.jobs.pop()
        if not job.answer.done():
            job.answer.set_result(Filled(0, FILL, 1))
        scheduler.dispatch()
        return job.request.prefix


def ask(scheduler: Scheduler, user: str, prefix: str = "", session: str = "", **options: float) -> asyncio.Task[object]:
    return asyncio.create_task(scheduler.fill(user, session or user, FillRequest(prefix=prefix, **options)))


async def begun() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_users_take_turns_however_much_one_asks() -> None:
    worker = Held()
    scheduler = Scheduler([worker], 100)
    tasks = [ask(scheduler, "greedy", f"greedy {n}") for n in range(4)] + [ask(scheduler, "modest", "modest 0")]
    await begun()
    order = [worker.end(scheduler) for _ in range(5)]
    assert order == ["greedy 0", "greedy 1", "modest 0", "greedy 2", "greedy 3"] or order[:3] == [
        "greedy 0",
        "modest 0",
        "greedy 1",
    ]
    await asyncio.gather(*tasks)


async def test_a_session_stays_with_its_worker_and_sessions_are_spread() -> None:
    workers = [Held(), Held()]
    scheduler = Scheduler(workers, 100)
    homes: dict[str, Held] = {}
    for _ in range(3):
        for session in ("a", "b", "c", "d"):
            task = ask(scheduler, session, session)
            await begun()
            [worker] = [worker for worker in workers if worker.jobs]
            worker.end(scheduler)
            await task
            assert homes.setdefault(session, worker) is worker
    assert [list(homes.values()).count(worker) for worker in workers] == [2, 2]


async def test_a_session_waits_for_its_worker_for_a_moment_only() -> None:
    workers = [Held(), Held()]
    scheduler = Scheduler(workers, 100)
    first = ask(scheduler, "u", "first", "s")
    await begun()
    [home] = [worker for worker in workers if worker.jobs]
    second = ask(scheduler, "u", "second", "s")
    await begun()
    assert scheduler.waiting == 1  # though the other worker is free
    while scheduler.waiting:
        await asyncio.sleep(PATIENCE / 4)
    other = next(worker for worker in workers if worker is not home)
    assert other.end(scheduler) == "second"
    home.end(scheduler)
    await asyncio.gather(first, second)


async def test_a_session_whose_worker_is_away_goes_elsewhere_at_once() -> None:
    workers = [Held(), Held()]
    scheduler = Scheduler(workers, 100)
    task = ask(scheduler, "u", session="s")
    await begun()
    [home] = [worker for worker in workers if worker.jobs]
    home.parallel = 0
    home.jobs.pop().answer.set_exception(WorkerDied())
    await begun()
    other = next(worker for worker in workers if worker is not home)
    other.end(scheduler)
    await task


async def test_what_dies_twice_is_away() -> None:
    worker = Held()
    scheduler = Scheduler([worker], 100)
    task = ask(scheduler, "u")
    for _ in range(2):
        await begun()
        worker.jobs.pop().answer.set_exception(WorkerDied())
    with pytest.raises(WorkerDied):
        await task


async def test_cancelled_and_late_requests_leave_the_queue() -> None:
    worker = Held()
    scheduler = Scheduler([worker], 2)
    running, waiting, late = (
        ask(scheduler, "u", "runs"),
        ask(scheduler, "u", "waits"),
        ask(scheduler, "v", deadline_ms=1),
    )
    await begun()
    with pytest.raises(QueueFull):
        await ask(scheduler, "w")
    with pytest.raises(DeadlineExceeded):
        await late
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert scheduler.waiting == 0
    worker.end(scheduler)
    await running
    assert not worker.jobs


async def test_what_is_left_of_a_deadline_is_the_workers() -> None:
    worker = Held()
    scheduler = Scheduler([worker], 2)
    first, second = ask(scheduler, "u"), ask(scheduler, "u", deadline_ms=60_000)
    await begun()
    worker.end(scheduler)
    [job] = worker.jobs
    assert job.deadline is not None
    worker.end(scheduler)
    await asyncio.gather(first, second)


async def test_a_full_queue_is_shared_among_users() -> None:
    worker = Held()
    scheduler = Scheduler([worker], 4)
    greedy = [ask(scheduler, "greedy", f"greedy {n}") for n in range(5)]  # one runs, four wait
    await begun()
    modest = [ask(scheduler, "modest", f"modest {n}") for n in range(3)]
    await begun()
    refused = [task for task in (*greedy, *modest) if task.done()]
    assert refused == [*greedy[3:], modest[2]]
    for task in refused:
        with pytest.raises(QueueFull):
            await task
    order = [worker.end(scheduler) for _ in range(5)]
    assert sorted(order) == ["greedy 0", "greedy 1", "greedy 2", "modest 0", "modest 1"]
    await asyncio.gather(*greedy[:3], *modest[:2])


async def test_a_request_that_no_worker_can_be_told_takes_none() -> None:
    worker = Held()
    scheduler = Scheduler([worker], 4)
    with pytest.raises(OverflowError):
        await ask(scheduler, "u", sampling=Sampling(top_k=10**30))
    assert (worker.running, scheduler.waiting) == (0, 0)


DEAF = """
import os, sys, time
from engine.serving.ipc import Ready, frame
os.write(1, frame(Ready(1, 9)))
time.sleep(600)
"""


async def test_a_worker_that_does_not_come_back_is_seen_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client has gone; what it does then is for nobody."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(workers, "STUCK", 0.0)
    process, changed = WorkerProcess([sys.executable, "-c", DEAF]), asyncio.Event()
    scheduler = Scheduler([process], 4)
    running = asyncio.create_task(process.run(changed.set))
    await asyncio.wait_for(changed.wait(), 60)
    first = process.pid
    assert process.ready
    filling = ask(scheduler, "u")
    await begun()
    assert process.ready
    filling.cancel()
    await asyncio.gather(filling, return_exceptions=True)
    assert not process.ready
    monkeypatch.setattr(workers, "LOST", 0.0)
    scheduler.dispatch()
    changed.clear()
    while process.pid == first or not process.parallel:
        await asyncio.wait_for(changed.wait(), 60)
        changed.clear()
    assert process.ready
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
