"""One request's life, without a protocol: an engine that makes a pass when it is told to."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from engine import Cancelled, Fill, FillRequest
from lsp_server import completer as module
from lsp_server.completer import Completer, WorkCounters

URI = "file:///a.py"
PATIENCE = 30.0  # seconds


class SteppedEngine:
    """A fill of three passes, each of which waits for `release`; it is the last character thrice."""

    reach = sys.maxsize

    def __init__(self) -> None:
        self.release = threading.Semaphore(0)
        self.prefixes: list[str] = []
        self.passes = 0

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill:
        self.prefixes.append(request.prefix)
        for _ in range(3):
            if cancel.is_set():
                raise Cancelled
            self.passes += 1
            assert self.release.acquire(timeout=PATIENCE)
        return Fill(
            text=request.prefix[-1:] * 3,
            confidence=1.0,
            passes=3,
            tokens=3,
            encoded=1,
            reused=2,
            encode_ms=1.0,
            decode_ms=2.0,
            complete=True,
        )

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        return True


@pytest.fixture
def engine() -> SteppedEngine:
    return SteppedEngine()


@pytest_asyncio.fixture
async def completer(engine: SteppedEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Completer]:
    monkeypatch.setattr(module, "IDLE", 0.0)
    made = Completer(lambda model, device: engine)
    made.load("any")
    await asyncio.wrap_future(made.loading)
    yield made
    made.close()
    engine.release.release(100)


async def asking(completer: Completer, prefix: str, deadline_ms: float = 60) -> asyncio.Task[Fill | None]:
    """The answer of a request that is under way."""
    answer = asyncio.create_task(completer.fill(URI, FillRequest(prefix=prefix, deadline_ms=deadline_ms)))
    await asyncio.sleep(0)
    return answer


async def text(answer: asyncio.Task[Fill | None]) -> str | None:
    fill = await asyncio.wait_for(answer, PATIENCE)
    return fill.text if fill else None


async def until(engine: SteppedEngine, passes: int) -> None:
    """Until that pass is under way."""
    for _ in range(3000):
        if engine.passes == passes:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError(f"{engine.passes} passes")


async def test_an_equal_request_joins_the_work(completer: Completer, engine: SteppedEngine) -> None:
    first = await asking(completer, "a")
    await until(engine, 1)
    second = await asking(completer, "a")
    assert await text(first) is None  # at once, before the newer one's answer
    third = await asking(completer, "a")
    assert await text(second) is None
    engine.release.release(3)
    assert await text(third) == "aaa"
    assert engine.prefixes == ["a"]
    assert (completer.work.joined, completer.work.started, completer.work.finished) == (2, 1, 1)


async def test_of_several_fills_none_is_left_when_the_text_changes(completer: Completer, engine: SteppedEngine) -> None:
    several = asyncio.create_task(completer.fills(URI, FillRequest(prefix="a"), 3))
    engine.release.release(3)
    await until(engine, 4)  # the second one is under way
    completer.edited(URI)
    assert await asyncio.wait_for(several, PATIENCE) == []
    engine.release.release(3)


async def test_several_fills_end_with_the_first_that_is_known(completer: Completer, engine: SteppedEngine) -> None:
    engine.release.release(9)
    fills = await asyncio.wait_for(completer.fills(URI, FillRequest(prefix="a", deadline_ms=60_000), 3), PATIENCE)
    assert [fill.text for fill in fills] == ["aaa", "aaa"]


async def test_a_request_with_more_time_does_not_join(completer: Completer, engine: SteppedEngine) -> None:
    await asking(completer, "a")
    await until(engine, 1)
    answer = await asking(completer, "a", deadline_ms=400)
    engine.release.release(9)
    assert await text(answer) == "aaa"
    assert completer.work == WorkCounters(
        requests=2,
        started=2,
        cancelled=1,
        finished=1,
        passes=3,
        encoded=1,
        reused=2,
        wasted_ms=completer.work.wasted_ms,
        found_read=1,
        read_ahead=completer.work.read_ahead,
    )
    assert completer.work.wasted_ms > 0


async def test_what_follows_a_completion_is_there_when_it_is_accepted(
    completer: Completer, engine: SteppedEngine
) -> None:
    completer.prefetch(FillRequest(prefix="abbb", deadline_ms=60))
    await until(engine, 1)
    engine.release.release(3)
    while not completer.work.finished:
        await asyncio.sleep(0.01)
    completer.edited(URI)
    assert await text(await asking(completer, "abbb")) == "bbb"
    assert (engine.passes, completer.work.from_cache, completer.work.prefetched) == (3, 1, 1)


async def test_a_completion_accepted_before_the_prefetch_is_done_joins_it(
    completer: Completer, engine: SteppedEngine
) -> None:
    completer.prefetch(FillRequest(prefix="abbb", deadline_ms=60))
    await until(engine, 1)
    completer.edited(URI)
    answer = await asking(completer, "abbb")
    engine.release.release(3)
    assert await text(answer) == "bbb"
    assert (engine.passes, completer.work.joined) == (3, 1)


async def test_any_other_request_ends_a_prefetch(completer: Completer, engine: SteppedEngine) -> None:
    completer.prefetch(FillRequest(prefix="abbb"))
    await until(engine, 1)
    answer = await asking(completer, "ac")
    engine.release.release(4)  # one for the pass that is under way
    assert await text(answer) == "ccc"
    assert (engine.passes, completer.work.cancelled) == (4, 1)


async def test_a_request_or_an_edit_before_the_prefetch_prevents_it(
    completer: Completer, engine: SteppedEngine
) -> None:
    engine.release.release(3)
    await text(await asking(completer, "a"))
    completer.prefetch(FillRequest(prefix="aaaa"))
    completer.edited(URI)
    completer.prefetch(FillRequest(prefix="aaaa"))
    await text(await asking(completer, "a"))
    await asyncio.sleep(0.05)
    assert (engine.prefixes, completer.work.prefetched) == (["a"], 0)


async def test_nothing_is_prefetched_while_the_worker_works(completer: Completer, engine: SteppedEngine) -> None:
    answer = await asking(completer, "a")
    await until(engine, 1)
    completer.prefetch(FillRequest(prefix="b"))
    await asyncio.sleep(0.05)
    engine.release.release(3)
    assert await text(answer) == "aaa"
    assert completer.work.prefetched == 0


async def test_a_cancel_ends_the_work_within_a_pass(completer: Completer, engine: SteppedEngine) -> None:
    answer = await asking(completer, "a")
    await until(engine, 1)
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    engine.release.release(9)
    while not completer.work.cancelled:
        await asyncio.sleep(0.01)
    assert engine.passes == 1


async def test_what_is_finished_too_late_is_not_lost(completer: Completer, engine: SteppedEngine) -> None:
    answer = await asking(completer, "a")
    engine.release.release(2)
    await until(engine, 3)
    completer.edited(URI)
    assert await text(answer) is None
    engine.release.release(1)
    while not completer.work.finished:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert await text(await asking(completer, "aa")) == "aa"
    assert (engine.passes, completer.work.stale, completer.work.from_cache) == (3, 1, 1)


async def test_a_storm_grows_nothing(completer: Completer, engine: SteppedEngine) -> None:
    """A thousand states of the text, while one pass lasts: the worker makes that pass and the newest state's."""
    answers = [await asking(completer, "a")]
    await until(engine, 1)
    for number in range(1000):
        completer.edited(URI)
        answers.append(await asking(completer, f"{number} b"))
    engine.release.release(4)
    assert await text(answers[-1]) == "bbb"
    assert [await text(answer) for answer in answers[:-1]] == [None] * 1000
    assert engine.prefixes == ["a", "999 b"]
    assert engine.passes == 4
    assert completer._worker._work_queue.empty()
    assert len(completer._cache) == 1


