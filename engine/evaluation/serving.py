"""What a user of the language server waits for: each promise of the project, measured over stdio, beside its target."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import engine
from engine.evaluation.editor import Editor, position
from engine.evaluation.latency import SAMPLE
from engine.evaluation.report import Meter, Promise, matrix_product_ms
from engine.options import ModelChoice

KEYS, HITS, FILES = 200, 100, 8
SMALL, LARGE = 200, 20_000  # lines


def measure(choice: ModelChoice) -> dict[str, object]:
    """Raises EngineError."""
    promises = asyncio.run(measured(choice))
    return {"matrix_product_ms": matrix_product_ms(), "promises": promises}


async def measured(choice: ModelChoice) -> list[Promise]:
    start = time.perf_counter()
    async with Editor.start(choice) as editor:
        await editor.loaded()
        spawned = time.perf_counter() - start
        warm = await typed_keys(editor)
        p50, p95 = np.percentile(warm, [50, 95])
        return [
            Promise("spawn to first completion", spawned, "s", 1.5),
            Promise("first request in a new file, p50", float(np.median(await new_files(editor))), "ms", 120),
            Promise("automatic single line, p50", float(p50), "ms", 25),
            Promise("automatic single line, p95", float(p95), "ms", 50),
            Promise("cache hit, p50", float(np.median(await cache_hits(editor))), "ms", 2),
            Promise("20,000 lines over 200, a key", await large_file(editor), "ms", 3),
            Promise("resident memory", Meter(editor.pid).memory_mb(), "MB", 450),
        ]


async def timed(editor: Editor, uri: str, before: str, text: str = "") -> float:
    """Milliseconds from typing the text at the end of `before` to the reply of a request after it."""
    at = position(before)
    start = time.perf_counter()
    if text:
        editor.change(uri, at, at, text)
    return ((await editor.complete(uri, position(before + text))).at - start) * 1000


async def typed_keys(editor: Editor) -> list[float]:
    """Keys that the model answers, not the cache."""
    text, uri, made = SAMPLE.read_text(encoding="utf-8"), "file:///keys.py", []
    start = text.index("\n", len(text) // 2)
    editor.open(uri, text[:start] + text[text.index("\n", start + KEYS) :])
    for place in range(start, start + KEYS):
        before = await editor.work()
        spent = await timed(editor, uri, text[:place], text[place])
        after = await editor.work()
        made += [spent] if after["started"] > before["started"] else []
    return made


async def cache_hits(editor: Editor) -> list[float]:
    uri, before = "file:///hits.py", SAMPLE.read_text(encoding="utf-8")[:4000]
    editor.open(uri, before)
    while not (await editor.complete(uri, position(before))).text:  # a fill that the deadline ended early is not kept
        before = before[:-1]
        editor.change(uri, position(before), position(before + "x"), "")
    return [await timed(editor, uri, before) for _ in range(HITS)]


async def new_files(editor: Editor) -> list[float]:
    """From opening a file to the reply in the middle of it."""
    made = []
    for number, file in enumerate(source_files()):
        text = file.read_text(encoding="utf-8")
        before = text[: text.index("\n", len(text) // 2)]
        start = time.perf_counter()
        editor.open(f"file:///{number}/{file.name}", text)
        await editor.complete(f"file:///{number}/{file.name}", position(before))
        made.append((time.perf_counter() - start) * 1000)
    return made


def source_files() -> Iterator[Path]:
    """Of this package: long enough for the model's window."""
    files = sorted(Path(engine.__file__).parent.rglob("*.py"))
    return itertools.islice((file for file in files if file.stat().st_size > 4000), FILES)


async def large_file(editor: Editor) -> float:
    """By how many milliseconds the median key is slower where many lines stand far from the cursor; what the model sees
    is the same.
    """
    sample = SAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)
    above, below = sample[: SMALL // 2], sample[SMALL // 2 : SMALL]
    uri, medians = "file:///lines.py", []
    for size in (SMALL, LARGE):
        far = [f"line_{number} = {number}\n" for number in range((size - SMALL) // 2)]
        before = "".join([*far, *above]) + "x"
        editor.open(uri, "".join([before, "\n", *below, *far]))
        await timed(editor, uri, before)
        spent = []
        for key in "_long_name = another_long_name(first, second)":
            spent.append(await timed(editor, uri, before, key))
            before += key
        editor.close(uri)
        medians.append(float(np.median(spent)))
    return medians[1] - medians[0]
