"""What a measurement finds: one result and one printer for all of them, and what they all measure with."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np

Row: TypeAlias = Mapping[str, float | str]


class Report(NamedTuple):
    """`data` are the figures as `--json` prints them; `shown` are the same for people, lines and tables."""

    data: object
    shown: Sequence[str | Sequence[Row]]

    def print(self, as_json: bool = False) -> None:
        if as_json:
            sys.stdout.write(msgspec.json.encode(self.data).decode() + "\n")
            return
        for part in self.shown:
            print(part if isinstance(part, str) else table(part))


def table(rows: Sequence[Row]) -> str:
    """Columns are those of the first row; a float has one digit after its point."""
    texts = [[f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    lines = [list(rows[0]), *texts]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]) for cells in lines)


class Promise(msgspec.Struct):
    """What the project promises, beside what was measured: `target` is the most that `value` should be."""

    name: str
    value: float
    unit: str
    target: float

    @property
    def kept(self) -> bool:
        return self.value <= self.target


def promised(promises: Iterable[Promise]) -> list[Row]:
    return [msgspec.structs.asdict(each) | {"kept": "yes" if each.kept else "no"} for each in promises]


class Times(msgspec.Struct):
    """Milliseconds of one request."""

    p50: float
    p95: float
    p99: float


def times(milliseconds: Iterable[float]) -> Times:
    p50, p95, p99 = np.percentile(list(milliseconds), [50, 95, 99])
    return Times(float(p50), float(p95), float(p99))


def share(hits: Iterable[object]) -> float:
    """In [0, 1], of those that are true; 0 of none."""
    values = [bool(hit) for hit in hits]
    return sum(values) / len(values) if values else 0.0


def matrix_product_ms(size: int = 512) -> float:
    """The fastest of some products, as a measure of the machine."""
    a = np.ones((size, size), np.float32)
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return best * 1000


def reference(milliseconds: float) -> str:
    return f"a 512³ matrix product: {milliseconds:.2f} ms"


class Meter:
    """CPU time and memory of a process and its children; of none (None), of a server elsewhere, both are 0. Needs the
    bench extra.
    """

    def __init__(self, pid: int | None) -> None:
        import psutil

        root = [] if pid is None else [psutil.Process(pid)]
        self._processes = [*root, *(child for each in root for child in each.children(recursive=True))]

    def cpu_seconds(self) -> float:
        return float(sum(sum(process.cpu_times()[:2]) for process in self._processes))

    def memory_mb(self) -> float:
        return float(sum(process.memory_info().rss for process in self._processes) / 1e6)
