"""What decoding is about: a canvas of masks, what a model guesses of it, and when to stop.

Everything here is plain Python lists, read from the device once a pass.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

import msgspec

from engine.contract import Cancelled


class Question(msgspec.Struct, frozen=True):
    """A canvas between what is before and after it.

    No row may be one of `banned`, one or two. `forced` is a row and the tokens that it must be one of.
    """

    before: list[int]
    canvas: list[int]
    after: list[int]
    banned: list[int]
    forced: tuple[int, list[int]] | None = None


class Guess(msgspec.Struct):
    """Of each row of a canvas: a token, its probability, the entropy in nats, the probability of what stands there.

    `willing` tells that the forced row would have been one of its tokens anyway.
    """

    tokens: list[int]
    probabilities: list[float]
    entropies: list[float]
    held: list[float]
    willing: bool = True


class Denoiser(Protocol):
    def guess(self, questions: list[Question]) -> list[Guess]:
        """One pass for all of the questions, which are alternatives to one another."""


class Limits:
    """When a fill ends from outside: tokens, time, a cancelled request."""

    def __init__(self, tokens: int, deadline_ms: float | None, cancel: threading.Event) -> None:
        self.tokens = tokens
        self.started = time.perf_counter()
        self._deadline = math.inf if deadline_ms is None else self.started + deadline_ms / 1000
        self._cancel = cancel
        self.passes = 0
        self.first_pass = 0.0  # seconds

    def late(self) -> bool:
        return time.perf_counter() > self._deadline

    def guess(self, model: Denoiser, questions: list[Question]) -> list[Guess]:
        """One pass. Raises Cancelled before it."""
        if self._cancel.is_set():
            raise Cancelled
        guesses = model.guess(questions)
        self.passes += 1
        self.first_pass = self.first_pass or time.perf_counter() - self.started
        return guesses


class Canvas(msgspec.Struct):
    """`probabilities` are those that rows were revealed with. `ended` where the model said that nothing follows."""

    tokens: list[int]
    probabilities: list[float]
    mask: int
    ended: bool = False
    expansions: int = 0  # rows that became two

    @classmethod
    def masked(cls, mask: int, size: int) -> Canvas:
        return cls([mask] * size, [1.0] * size, mask)

    def open_rows(self) -> list[int]:
        return [row for row, token in enumerate(self.tokens) if token == self.mask]

    def written(self) -> int:
        """Rows before the first open one."""
        return self.tokens.index(self.mask) if self.mask in self.tokens else len(self.tokens)

    def cut(self, length: int) -> None:
        del self.tokens[length:], self.probabilities[length:]
