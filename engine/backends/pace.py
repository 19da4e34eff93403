"""What passes cost on this machine as it is now: nobody knows before, and other programs come and go."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable

import numpy as np

LAST = 9  # passes of about as many rows that count


class Pace:
    def __init__(self) -> None:
        self._passes: dict[int, deque[tuple[int, float]]] = {}

    def note(self, rows: int, seconds: float) -> None:
        self._passes.setdefault(rows.bit_length(), deque(maxlen=LAST)).append((rows, seconds))

    def seconds(self, rows: int) -> float:
        """Of a pass of so many rows: between the medians of the last passes of about as many (of twice as many at
        most). Infinite where there has been none.
        """
        return self._between(rows, statistics.median)

    def fastest(self, rows: int) -> float:
        """As `seconds`, of the fastest passes: what one takes while nothing else runs."""
        return self._between(rows, min)

    def _between(self, rows: int, of: Callable[[list[float]], float]) -> float:
        if not self._passes:
            return float("inf")
        known = [self._passes[size] for size in sorted(self._passes)]
        sizes = [statistics.median(rows for rows, _ in passes) for passes in known]
        costs = [of([seconds for _, seconds in passes]) for passes in known]
        more = max(1.0, rows / sizes[-1])  # beyond what is known, rows cost alike
        return float(np.interp(rows, sizes, costs)) * more
