"""Turns over workers that fill when the test says so."""

from __future__ import annotations

import asyncio

import pytest

from engine.contract import Fill, FillRequest
from engine.serving.frames import Filled
from engine.serving.turns import PATIENCE, Full, Late, Turns
from engine.serving.workers import Asked, Away

FILL = Fill(text="x", confidence=1, passes=1, tokens=1, encoded=0, reused=0, encode_ms=0, decode_ms=0, complete=True)


class Held:
    """A worker with room for one fill."""

    def __init__(self) -> None:
        self.parallel = 1
        self.jobs: list[Asked] = []

    @property
    def running(self) -> int:
        return len(self.jobs)

    def start(self, asked: Asked) -> None:
        self.jobs.append(asked)

    def end(self, turns: Turns) -> str:
        """The prefix of what it filled."""
        asked = self.jobs.pop()
        if not asked.answer.done():
            asked.answer.set_result(Filled(0, FILL, 1))
        turns.deal()
        return asked.request.prefix


def ask(turns: Turns, user: str, prefix: str = "", session: str = "", **options: float) -> asyncio.Task[object]:
    return asyncio.create_task(turns.fill(user, session or user, FillRequest(prefix=prefix, **options)))


async def begun() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_users_take_turns_however_much_one_asks() -> None:
    worker = Held()
    turns = Turns([worker], 100)
    tasks = [ask(turns, "greedy", f"greedy {n}") for n in range(4)] + [ask(turns, "modest", "modest 0")]
    await begun()
    order = [worker.end(turns) for _ in range(5)]
    assert order == ["greedy 0", "greedy 1", "modest 0", "greedy 2", "greedy 3"] or order[:3] == [
        "greedy 0",
        "modest 0",
        "greedy 1",
    ]
    await asyncio.gather(*tasks)


async def test_a_session_stays_with_its_worker_and_sessions_are_spread() -> None:
    workers = [Held(), Held()]
    turns = Turns(workers, 100)
    homes: dict[str, Held] = {}
    for _ in range(3):
        for session in ("a", "b", "c", "d"):
            task = ask(turns, session, session)
            await begun()
            [worker] = [worker for worker in workers if worker.jobs]
            worker.end(turns)
            await task
            assert homes.setdefault(session, worker) is worker
    assert [list(homes.values()).count(worker) for worker in workers] == [2, 2]


async def test_a_session_waits_for_its_worker_for_a_moment_only() -> None:
    workers = [Held(), Held()]
    turns = Turns(workers, 100)
    first = ask(turns, "u", "first", "s")
    await begun()
    [home] = [worker for worker in workers if worker.jobs]
    second = ask(turns, "u", "second", "s")
    await begun()
    assert turns.waiting == 1  # though the other worker is free
    while turns.waiting:
        await asyncio.sleep(PATIENCE / 4)
    other = next(worker for worker in workers if worker is not home)
    assert other.end(turns) == "second"
    home.end(turns)
    await asyncio.gather(first, second)


async def test_a_session_whose_worker_is_away_goes_elsewhere_at_once() -> None:
    workers = [Held(), Held()]
    turns = Turns(workers, 100)
    task = ask(turns, "u", session="s")
    await begun()
    [home] = [worker for worker in workers if worker.jobs]
    home.parallel = 0
    home.jobs.pop().answer.set_exception(Away())
    await begun()
    other = next(worker for worker in workers if worker is not home)
    other.end(turns)
    await task


async def test_what_dies_twice_is_away() -> None:
    worker = Held()
    turns = Turns([worker], 100)
    task = ask(turns, "u")
    for _ in range(2):
        await begun()
        worker.jobs.pop().answer.set_exception(Away())
    with pytest.raises(Away):
        await task


async def test_cancelled_and_late_requests_leave_the_queue() -> None:
    worker = Held()
    turns = Turns([worker], 2)
    running, waiting, late = ask(turns, "u", "runs"), ask(turns, "u", "waits"), ask(turns, "v", deadline_ms=1)
    await begun()
    with pytest.raises(Full):
        await ask(turns, "w")
    with pytest.raises(Late):
        await late
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert turns.waiting == 0
    worker.end(turns)
    await running
    assert not worker.jobs


async def test_what_is_left_of_a_deadline_is_the_workers() -> None:
    worker = Held()
    turns = Turns([worker], 2)
    first, second = ask(turns, "u"), ask(turns, "u", deadline_ms=60_000)
    await begun()
    worker.end(turns)
    [asked] = worker.jobs
    assert asked.deadline is not None
    worker.end(turns)
    await asyncio.gather(first, second)
