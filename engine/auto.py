"""`auto`: a ladder of models. small answers from the first second; better ones, where they were fetched, are loaded
meanwhile, one after the other, and the best that keeps the deadline answers. A model that was tuned to a workspace
takes the place of them all as `auto:FOLDER`.

Which one answers is decided anew for each request, by what each still has to read for it and by what its passes cost
on this machine at the moment, which is measured when it is loaded and whenever it reads ahead. A request without a
deadline waits for the best.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from engine import get
from engine.contract import Backend, EngineError, Fill, FillRequest, Watch

if TYPE_CHECKING:
    from engine.embedded import Embedded

SMALL = "small"

logger = logging.getLogger(__name__)


def load(tuned: str = "") -> Backend:
    """The ladder, or the tuned model that is named; where that cannot be loaded, small answers and says so. Raises
    EngineError where small is missing or damaged.
    """
    from engine.embedded import Embedded  # here, so that the name of a model costs no onnxruntime

    if not tuned:
        loaders = {name: partial(Embedded.load, name) for name in get.MODELS if get.installed(name)}
        small = Embedded.load(SMALL)
        return Auto(small, loaders) if loaders else small
    try:
        return Embedded.load(tuned)
    except EngineError as error:
        broken: Future[Embedded] = Future()
        broken.set_exception(error)
        return Auto(Embedded.load(SMALL), {tuned: broken.result})


class Auto(Backend):
    """See engine.contract.Backend. `better` are loaded by name in a thread of its own, the best last."""

    def __init__(self, quick: Embedded, better: Mapping[str, Callable[[], Embedded]]) -> None:
        self._quick = quick
        self._better: dict[str, Future[Embedded]] = {name: Future() for name in better}
        threading.Thread(target=self._load, args=(better,), name="loading", daemon=True).start()

    def _load(self, better: Mapping[str, Callable[[], Embedded]]) -> None:
        for name, load in better.items():
            self._load_one(name, load)

    def _load_one(self, name: str, load: Callable[[], Embedded]) -> None:
        try:
            self._better[name].set_result(load())
        except Exception as error:  # whatever it is, there is a model that answers
            if not isinstance(error, EngineError):
                logger.exception("%s could not be loaded.", name)
            self._better[name].set_exception(error)

    @property
    def reach(self) -> int:
        """See Engine.reach; copies reach further than any window."""
        return self._quick.reach

    def remember(self, megabytes: float) -> None:
        """See Engine.remember."""
        self._quick.remember(megabytes)

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        """See Engine.fill."""
        if request.deadline_ms is None:
            self._wait()
        models = [self._quick, *self._loaded()]
        model = next((each for each in reversed(models[1:]) if each.meets_deadline(request)), models[0])
        whole = model is models[-1] and len(models) > len(self._better)
        return msgspec.structs.replace(model.fill(request, cancel, watch), whole_window=whole, instead=self._missing())

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        """See Engine.read. The quick one's first, for it answers while the better ones read."""
        if request.deadline_ms is None:
            self._wait()
        for model in (self._quick, *self._loaded()):
            model.read(request, cancel)
        return all(each.done() for each in self._better.values())

    def _wait(self) -> None:
        for each in self._better.values():
            each.exception()

    def _loaded(self) -> list[Embedded]:
        """The better ones that are there, the best last."""
        return [each.result() for each in self._better.values() if each.done() and each.exception() is None]

    def _missing(self) -> str:
        """What is wrong with the better ones."""
        errors = {name: each.exception() for name, each in self._better.items() if each.done()}
        answers = self._loaded()[-1].name if self._loaded() else self._quick.name
        return " ".join(f"{answers} answers instead of {name}: {error}." for name, error in errors.items() if error)
