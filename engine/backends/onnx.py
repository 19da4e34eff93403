"""Forward passes on ONNX Runtime over a KV memory that lives in numpy arrays.

A piece of memory for each layer's keys and values, (heads, room, d), is handed over without a copy. Its room follows
what is in use in steps, for the price of a pass grows with it. How many layers and heads there are, the graph says.

The graph has no weights: they are unpacked from the file that torch reads too, and handed over by name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine import quantised
from engine.backends.memory import BLOCKED, CausalPasses, Memory, ModelShape, Rows, likeliest
from engine.contract import EngineError
from engine.quantised import Matrix, Weights

STEP, SLACK = 32, 96  # positions


class OnnxPasses(CausalPasses):
    def __init__(self, session: onnxruntime.InferenceSession, shape: ModelShape) -> None:
        kept = [each for each in session.get_inputs() if each.name.startswith(("keys.", "values."))]
        empty = {each.name: np.zeros((each.shape[0], 0, each.shape[2]), np.float32) for each in kept}
        super().__init__(shape, empty)
        self._session = session
        self._outputs = ["token", "probability", "logits", *(f"new_{name}" for name in empty)]

    @classmethod
    def load(cls, folder: Path, shape: ModelShape) -> OnnxPasses:
        """From graph.onnx and model.safetensors. Raises EngineError where they are missing or damaged."""
        weights = quantised.read(folder / "model.safetensors")
        try:
            return cls(session((folder / "graph.onnx").read_bytes(), weights, shape.threads), shape)
        except Exception as error:  # onnxruntime has a family of exceptions without a public base
            raise EngineError(
                f"the model in {folder} is missing or damaged ({type(error).__name__}); install it again"
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
        ngrams = {"ngrams": self._ngrams(tokens, ids)} if self.shape.ngram_buckets else {}
        top, probability, logits, *new = self._session.run(
            self._outputs,
            {
                "tokens": ids,
                **ngrams,
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


def session(graph: bytes, weights: Weights, threads: int) -> onnxruntime.InferenceSession:
    """A graph with its weights, on at most so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(threads, os.cpu_count() or 1)
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")  # threads rest between passes
    parts = arrays(weights)
    options.add_external_initializers(
        list(parts), [onnxruntime.OrtValue.ortvalue_from_numpy(a) for a in parts.values()]
    )
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def arrays(weights: Weights) -> dict[str, NDArray[Any]]:
    """Weights by the names that they have in a graph."""
    named: dict[str, NDArray[Any]] = {}
    for name, weight in weights.items():
        if isinstance(weight, Matrix):
            named[f"{name}.numbers"] = weight.numbers.reshape(*weight.scales.shape, -1)
            named[f"{name}.scales"] = weight.scales
        else:
            named[name] = weight
    return named


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
