"""`bench serve --overhead`: what HTTP adds to a fill, and Ray Serve, for an editor whose model is the server's URL.

Each key is filled in this process, then by a server, then (with `--ray`) by Ray Serve. Each has a KV memory of its own,
and the three see the same keys. What a way adds is the median of its differences to the first, key by key, so that a
machine that is busy for a while makes all of them slower and not their difference.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from engine import Engine, EngineError
from engine.evaluation import latency
from engine.evaluation.promise import Promise, print_promises
from engine.evaluation.team import started
from engine.evaluation.typing import print_table
from engine.options import Choice

KEYS, COLD = 300, 5  # that are typed, and of these not counted
HERE, HTTP, RAY = "in process", "HTTP", "Ray Serve"
TARGETS = {HTTP: 3.0, RAY: 10.0}  # ms


class Way(msgspec.Struct):
    """`ms` are of each key."""

    name: str
    ms: list[float]

    def row(self, here: Way) -> dict[str, float | str]:
        p50, p95 = np.percentile(self.ms, [50, 95])
        ratio = float(p50 / np.median(here.ms))
        return {"way": self.name, "p50 ms": float(p50), "p95 ms": float(p95), "p50 to that in process": ratio}

    def promise(self, here: Way) -> Promise:
        added = float(np.median(np.subtract(self.ms, here.ms)))
        return Promise(f"{self.name} adds, p50", added, "ms", TARGETS[self.name])


@contextlib.contextmanager
def engines(choice: Choice, ray: bool) -> Iterator[dict[str, Engine]]:
    """Raises EngineError where a server does not start."""
    with contextlib.ExitStack() as stack:
        loaded = {HERE: choice.load()}
        for name, options in ((HTTP, ["--workers", "1"]), (RAY, ["--ray"])):
            if name != RAY or ray:
                loaded[name] = Engine.load(stack.enter_context(started([*choice.arguments(), *options]))[0])
        yield loaded


def measure(choice: Choice, ray: bool, text: str, keys: int = KEYS) -> list[Way]:
    with engines(choice, ray) as loaded:
        ways = [Way(name, []) for name in loaded]
        for request in latency.typing(text, COLD + keys):
            for way in ways:
                spent, fill = latency.timed(loaded[way.name], request)
                if fill.instead:  # another model would be measured
                    raise EngineError(f"{way.name}: {fill.instead}")
                way.ms.append(spent)
    return [Way(way.name, way.ms[COLD:]) for way in ways]


def bench(choice: Choice, ray: bool, file: Path, as_json: bool) -> None:
    """Raises EngineError, and ModuleNotFoundError without the extras bench, serve and (with `ray`) ray."""
    here, *others = ways = measure(choice, ray, latency.read(file))
    promises = [way.promise(here) for way in others]
    if as_json:
        sys.stdout.write(msgspec.json.encode({"ways": ways, "promises": promises}).decode() + "\n")
    else:
        print_table([way.row(here) for way in ways])
        print()
        print_promises(promises)
