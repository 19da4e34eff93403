"""`auto`: nano answers from the first second; small, which is loaded meanwhile, wherever it keeps the deadline. A model
that was tuned to a workspace takes small's place as `auto:FOLDER`.

Which one answers is decided anew for each request, by what small still has to read for it and by what its passes cost
on this machine at the moment. A request without a deadline waits for small.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.contract import Backend, EngineError, Fill, FillRequest, Watch

if TYPE_CHECKING:
    from engine.embedded import Embedded

NANO, SMALL = "nano", "small"

logger = logging.getLogger(__name__)


def best() -> str:
    """The name of the best model that is shipped."""
    return SMALL if (Path(__file__).parent / "weights" / SMALL / "config.json").is_file() else NANO


def load(better: str = "") -> Backend:
    """With another model in the place of the best one, where it is named. Raises EngineError where nano is missing or
    damaged.
    """
    from engine.embedded import Embedded  # here, so that asking for the best costs no onnxruntime

    nano, better = Embedded.load(NANO), better or best()
    return nano if better == NANO else Auto(nano, lambda: Embedded.load(better), better)


class Auto(Backend):
    """See engine.contract.Backend. `load_better` runs in a thread of its own, and `name` is what it loads."""

    def __init__(self, quick: Embedded, load_better: Callable[[], Embedded], name: str = SMALL) -> None:
        self._quick, self._name = quick, name
        self._better: Future[Embedded] = Future()
        threading.Thread(target=self._load, args=(load_better,), name="loading", daemon=True).start()

    def _load(self, load_better: Callable[[], Embedded]) -> None:
        try:
            self._better.set_result(load_better())
        except Exception as error:  # whatever it is, there is a model that answers
            if not isinstance(error, EngineError):
                logger.exception("%s could not be loaded.", self._name)
            self._better.set_exception(error)

    @property
    def reach(self) -> int:
        """See Engine.reach; copies reach further than any window."""
        return self._quick.reach

    @property
    def parallel(self) -> int:
        """See Engine.parallel."""
        return 1

    def remember(self, megabytes: float) -> None:
        """See Engine.remember."""
        self._quick.remember(megabytes)

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        """See Engine.fill."""
        better = self._loaded(request)
        fill = better.fill_in_time(request, cancel, watch) if better else None
        if fill is not None:
            return fill
        fill = self._quick.fill(request, cancel, watch)
        return msgspec.structs.replace(fill, whole_window=False, instead=self._missing())

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        """See Engine.read. The quick one's first, for it answers while the better one reads."""
        self._quick.read(request, cancel)
        better = self._loaded(request)
        return better.read(request, cancel) if better else self._better.done()

    def _loaded(self, request: FillRequest) -> Embedded | None:
        """The better one, if it is there."""
        if request.deadline_ms is None:
            self._better.exception()  # waits
        done = self._better.done() and self._better.exception() is None
        return self._better.result() if done else None

    def _missing(self) -> str:
        """What is wrong with the better one."""
        error = self._better.exception() if self._better.done() else None
        return f"{NANO} answers instead of {self._name}: {error}." if error else ""
