"""A canvas of masks, revealed pass by pass.

Each pass guesses every row of the canvas; a *rule* says which of the open rows keep their guess. All rules have one
signature: (guess, open rows, quota) -> rows, where the quota is the least number that keeps within the passes. Rules
run on plain lists, read from the device once a pass. Autoregression is the rule that takes the first open row.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from engine.contract import Cancelled
from engine.models.vocabulary import Gap


class Question(msgspec.Struct, frozen=True):
    """A canvas between what is before and after it. `firsts` are the tokens allowed in its first row (none: all)."""

    before: list[int]
    canvas: list[int]
    after: list[int]
    firsts: list[int]
    banned: list[int]


class Guess(msgspec.Struct):
    """Of each row of a canvas: a token, its probability, the entropy in nats, and the probability of what stands there."""

    tokens: list[int]
    probabilities: list[float]
    entropies: list[float]
    held: list[float]


class Denoiser(Protocol):
    def guess(self, question: Question) -> Guess: ...


Rule = Callable[[Guess, list[int], int], list[int]]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """`passes` for a full canvas; `span` rows at the left are considered at once (0: all); `revoke` see remasking."""

    rule: Rule
    passes: int
    span: int = 0
    revoke: float = 0.0


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

    def guess(self, model: Denoiser, question: Question) -> Guess:
        """One pass. Raises Cancelled before it."""
        if self._cancel.is_set():
            raise Cancelled
        guess = model.guess(question)
        self.passes += 1
        self.first_pass = self.first_pass or time.perf_counter() - self.started
        return guess


class Canvas(msgspec.Struct):
    """`probabilities` are those that rows were revealed with. `ended` where the model said that nothing follows."""

    tokens: list[int]
    probabilities: list[float]
    mask: int
    ended: bool = False

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


Settle = Callable[[Canvas], None]  # looks at what was just revealed, and may make the canvas longer or shorter


def left_to_right(guess: Guess, open_rows: list[int], quota: int) -> list[int]:
    """Autoregression."""
    return open_rows[:quota]


def reveal(model: Denoiser, gap: Gap, canvas: Canvas, policy: Policy, limits: Limits, settle: Settle, banned: Banned) -> None:
    """Reveal the canvas until no row is open or time is up."""
    from engine.decoding import remasking

    passes = 0
    revoked: set[int] = set()
    while (open_rows := canvas.open_rows()) and not limits.late():
        question = Question(gap.before, canvas.tokens, gap.after, gap.firsts, banned())
        guess = limits.guess(model, question)
        passes += 1
        quota = math.ceil(len(open_rows) / max(1, policy.passes - passes + 1))
        for row in policy.rule(guess, _considered(open_rows, policy.span), quota):
            canvas.tokens[row], canvas.probabilities[row] = guess.tokens[row], guess.probabilities[row]
        if policy.revoke and passes < policy.passes:
            remasking.revoke(canvas, guess, open_rows, policy.revoke, revoked)
        settle(canvas)


Banned = Callable[[], list[int]]


def _considered(open_rows: list[int], span: int) -> list[int]:
    if not span:
        return open_rows
    end = (open_rows[0] // span + 1) * span
    return [row for row in open_rows if row < end]
