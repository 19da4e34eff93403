"""`bench serve --overhead`: what HTTP adds to a fill, and Ray Serve, for an editor whose model is the server's URL.

Each key is filled in this process, then by a server, then (with `--ray`) by Ray Serve. Each has a KV memory of its own,
and the three see the same keys. What a way adds is the median of its differences to the first, key by key, so that a
machine that is busy for a while makes all of them slower and not their difference.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from engine import Engine, EngineError
from engine.evaluation import latency
from engine.evaluation.report import Promise, Report, Row, promised
from engine.evaluation.team import started
from engine.options import Choice

KEYS, COLD = 300, 5  # that are typed, and of these not counted
HERE, HTTP, RAY = "in process", "HTTP", "Ray Serve"
TARGETS = {HTTP: 3.0, RAY: 10.0}  # ms


@contextlib.contextmanager
def engines(choice: Choice, ray: bool) -> Iterator[dict[str, Engine]]:
    """Raises EngineError where a server does not start."""
    with contextlib.ExitStack() as stack:
        loaded = {HERE: choice.load()}
        for name, options in ((HTTP, ["--workers", "1"]), (RAY, ["--ray"])):
            if name != RAY or ray:
                loaded[name] = Engine.load(stack.enter_context(started([*choice.arguments(), *options]))[0])
        yield loaded


def measure(choice: Choice, ray: bool, text: str, keys: int = KEYS) -> dict[str, list[float]]:
    """Milliseconds of each key, by way. Raises EngineError, and ModuleNotFoundError without the extras bench, serve and
    (with `ray`) ray.
    """
    with engines(choice, ray) as loaded:
        spent: dict[str, list[float]] = {name: [] for name in loaded}
        for request in latency.typing(text, COLD + keys):
            for name, engine in loaded.items():
                ms, fill = latency.timed(engine, request)
                if fill.instead:  # another model would be measured
                    raise EngineError(f"{name}: {fill.instead}")
                spent[name].append(ms)
    return {name: ms[COLD:] for name, ms in spent.items()}


def report(spent: dict[str, list[float]]) -> Report:
    here, rows = spent[HERE], list[Row]()
    for name, ms in spent.items():
        p50, p95 = map(float, np.percentile(ms, [50, 95]))
        rows.append({"way": name, "p50 ms": p50, "p95 ms": p95, "p50 to that in process": p50 / float(np.median(here))})
    promises = [
        Promise(f"{name} adds, p50", float(np.median(np.subtract(ms, here))), "ms", TARGETS[name])
        for name, ms in spent.items()
        if name != HERE
    ]
    data = {"ways": [{"name": name, "ms": ms} for name, ms in spent.items()], "promises": promises}
    return Report(data, [rows, "", promised(promises)])