class ReadingEngine(SteppedEngine):
    """Reads until it is cancelled or told that all is read; a model of it is loaded at the second attempt."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts, self.reading, self.all_read = 0, threading.Event(), threading.Event()
        self.stopped = 0

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        self.attempts += 1
        if self.attempts == 1:
            return False
        self.reading.set()
        while not self.all_read.is_set():
            if cancel.wait(0.005):
                self.stopped += 1
                raise Cancelled
        return True


@pytest.mark.parametrize("engine", [ReadingEngine()])
async def test_what_is_read_ahead_makes_way_for_a_request(completer: Completer, engine: ReadingEngine) -> None:
    answer = await asking(completer, "a")
    engine.release.release(3)
    assert await text(answer) == "aaa"
    assert await asyncio.to_thread(engine.reading.wait, PATIENCE)  # the first attempt found the model still loading
    answer = await asking(completer, "b")
    engine.release.release(3)
    assert await text(answer) == "bbb"
    assert (engine.stopped, completer.work.read_ahead, completer.work.found_read) == (1, 0, 2)
    engine.all_read.set()
    while not completer.work.read_ahead:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("engine", [ReadingEngine()])
async def test_an_edit_ends_reading_ahead(completer: Completer, engine: ReadingEngine) -> None:
    completer.read_ahead(FillRequest(prefix="a"))
    assert await asyncio.to_thread(engine.reading.wait, PATIENCE)
    completer.edited("")
    while not engine.stopped:
        await asyncio.sleep(0.01)
