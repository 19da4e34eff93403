"""The KV memories of a causal model, whatever runs its passes.

Some memories are kept, for users go back and forth between files and between places of a file; the least recently used
goes.
"""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.backends.pace import Pace
from engine.contract import Drafting
from engine.decoding.limits import DecodedTokens
from engine.decoding.runner import ForwardInput

BLOCKED = -1e4  # added to a score that must not count
SPARE = 256  # positions besides the context
MEMORIES, MEGABYTES = 4, 64  # the most memories, and their size, but one whatever its size


class ModelShape(msgspec.Struct, frozen=True):
    """Of the exported model, from its config.json."""

    context: Annotated[int, msgspec.Meta(ge=32, le=1 << 20)]  # tokens of context it was trained on
    rest_first: bool = False  # see prompt.prompt
    name: str = ""  # of the model whose copy weights and gate it has; none: that of its folder
    grown_from: str = ""  # the model, or its folder, that this one is a low-rank change of; none: it has weights
    threads: int = 2


class LogitPredictions(msgspec.Struct):
    """`Predictions` of rows of which all logits (rows, vocab) are at hand."""

    tokens: list[int]
    probabilities: list[float]
    logits: NDArray[np.float32]

    def probability(self, row: int, token: int) -> float:
        """See Predictions.probability."""
        logits = self.logits[row]
        return self.probabilities[row] * float(np.exp(logits[token] - logits[self.tokens[row]]))

    def chances(self, row: int) -> NDArray[np.float64]:
        """See Predictions.chances."""
        logits = self.logits[row].astype(np.float64)
        return np.asarray(np.exp(logits - np.logaddexp.reduce(logits)))


def common(held: list[int], tokens: list[int], besides: range = range(0)) -> int:
    """Length of the common beginning, whatever stands at the positions `besides`."""
    if tokens[: len(held)] == held:  # mostly, and much faster
        return len(held)
    for at, (mine, theirs) in enumerate(zip(held, tokens, strict=False)):
        if mine != theirs and at not in besides:
            return at
    return min(len(held), len(tokens))


class KVCache(msgspec.Struct, eq=False):
    """The tokens that were read, and their keys and values (…, room, d). A drafter has read the first `drafted`."""

    tokens: list[int]
    parts: dict[str, Any]
    drafted: int = 0

    @property
    def room(self) -> int:
        return int(next(iter(self.parts.values())).shape[-2])

    def shared(self, tokens: list[int]) -> int:
        """The length of the common beginning."""
        return common(self.tokens, tokens)

    def beginning(self, length: int) -> KVCache:
        """A copy of the first `length` tokens."""
        return KVCache(self.tokens[:length], copy.deepcopy(self.parts), min(length, self.drafted))


def likeliest(logits: NDArray[np.float32], allowed: NDArray[np.int64]) -> tuple[int, float]:
    """The likeliest of the allowed tokens, and its probability among all (vocab,)."""
    token = int(allowed[logits[allowed].argmax()])
    return token, float(np.exp(logits[token] - np.logaddexp.reduce(logits)))


class CausalRunner(ABC):
    """`decoding.runner.ModelRunner` over KV memories, most recently used first: the first is read and written."""

    def __init__(self, shape: ModelShape, empty: dict[str, Any]) -> None:
        """`empty` are the parts of a memory that holds nothing: keys and values, each (…, heads, room, d)."""
        self.shape, self.capacity, self.pace = shape, shape.context + SPARE, Pace()
        self.drafting: Drafting = ""
        self._memories = [KVCache([], empty)]
        self.memories = max(1, min(MEMORIES, self._fitting(MEGABYTES)))

    def remember(self, megabytes: float) -> None:
        """Keep as many memories as fit, and no fewer than before."""
        self.memories = max(self.memories, self._fitting(megabytes))

    def _fitting(self, megabytes: float) -> int:
        """How many memories have so many megabytes."""
        parts = self._memories[0].parts.values()
        position = sum(math.prod(part.shape[:-2]) * part.shape[-1] * part.dtype.itemsize for part in parts)
        return int(megabytes * 1e6 / (position * self.capacity))

    @property
    def sequence(self) -> list[int]:
        """The tokens in the memory in use."""
        return self._memories[0].tokens

    def reuse_prefix(self, tokens: list[int]) -> int:
        """Use the memory with the longest common beginning with `tokens`, and only that of it; returns its length.

        Where this is the lesser part of the memory, which will be asked for again, it is copied if there is room.
        """
        memory = max(self._memories, key=lambda memory: memory.shared(tokens))
        shared = memory.shared(tokens)
        if 2 * shared < len(memory.tokens) and self.memories > 1:
            memory = memory.beginning(shared)
        others = [other for other in self._memories if other is not memory]
        self._memories = [memory, *others[: self.memories - 1]]
        self.truncate(shared)
        return shared

    def num_uncached(self, tokens: list[int]) -> int:
        """How many of the tokens no memory has."""
        return len(tokens) - max(memory.shared(tokens) for memory in self._memories)

    def read(self, tokens: list[int]) -> None:
        """One pass that takes tokens into the memory."""
        self._pass(tokens, 1)

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens of the memory."""
        memory = self._memories[0]
        del memory.tokens[length:]
        memory.drafted = min(length, memory.drafted)

    def draft(self, text: list[int]) -> DecodedTokens:
        """What may follow a text of which all but the newest token is read, by a drafter, where there is one that pays:
        as many tokens as it pays to verify, and how sure each is.
        """
        return DecodedTokens()

    def settled(self) -> CausalRunner:
        """The runner to go on with, after its first passes and drafts: without its drafter where tokens come no faster
        with it on this machine.
        """
        return self

    def predict(self, inputs: list[ForwardInput]) -> list[LogitPredictions]:
        """See ModelRunner.predict; a pass each, of drafts that are read."""
        return [self._predict(model_input) for model_input in inputs]

    def _predict(self, model_input: ForwardInput) -> LogitPredictions:
        read = model_input.read
        assert read is not None
        text = [*model_input.before, *model_input.canvas[:read]]
        self.truncate(min(common(self.sequence, text), len(model_input.before) - 1))
        first = None if model_input.allowed is None else np.asarray(model_input.allowed[1])
        return self._pass(text[len(self.sequence) :], read + 1, first)

    def _pass(self, tokens: list[int], results: int, first: NDArray[np.int64] | None = None) -> LogitPredictions:
        """`forward`, and what it has cost is noted."""
        started = time.perf_counter()
        rows = self.forward(tokens, results, first)
        self.pace.note(len(tokens), time.perf_counter() - started)
        return rows

    @abstractmethod
    def forward(self, tokens: list[int], results: int, first: NDArray[np.int64] | None = None) -> LogitPredictions:
        """One pass: `tokens` after the memory, which then holds them.

        Returns the last `results` rows. The first of them is one of the tokens `first`.
        """
