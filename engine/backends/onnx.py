"""Forward passes on ONNX Runtime over a KV memory that lives in numpy arrays.

A piece of memory for each layer's keys and values, (heads, room, d), is handed over without a copy. Its room follows
what is in use in steps, for the price of a pass grows with it. Some memories are kept, for users go back and forth
between files and between places of a file; the least recently used goes.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.contract import EngineError
from engine.ngrams import hashed_ngrams
from engine.tokenizer import PAD

BLOCKED = np.float32(-1e4)
STEP, SLACK = 32, 96  # positions
MEMORIES = 4  # of at most 640 positions, 8 MB


class ModelShape(msgspec.Struct, frozen=True):
    """Of the exported model, from its config.json."""

    layers: int
    heads: int
    head_dim: int
    context: int  # tokens of context it was trained on
    canvas: int  # tokens of its largest canvas
    ngram_buckets: int


class Rows(msgspec.Struct):
    """Of the rows of a pass: the likeliest token of each, its probability, the logits (rows, vocab)."""

    tokens: list[int]
    probabilities: list[float]
    logits: NDArray[np.float32]

    def probability(self, row: int, token: int) -> float:
        """Of any token."""
        logits = self.logits[row]
        return self.probabilities[row] * float(np.exp(logits[token] - logits[self.tokens[row]]))


class Memory(msgspec.Struct, eq=False):
    """The tokens that were read, and their keys and values (…, room, d)."""

    tokens: list[int]
    parts: dict[str, Any]

    @property
    def room(self) -> int:
        return int(next(iter(self.parts.values())).shape[-2])

    def shared(self, tokens: list[int]) -> int:
        """The length of the common beginning."""
        pairs = enumerate(zip(self.tokens, tokens, strict=False))
        return next((i for i, (mine, theirs) in pairs if mine != theirs), min(len(self.tokens), len(tokens)))

    def beginning(self, length: int) -> Memory:
        """A copy of the first `length` tokens."""
        return Memory(self.tokens[:length], copy.deepcopy(self.parts))


def likeliest(logits: NDArray[np.float32], allowed: NDArray[np.bool_]) -> tuple[int, float]:
    """The likeliest of the allowed tokens, and its probability among all (vocab,)."""
    token = int(np.where(allowed, logits, -np.inf).argmax())
    return token, float(np.exp(logits[token] - np.logaddexp.reduce(logits)))


class OnnxModel:
    """A session and its KV memories, most recently used first: the first is read and written.

    `rows_are_free` tells whether a pass over a few rows costs what a pass over one does.
    """

    rows_are_free = False

    def __init__(self, session: onnxruntime.InferenceSession, shape: ModelShape) -> None:
        self.shape = shape
        self._session = session
        self.capacity = shape.context + 256
        names = [f"{part}.{layer}" for layer in range(shape.layers) for part in ("keys", "values")]
        empty = {name: np.zeros((shape.heads, 0, shape.head_dim), np.float32) for name in names}
        self._memories = [Memory([], empty)]
        self._outputs = ["token", "probability", "logits", *(f"new_{name}" for name in names)]

    @classmethod
    def load(cls, weights: Path, shape: ModelShape) -> OnnxModel:
        """Raises EngineError where the weights are missing or damaged."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # at the few rows of a keystroke a second thread gains nothing
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a family of exceptions without a public base
            raise EngineError(
                f"the weights {weights} are missing or damaged ({type(error).__name__}); install again"
            ) from None
        return cls(session, shape)

    @property
    def sequence(self) -> list[int]:
        """The tokens in the memory in use."""
        return self._memories[0].tokens

    def keep(self, tokens: list[int]) -> int:
        """Use the memory with the longest common beginning with `tokens`, and only that of it; returns its length.

        Where this is the lesser part of the memory, which will be asked for again, it is copied.
        """
        memory = max(self._memories, key=lambda memory: memory.shared(tokens))
        shared = memory.shared(tokens)
        if 2 * shared < len(memory.tokens):
            memory = memory.beginning(shared)
        others = [other for other in self._memories if other is not memory]
        self._memories = [memory, *others[: MEMORIES - 1]]
        self.forget(shared)
        return shared

    def forget(self, length: int) -> None:
        """Keep the first `length` tokens of the memory."""
        del self.sequence[length:]

    def forward(
        self, tokens: list[int], canvas: list[int], results: int, first: NDArray[np.bool_] | None = None
    ) -> Rows:
        """One pass: `tokens` causally after the memory, which then holds them, and after them a canvas that sees
        itself whole.

        Returns the last `results` rows of tokens + canvas. The first of them
        is one of the tokens that `first` (vocab,) allows.
        """
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

    def _ngrams(self, tokens: list[int], ids: NDArray[np.int64]) -> NDArray[np.int64]:
        history = np.array([PAD, PAD, *self.sequence[-2:], *tokens], np.int64)[-(len(tokens) + 2) :]
        ngrams = np.zeros((len(ids), 2), np.int64)  # a canvas has none
        n = len(tokens)
        ngrams[:n] = hashed_ngrams(ids[:n], history[1:-1], history[:-2], self.shape.ngram_buckets)
        return ngrams


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
