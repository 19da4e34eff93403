"""What a measurement finds: one result and one printer for all of them, and what they all measure with."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import psutil

Row: TypeAlias = Mapping[str, Any]


class Report(NamedTuple):
    """`data` are the figures as `--json` prints them; people are shown `shown`, or all of them."""

    data: Any
    shown: Any = None

    def print(self, as_json: bool = False) -> None:
        if as_json:
            sys.stdout.write(msgspec.json.encode(self.data).decode() + "\n")
        else:
            print(text(self.data if self.shown is None else self.shown))


def text(found: Any) -> str:
    """A line for each figure by its name, a table for figures that are alike."""
    figures = msgspec.to_builtins(found)
    if rows := _rows(figures):
        return table(rows)
    parts = ((_title(name), value) for name, value in figures.items() if value != [])
    return "\n".join(
        f"\n{name}\n{table(rows)}" if (rows := _rows(value)) else f"{name}: {_cell(value)}" for name, value in parts
    )


def _rows(value: Any) -> list[Row]:
    """Of a table: a list of rows, or a mapping from their names; none of anything else."""
    rows = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not rows or not all(isinstance(row, dict) for row in rows):
        return []
    return [{"": name} | row for name, row in value.items()] if isinstance(value, dict) else value


def table(rows: Sequence[Row]) -> str:
    """Columns are those of the first row."""
    lines = [list(map(_title, rows[0])), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]) for cells in lines)


def _title(name: object) -> str:
    return str(name).replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{_title(name)} {_cell(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return " / ".join(map(_cell, value))
    return "" if value is None else str(value)


class Promise(msgspec.Struct):
    """What the project promises, beside what was measured: `target` is the most that `value` should be."""

    name: str
    value: float
    unit: str
    target: float
    kept: bool = False

    def __post_init__(self) -> None:
        self.kept = self.value <= self.target


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


class Meter:
    """CPU time and memory of a process and its children; of none (None), of a server elsewhere, both are 0."""

    def __init__(self, pid: int | None) -> None:
        root = [] if pid is None else [psutil.Process(pid)]
        self._processes = [*root, *(child for each in root for child in each.children(recursive=True))]

    def cpu_seconds(self) -> float:
        return float(sum(sum(process.cpu_times()[:2]) for process in self._processes))

    def memory_mb(self) -> float:
        return float(sum(process.memory_info().rss for process in self._processes) / 1e6)
