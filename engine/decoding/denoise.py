"""A canvas revealed pass by pass.

Each pass guesses every row of the canvas; a *rule* says which of the open rows keep their guess. All rules have one
signature: (guess, open rows, quota) -> rows, where the quota is the least number that keeps within the passes.
Autoregression is the rule that takes the first open row.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from engine.decoding import remasking
from engine.decoding.canvas import Canvas, Denoiser, Guess, Limits, Question
from engine.models.vocabulary import Gap

Rule = Callable[[Guess, list[int], int], list[int]]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How canvases are revealed.

    `passes` are those of a full canvas; of `span` rows the leftmost that has an open one is considered (0: all rows);
    `revoke` is the probability below which a revealed token is taken back.
    """

    rule: Rule
    passes: int
    span: int = 0
    revoke: float = 0.0


class Task(msgspec.Struct, frozen=True):
    """A gap, and what a family does with it.

    `settle` looks at what was just revealed and may make the canvas longer or shorter; `banned` are the tokens that no
    row may be.
    """

    gap: Gap
    mask: int
    settle: Callable[[Canvas], None]
    banned: Callable[[Canvas], list[int]]


def left_to_right(guess: Guess, open_rows: list[int], quota: int) -> list[int]:
    """Autoregression."""
    return open_rows[:1]


def reveal(model: Denoiser, task: Task, canvas: Canvas, policy: Policy, limits: Limits) -> None:
    """Reveal the canvas until no row is open or time is up. Raises Cancelled between passes."""
    gap, passes = task.gap, 0
    revoked: set[int] = set()
    while (open_rows := canvas.open_rows()) and not limits.late():
        question = Question(gap.before, canvas.tokens, gap.after, gap.firsts, task.banned(canvas))
        guess = limits.guess(model, question)
        passes += 1
        quota = math.ceil(len(open_rows) / max(1, policy.passes - passes + 1))
        if policy.revoke and passes < policy.passes:
            remasking.revoke(canvas, guess, open_rows, policy.revoke, revoked)
        for row in policy.rule(guess, _considered(open_rows, policy.span), quota):
            canvas.tokens[row], canvas.probabilities[row] = guess.tokens[row], guess.probabilities[row]
        task.settle(canvas)


def _considered(open_rows: list[int], span: int) -> list[int]:
    if not span:
        return open_rows
    end = (open_rows[0] // span + 1) * span
    return [row for row in open_rows if row < end]
