"""Forward passes on ONNX Runtime over a KV memory that lives in numpy arrays.

A piece of memory for each layer's keys and values, (heads, room, d), is handed over without a copy. Its room follows
what is in use in steps, for the price of a pass grows with it. How many layers and heads there are, the graph says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.backends.memory import BLOCKED, CausalPasses, Memory, ModelShape, Rows, likeliest
from engine.contract import EngineError

STEP, SLACK = 32, 96  # positions


class OnnxPasses(CausalPasses):
    def __init__(self, session: onnxruntime.InferenceSession, shape: ModelShape) -> None:
        kept = [each for each in session.get_inputs() if each.name.startswith(("keys.", "values."))]
        empty = {each.name: np.zeros((each.shape[0], 0, each.shape[2]), np.float32) for each in kept}
        super().__init__(shape, empty)
        self._session = session
        self._outputs = ["token", "probability", "logits", *(f"new_{name}" for name in empty)]

    @classmethod
    def load(cls, weights: Path, shape: ModelShape) -> OnnxPasses:
        """Raises EngineError where the weights are missing or damaged."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # at the few rows of a keystroke a second thread gains nothing
        options.log_severity_level = 4
        try:
            return cls(onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"]), shape)
        except Exception as error:  # onnxruntime has a family of exceptions without a public base
            raise EngineError(
                f"the weights {weights} are missing or damaged ({type(error).__name__}); install again"
            ) from None

    def forward(
        self, tokens: list[int], canvas: list[int], results: int, first: NDArray[np.int64] | None = None
    ) -> Rows:
        """See CausalPasses.forward."""
        start, n, m = len(self.sequence), len(tokens), len(tokens) + len(canvas)
        memory = self._memories[0]
        _fit(memory, start)
        room = memory.room
        bias = np.zeros((m, room + m), np.float32)
        bias[:, start:room] = BLOCKED
        bias[:n, room:] = np.triu(np.full((n, m), BLOCKED), 1)
        ids = np.array(tokens + canvas, np.int64)
        top, probability, logits, *new = self._session.run(
            self._outputs,
            {
                "tokens": ids,
                "ngrams": self._ngrams(tokens, ids),
                "positions": np.arange(start, start + m),
                "bias": bias,
                "rows": np.arange(m - results, m),
                "lengths": np.array([room, m]),
                **memory.parts,
            },
        )
        if first is not None:
            top[0], probability[0] = likeliest(logits[0], first)
        _fit(memory, start + n)
        for part, rows in zip(memory.parts.values(), new, strict=True):
            part[:, start : start + n] = rows[:, :n]
        memory.tokens += tokens
        return Rows(top.tolist(), probability.tolist(), logits)


def _fit(memory: Memory, length: int) -> None:
    """Give the memory room for `length` positions and not many more, since every pass reads all of it."""
    if length <= memory.room <= length + SLACK:
        return
    room = -(-length // STEP) * STEP
    kept = min(memory.room, room)
    for name, part in memory.parts.items():
        fitted = np.zeros((part.shape[0], room, part.shape[2]), np.float32)
        fitted[:, :kept] = part[:, :kept]
        memory.parts[name] = fitted
