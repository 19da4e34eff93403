"""What typing costs over LSP: a source file is typed on as an editor sends it, one change and one request a key.

Asserted is what is deterministic; the times are printed, beside a matrix product in the same run.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
from lsp_client import PATIENCE, REAL, ROOT, LspClient

import engine
from engine.evaluation.latency import matrix_product_ms

REQUESTS = 200
URI = "file:///project/typed.py"
TEXT = Path(engine.__file__).with_name("tokenizer.py").read_text(encoding="utf-8")
START = TEXT.index("\n", len(TEXT) // 2)
FOLLOWING = TEXT[TEXT.index("\n", START + REQUESTS) :]


async def ready(client: LspClient) -> None:
    """Opens the file; the server answers with nothing while the model loads."""
    await client.initialize()
    client.open("file:///project/other.py", "import numpy as \n\nimport os\n")
    deadline = time.monotonic() + PATIENCE
    while not await client.complete("file:///project/other.py", 0, 16):
        assert time.monotonic() < deadline, "the model has not loaded, or says nothing"
        await asyncio.sleep(0.02)
    client.open(URI, TEXT[:START] + FOLLOWING)


async def type_on(client: LspClient) -> list[tuple[float, list[dict]]]:
    """(milliseconds, items) of each key."""
    made = []
    for place in range(START, START + REQUESTS):
        line, column = TEXT.count("\n", 0, place), place - TEXT.rfind("\n", 0, place) - 1
        start = time.perf_counter()
        client.insert(URI, line, column, TEXT[place])
        after = (line + 1, 0) if TEXT[place] == "\n" else (line, column + 1)
        items = await client.complete(URI, *after)
        made.append(((time.perf_counter() - start) * 1000, items))
    return made


async def test_a_key_costs_little() -> None:
    async with LspClient.start(REAL, cwd=ROOT) as client:
        await ready(client)
        made = await type_on(client)
        assert await client.leave() == 0
    p50, p95, p99 = np.percentile([milliseconds for milliseconds, _ in made], [50, 95, 99])
    product = matrix_product_ms()
    shown = sum(bool(items) for _, items in made)
    print(f"\n{REQUESTS} keys over LSP: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms; ghost text at {shown}")
    print(f"a 512³ matrix product {product:.2f} ms, p50 is {p50 / product:.1f} of them")
    assert shown > 0
    assert p50 < 2000
