"""What typing costs over LSP: a source file is typed on as an editor sends it, one change and one request a key.

Asserted is what is deterministic, by the server's own counts; the times are printed, beside a matrix product in the
same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest_asyncio
from lsp_client import INVOKED, PATIENCE, REAL, ROOT, Json, LspClient, LspError, span

import engine
from engine.evaluation.report import matrix_product_ms

REQUESTS = 100
URI = "file:///project/typed.py"
TEXT = Path(engine.__file__).with_name("tokenizer.py").read_text(encoding="utf-8")
START = TEXT.index("\n", len(TEXT) // 2)
FOLLOWING = TEXT[TEXT.index("\n", START + REQUESTS) :]
WINDOW, LEAD = 384, 32  # tokens: the embedded model's context, and what one request throws away
UNHURRIED = {"deadlineAutomaticMs": 60_000, "minConfidence": 0}  # how far a fill gets is not the clock's matter here


@pytest_asyncio.fixture
async def client() -> AsyncIterator[LspClient]:
    """Has the file open; the model is loaded."""
    async with LspClient.start(REAL, cwd=ROOT) as client:
        await client.initialize(initializationOptions=UNHURRIED)
        client.open("file:///project/other.py", "import numpy as \n\nimport os\n")
        deadline = time.monotonic() + PATIENCE
        while not await client.complete("file:///project/other.py", 0, 16):
            assert time.monotonic() < deadline, "the model has not loaded, or says nothing"
            await asyncio.sleep(0.02)
        client.open(URI, TEXT[:START] + FOLLOWING)
        yield client
        assert await client.leave() == 0


def place(offset: int) -> tuple[int, int]:
    return TEXT.count("\n", 0, offset), offset - TEXT.rfind("\n", 0, offset) - 1


async def work(client: LspClient) -> dict[str, float]:
    return (await client.request("inpaint/statistics"))["work"]


async def key(client: LspClient, offset: int) -> tuple[float, list[Json], dict[str, float]]:
    """Milliseconds, items and the server's work for typing the character at an offset."""
    before = await work(client)
    start = time.perf_counter()
    client.insert(URI, *place(offset), TEXT[offset])
    items = await client.complete(URI, *place(offset + 1))
    spent = (time.perf_counter() - start) * 1000
    return spent, items, {name: count - before[name] for name, count in (await work(client)).items()}


async def test_a_key_costs_its_own_tokens_and_few_passes(client: LspClient) -> None:
    await key(client, START)
    made = [await key(client, offset) for offset in range(START + 1, START + REQUESTS)]
    passes, encoded = [cost["passes"] for *_, cost in made], [cost["encoded"] for *_, cost in made]
    moved = sum(tokens > LEAD for tokens in encoded)  # the window was, and is read again
    p50, p95, p99 = np.percentile([spent for spent, *_ in made], [50, 95, 99])
    product = matrix_product_ms()
    hits, shown = sum(cost["fromCache"] for *_, cost in made), sum(bool(items) for _, items, _ in made)
    print(f"\n{len(made)} keys over LSP: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms; ghost text at {shown}")
    print(f"{np.mean(passes):.2f} passes and {np.mean(encoded):.1f} tokens a key, {hits} from the cache, {moved} moves")
    print(f"a 512³ matrix product {product:.2f} ms, p50 is {p50 / product:.1f} of them")
    assert shown > 0
    assert all((cost["passes"] == 0) == bool(cost["fromCache"]) for *_, cost in made)
    assert np.median(encoded) <= 2
    assert max(encoded) < WINDOW
    assert moved <= 2
    assert np.mean(passes) < 8


async def test_a_cache_hit_costs_no_pass(client: LspClient) -> None:
    line, column = place(TEXT.index("import numpy as ") + len("import numpy as "))
    client.open(URI, "\n" * line + "import numpy as \n")
    [item] = await client.complete(URI, line, column)
    before = await work(client)
    client.insert(URI, line, column, item["insertText"][0])
    await client.complete(URI, line, column + 1)
    client.change(URI, {"range": span(line, column, column + 1), "text": ""})
    start = time.perf_counter()
    [again] = await client.complete(URI, line, column)
    spent = (time.perf_counter() - start) * 1000
    after = await work(client)
    print(f"\na cache hit: {spent:.2f} ms")
    assert again["insertText"] == item["insertText"]
    assert after["fromCache"] - before["fromCache"] == 2
    assert (after["started"], after["passes"]) == (before["started"], before["passes"])


async def test_going_back_to_a_file_reads_what_is_new_only(client: LspClient) -> None:
    client.open("file:///project/second.py", FOLLOWING + TEXT)
    moved = 0
    for typed in range(6):
        for uri, at in ((URI, place(START)), ("file:///project/second.py", (FOLLOWING.count("\n") + 3, 0))):
            before = await work(client)
            client.insert(uri, at[0], at[1] + typed, "x = yz"[typed])
            await client.complete(uri, at[0], at[1] + typed + 1)
            encoded = (await work(client))["encoded"] - before["encoded"]
            moved += encoded > LEAD and typed > 0  # the window was, and is read again
    assert moved <= 1


async def test_a_cancelled_request_stops_within_a_pass(client: LspClient) -> None:
    before = await work(client)
    number, answer = client.ask(URI, *place(START), kind=INVOKED)
    client.cancel(number)
    with contextlib.suppress(LspError):
        await answer
    after = await work(client)
    while after["started"] > after["finished"] + after["cancelled"]:
        await asyncio.sleep(0.05)
        after = await work(client)
    assert after["passes"] - before["passes"] <= 1
    await asyncio.sleep(0.3)
    assert await work(client) == after
