"""Forward passes on ONNX Runtime over a KV memory that lives in numpy arrays.

A piece of memory for each layer's keys and values, (heads, room, d), is handed over without a copy. Its room follows
what is in use in steps, for the price of a pass grows with it. How many layers and heads there are, the graph says,
which writes into the memory itself.

The graph has no weights: they are handed over by name.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine import checksums, stored, unpacked
from engine.backends.drafting import DRAFTER, FEATURES, GRAPH, About, DraftRunner
from engine.backends.kv_cache import CausalRunner, KVCache, LogitPredictions, ModelShape, common, likeliest
from engine.contract import EngineError
from engine.decoding.limits import DecodedTokens
from engine.get import WEIGHTS, models_folder
from engine.stored import Matrix, Weights

if TYPE_CHECKING:
    from typing_extensions import Self

STEP, SLACK = 32, 96  # positions
TIMED = 3  # passes of each kind, to tell what drafting is worth


class OnnxRunner(CausalRunner):
    def __init__(
        self, session: onnxruntime.InferenceSession, shape: ModelShape, drafter: DraftRunner | None = None
    ) -> None:
        kept = [each for each in session.get_inputs() if each.name.startswith(("keys.", "values."))]
        empty = {each.name: np.zeros((each.shape[-3], 0, each.shape[-1]), np.float32) for each in kept}
        super().__init__(shape, empty | (drafter.parts() if drafter else {}))
        self._session, self.drafter = session, drafter
        self.drafting = "on" if drafter else ""
        self._own = list(empty)
        self._outputs = ["token", "probability", "logits"]
        self._bound: tuple[KVCache | None, onnxruntime.IOBinding] = None, session.io_binding()

    @classmethod
    def load(cls, folder: Path, shape: ModelShape) -> Self:
        """From graph.onnx and model.safetensors. Raises EngineError where they are missing or damaged."""
        weights = unpacked.read(folder, shape.grown_from)
        try:
            loaded = session((folder / "graph.onnx").read_bytes(), weights, shape.threads)
            drafter = _drafter(folder, shape, weights)
            del weights
            _trim()
            return cls(loaded, shape, drafter)
        except EngineError:
            raise
        except Exception as error:  # onnxruntime has a family of exceptions without a public base
            raise EngineError(
                f"the model in {folder} is missing or damaged ({type(error).__name__}); install it again"
            ) from None

    def forward(self, tokens: list[int], results: int, first: NDArray[np.int64] | None = None) -> LogitPredictions:
        """See CausalRunner.forward."""
        top, probability, logits = self._run(tokens, results)
        if first is not None:
            top[0], probability[0] = likeliest(logits[0], first)
        self.sequence.extend(tokens)
        return LogitPredictions(top.tolist(), probability.tolist(), logits)

    def _run(self, tokens: list[int], results: int) -> list[NDArray[Any]]:
        """Tokens, probabilities and logits; the memory is written to by the graph.

        A row that has no neighbour is multiplied by another kernel, which rounds otherwise. So that drafts change
        nothing of the text, rows come in pairs where there is a drafter; the last may be one that nobody asked for.
        """
        start, n, memory = len(self.sequence), len(tokens), self._memories[0]
        tokens = tokens + [0] * (n % 2 if FEATURES in memory.parts else 0)
        end = start + len(tokens)
        if _fit(memory, end) or self._bound[0] is not memory:
            self._bound = memory, self._binding(memory)
        binding = self._bound[1]
        for name, value in (
            ("tokens", np.array(tokens, np.int64)),
            ("rows", np.arange(n - results, n)),
            ("last", np.array([end - 1], np.int32)),
            ("length", np.array([end], np.int32)),
        ):
            binding.bind_cpu_input(name, value)
        for name in self._outputs:  # anew, for what is there from the last pass has its shape
            binding.bind_output(name)
        if (features := memory.parts.get(FEATURES)) is not None:  # for a drafter
            new = features[:, start:end]
            binding.bind_output(FEATURES, "cpu", 0, np.float32, new.shape, new.ctypes.data)
        self._session.run_with_iobinding(binding)
        return [output.numpy() for output in binding.get_outputs()[:3]]

    def _binding(self, memory: KVCache) -> onnxruntime.IOBinding:
        """Of a memory as what is read and what is written, kept from pass to pass: there are two parts a layer."""
        binding = self._session.io_binding()
        for name in self._outputs:
            binding.bind_output(name)
        for name in self._own:
            part = memory.parts[name]
            place = ("cpu", 0, np.float32, (1, *part.shape), part.ctypes.data)
            binding.bind_input(name, *place)
            binding.bind_output(f"new_{name}", *place)
        return binding

    def draft(self, text: list[int]) -> DecodedTokens:
        """See CausalRunner.draft: nothing where the text is not read."""
        memory, drafter = self._memories[0], self.drafter
        if drafter is None:
            return DecodedTokens()
        self.truncate(common(self.sequence, text[:-1]))
        if len(self.sequence) < len(text) - 1:
            return DecodedTokens()
        if _fit(memory, len(text) - 1 + drafter.rows):
            self._bound = None, self._session.io_binding()
        return drafter.draft(memory, text[-1], self.pace.seconds)

    def settled(self) -> CausalRunner:
        """See CausalRunner.settled. Without a drafter rows need not come in pairs, and no features are kept.

        Passes of all kinds are timed by turns, and the fastest of each counts: a machine that is busy for a moment
        shall not decide.
        """
        if self.drafter is None:
            return self
        alone = OnnxRunner(self._session, self.shape)
        for token in [0] * TIMED:
            alone.read([token])
            self.draft([*self.sequence, token])
            for rows in (2, 2 + self.drafter.rows):
                self.read([token] * rows)
        alone.drafting = "off"
        return self if self.drafter.pays(self.pace.fastest, alone.pace.fastest(1)) else alone


def _drafter(folder: Path, shape: ModelShape, trunk: Weights) -> DraftRunner | None:
    """The one beside a model, or beside the one that it is a change of, if there is one; a fetched model's is shipped.
    Embedding and head are the model's. Raises EngineError where it is damaged.
    """
    origin = unpacked.origin_of(shape.grown_from) if shape.grown_from else folder
    fetched = [WEIGHTS / origin.name] if origin.parent == models_folder() else []
    folders = [each for each in (folder, origin, *fetched) if (each / DRAFTER).exists()]
    if not folders:
        return None
    checksums.check(folders[0], [DRAFTER, GRAPH])
    weights = {**stored.read(folders[0] / DRAFTER, wide=True), "embed.weight": trunk["embed.weight"]}
    about = msgspec.json.decode(stored.about(folders[0] / DRAFTER), type=About)
    return DraftRunner(session((folders[0] / GRAPH).read_bytes(), weights, shape.threads), about.accepted)


def _trim() -> None:
    """Give back to the system what unpacking has used, where glibc would keep it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


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
            wide = weight.wide()
            named[f"{name}.numbers"] = wide.numbers.reshape(*wide.scales.shape, -1)
            named[f"{name}.scales"] = wide.scales
        else:
            named[name] = weight
    return named


def _fit(memory: KVCache, length: int) -> bool:
    """Give the memory room for `length` positions and not many more, since every pass reads all of it; tells whether
    its parts are others now.
    """
    if length <= memory.room <= length + SLACK:
        return False
    room = -(-length // STEP) * STEP
    kept = min(memory.room, room)
    for name, part in memory.parts.items():
        fitted = np.zeros((part.shape[0], room, part.shape[2]), np.float32)
        fitted[:, :kept] = part[:, :kept]
        memory.parts[name] = fitted
    return True
