"""What the workspace's index costs: a large workspace is made, indexed as the server does it, and looked things up in.

The files are pieces of the standard library's modules, each with names of its own, so that places differ as they do in
a workspace.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import psutil

from engine.contract import Backend, FillRequest
from engine.evaluation.latency import timed
from engine.evaluation.report import Promise, times
from engine.options import ModelChoice
from engine.retrieval.build import BUILD, IndexOrder
from engine.retrieval.index import Index

LOOKUPS, FILLS = 500, 60
PIECE = 10_000  # characters a file


def measure(choice: ModelChoice, files: int) -> list[Promise]:
    """Figures of a workspace of so many files of 10 kB. Raises EngineError."""
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder) / "workspace", Path(folder) / "index"
        texts = written(root, files)
        megabytes = sum(map(len, texts)) / 1e6
        whole, most = built(root, store)
        (root / "0" / "0.py").write_text(texts[0] + "\nchanged = True\n", encoding="utf-8")
        again, _ = built(root, store)
        index = Index.open(store)
        lookups = times(spent(partial(index.matches, prefix)) for prefix in prefixes(texts, LOOKUPS))
        alone, beside = fills(choice.load(), index, texts)
        return [
            Promise(f"index of {files} files, {megabytes:.0f} MB", whole, "s", 20),
            Promise("the same after a save", again, "s", 20),
            Promise("memory of the process that makes it", most, "MB", 250),
            Promise("look-up, p50", lookups.p50, "ms", 1),
            Promise("look-up, p95", lookups.p95, "ms", 1),
            Promise("a fill with the index over one without, p50", beside - alone, "ms", 2),
        ]


def written(root: Path, files: int) -> list[str]:
    """Write the workspace; its texts."""
    pieces, texts = sources(), list[str]()
    for number in range(files):
        texts.append(next(pieces).replace("self", f"self_{number}"))
        path = root / str(number // 100) / f"{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[-1], encoding="utf-8")
    return texts


def sources() -> Iterator[str]:
    """Pieces of the standard library, again and again."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    while True:
        for path in paths:
            text = path.read_text(encoding="utf-8", errors="replace")
            for start in range(0, len(text), PIECE):
                yield text[start : start + PIECE]


def built(root: Path, store: Path) -> tuple[float, float]:
    """Seconds that it took, and the most megabytes that its process had."""
    started, most = time.perf_counter(), 0.0
    with subprocess.Popen(BUILD, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(IndexOrder([str(root)], str(store))) + b"\n")
        process.stdin.flush()
        watched = psutil.Process(process.pid)
        while process.poll() is None:  # its standard input stays open: it leaves with whoever ordered
            with contextlib.suppress(psutil.Error):
                most = max(most, watched.memory_info().rss / 1e6)
            time.sleep(0.02)
    return time.perf_counter() - started, most


def prefixes(texts: list[str], count: int) -> Iterator[str]:
    """Texts before cursors anywhere in the workspace."""
    dice = random.Random(0)
    for _ in range(count):
        text = dice.choice(texts)
        yield text[: dice.randrange(1, len(text))]


def fills(engine: Backend, index: Index, texts: list[str]) -> tuple[float, float]:
    """Median milliseconds of a fill without the index and with it, at the same places in turns."""
    taken: tuple[list[float], list[float]] = ([], [])
    for prefix in prefixes(texts, FILLS):
        for spans, indexes in zip(taken, ((), (index,)), strict=True):
            request = FillRequest(prefix=prefix, suffix="\n", max_lines=1, indexes=indexes)
            timed(engine, request)  # reads the context
            spans.append(timed(engine, request)[0])
    return float(np.median(taken[0])), float(np.median(taken[1]))


def spent(act: Callable[[], object]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000
