"""Notices a pass that does not come back: one that takes ten times as long as usual, and long in itself.

Nothing can stop native code, so the thread is given up, and the model is loaded anew on another (see completer).
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import deque
from collections.abc import Iterator

from engine import Fill

TIMES = 10  # its usual time
LONG = 5.0  # seconds: less may be a machine that is busy otherwise
UNKNOWN = 60.0  # seconds, while nothing is known of the model
REMEMBERED = 64  # fills
LOOK = 0.5  # seconds between two looks
RELOADS = 3


class Watchdog:
    """Of the worker: what runs since when, and how long a pass of it usually takes."""

    def __init__(self) -> None:
        self._passes: deque[float] = deque(maxlen=REMEMBERED)  # seconds
        self._until: float | None = None  # when what runs is overdue

    @contextlib.contextmanager
    def watching(self, deadline_ms: float | None) -> Iterator[None]:
        """While a fill runs; its deadline is looked at between passes."""
        until = self._until = time.monotonic() + (deadline_ms or 0) / 1000 + self.limit
        try:
            yield
        finally:
            if self._until == until:  # or the thread was given up, and another runs
                self._until = None

    def learn(self, fill: Fill) -> None:
        if fill.passes:
            self._passes.append((fill.encode_ms + fill.decode_ms) / 1000 / fill.passes)

    @property
    def limit(self) -> float:
        """Seconds for a pass."""
        return max(LONG, TIMES * statistics.median(self._passes)) if self._passes else UNKNOWN

    def overdue(self) -> bool:
        return self._until is not None and time.monotonic() > self._until

    def forget(self) -> None:
        """What ran is given up."""
        self._until = None
