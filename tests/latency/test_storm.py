"""A thousand keys in five seconds, each with a change and a request: nothing piles up, and nothing old is shown."""

from __future__ import annotations

import asyncio
import time

import psutil
import pytest
from lsp_client import PATIENCE, SCRIPTED, Json, LspClient, LspError, script

URI = "file:///project/storm.py"
KEYS, SECONDS = 1000, 5.0
PASSES = 4  # of 5 ms each: twice and more what there is between two keys
REST = 200  # keys: after so many there is a moment without any, in which a fill can be finished
GROWTH = 8_000_000  # bytes: of a thousand documents' and answers' worth


async def work(client: LspClient) -> dict[str, int]:
    return (await client.request("inpaint/statistics"))["work"]


async def items(answer: asyncio.Future[Json]) -> list[str]:
    """The texts of an answer; none of a cancelled request's."""
    try:
        return [item["insertText"] for item in (await asyncio.wait_for(answer, PATIENCE))["items"]]
    except LspError as error:
        assert error.code == -32800
        return []


def line(typed: int, last: str) -> str:
    """The line after so many keys: it starts with their number, lest an answer fit another state."""
    return f"{typed}{last}"


async def storm(client: LspClient, cancels: bool, last: str) -> list[tuple[int, asyncio.Future[Json]]]:
    """The requests' ids and answers. Each key writes the whole line anew."""
    asked: list[tuple[int, asyncio.Future[Json]]] = []
    start = time.monotonic()
    for typed in range(KEYS):
        if asked and cancels and not asked[-1][1].done():
            client.cancel(asked[-1][0])
        whole = {"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 9}}
        client.change(URI, {"range": whole, "text": line(typed, last)})
        asked.append(client.ask(URI, 1, len(line(typed, last))))
        await asyncio.sleep(start + typed * SECONDS / KEYS - time.monotonic())
        if typed % REST == 0:
            await items(asked[-1][1])
    return asked


@pytest.mark.parametrize("cancels", [True, False], ids=["as VS Code", "as Neovim"])
async def test_a_storm(cancels: bool) -> None:
    async with LspClient.start(SCRIPTED) as client:
        await client.initialize()
        client.open(URI, script(echo=True, passes=PASSES) + "x")
        for _, answer in await storm(client, cancels, "a"):  # for what a session allocates once
            await items(answer)
        memory = psutil.Process(client.process.pid).memory_info().rss
        before = await work(client)
        client.order.clear()
        asked = await storm(client, cancels, "b")
        last = time.perf_counter()
        assert await items(asked[-1][1]) == [f"_{line(KEYS - 1, 'b')}"]  # the newest state is answered
        waited = (time.perf_counter() - last) * 1000
        texts = [await items(answer) for _, answer in asked]
        spent = {name: count - before[name] for name, count in (await work(client)).items()}
        grown = psutil.Process(client.process.pid).memory_info().rss - memory
        assert await client.leave() == 0
    shown = [typed for typed, text in enumerate(texts) if text]
    assert all(texts[typed] == [f"_{line(typed, 'b')}"] for typed in shown)  # nothing of another state
    assert len(shown) < KEYS / 2
    assert [number for number in client.order if number in {n for n, _ in asked}] == [number for number, _ in asked]
    assert spent["requests"] == KEYS
    assert spent["started"] == spent["finished"] + spent["cancelled"] <= KEYS
    assert spent["fromCache"] + spent["finished"] - spent["stale"] >= len(shown)
    assert grown < GROWTH
    print(f"\n{spent}, {len(shown)} shown, {grown / 1e6:.1f} MB more, the newest {waited:.1f} ms after the last key")
