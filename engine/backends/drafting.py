"""A drafter's step on ONNX Runtime: a canvas after the newest token is denoised, for the trunk to verify.

The drafter's keys and values, and the trunk's features that it has yet to read, are parts of the trunk's memory
(`kv_cache.KVCache`), so that they are kept, copied and cut with it.
"""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.backends.kv_cache import KVCache
from engine.backends.pace import Pace
from engine.decoding.limits import DecodedTokens

DRAFTER, GRAPH = "drafter.safetensors", "draft.onnx"
FEATURES, OWN = "features", "draft."  # parts of a memory
MARGIN = 1.25  # of what is measured at load
TYPICAL = 2  # positions that are new to the drafter at most of its steps

Seconds: TypeAlias = Callable[[int], float]  # of a pass over so many rows


class About(msgspec.Struct, frozen=True):
    """`accepted` is how often the first k drafts were all right when that was measured, for k from one on; `config` is
    a DrafterConfig.
    """

    accepted: list[float]
    config: dict[str, int]


class DraftRunner:
    def __init__(self, session: onnxruntime.InferenceSession, accepted: list[float]) -> None:
        self._session, self.accepted = session, accepted
        inputs = {each.name: each.shape for each in session.get_inputs()}
        self._width = inputs[FEATURES][-1]
        self._kept = {name: shape for name, shape in inputs.items() if name.startswith(("keys.", "values."))}
        self.pace = Pace()

    @property
    def rows(self) -> int:
        return len(self.accepted)

    def parts(self) -> dict[str, NDArray[Any]]:
        """Of a memory that holds nothing."""
        own = {f"{OWN}{name}": np.zeros((heads, 0, dim), np.float32) for name, (_, heads, _, dim) in self._kept.items()}
        return {FEATURES: np.zeros((1, 0, self._width), np.float32), **own}

    def pays(self, seconds: Seconds, alone: float) -> bool:
        """Whether tokens come clearly faster with drafts than with passes of one row that take `alone` seconds: the
        first token of a fill and its end are never drafted, and whether drafts are made shall not be chance.
        """
        step = self.pace.fastest(TYPICAL)
        count = worthwhile(self.accepted, seconds, step)
        return speed(self.accepted[:count], seconds, step) > MARGIN / alone

    def draft(self, memory: KVCache, anchor: int, seconds: Seconds) -> DecodedTokens:
        """Drafts of what follows the anchor, which follows what is in the memory, that has room for them: as many as
        it pays to verify where a pass over so many rows takes so many `seconds`.
        """
        started, end = time.perf_counter(), len(memory.tokens)
        start, length = min(memory.drafted, end - 1), end + self.rows
        binding = self._session.io_binding()
        for name in ("drafts", "probabilities"):
            binding.bind_output(name)
        for name in self._kept:
            part = memory.parts[f"{OWN}{name}"]
            place = ("cpu", 0, np.float32, (1, *part.shape), part.ctypes.data)
            binding.bind_input(name, *place)
            binding.bind_output(f"new_{name}", *place)
        for name, value in (
            ("token", np.array([anchor], np.int64)),
            (FEATURES, memory.parts[FEATURES][:, start:end]),
            ("last", np.array([length - 1], np.int32)),
            ("length", np.array([length], np.int32)),
        ):
            binding.bind_cpu_input(name, value)
        self._session.run_with_iobinding(binding)
        memory.drafted = end
        tokens, chances = (output.numpy().tolist() for output in binding.get_outputs()[:2])
        self.pace.note(end - start, time.perf_counter() - started)
        count = worthwhile(list(itertools.accumulate(chances, operator.mul)), seconds, self.pace.seconds(TYPICAL))
        return DecodedTokens(tokens[:count], chances[:count])


def worthwhile(together: list[float], seconds: Seconds, step: float) -> int:
    """With how many drafts tokens come fastest; `together` is the chance that the first k are all right, for k from one
    on, and `step` how long drafting takes.
    """
    return max(range(len(together) + 1), key=lambda count: speed(together[:count], seconds, step))


def speed(together: list[float], seconds: Seconds, step: float) -> float:
    """Tokens a second: a pass brings one and the drafts that are right."""
    return (1 + sum(together)) / (seconds(1 + len(together)) + step)
