"""A canvas revealed pass by pass.

Each pass guesses every row of the canvas; a *rule* says which of the open rows keep their guess. All rules have one
signature: (guess, open rows, quota) -> rows, where the quota is the least number that keeps within the passes, a
*share* of the open rows.
Autoregression is the rule that takes the first open row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Protocol

import msgspec

from engine.decoding import remasking
from engine.decoding.canvas import Canvas
from engine.decoding.copying import Copier, mixed
from engine.decoding.limits import Limits, Written
from engine.decoding.passes import Gap, Guess, Passes, Question

Rule = Callable[[Guess, list[int], float], list[int]]


class Forced(Protocol):
    def __call__(self, canvas: Canvas, done: list[int] | None = None) -> tuple[int, list[int]] | None:
        """`done` are the tokens of the blocks before the canvas, where there are blocks."""


def even(rows: int, step: int, steps: int) -> float:
    """The same number in every pass, or one more."""
    return math.ceil(rows / max(1, steps - step))


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How canvases are revealed.

    `passes` are those of a canvas, or of so many rows in blocks (blocks.ROWS); of `span` rows the leftmost that has
    an open one is considered (0: all rows), and passes are shared out to spans; `revoke` is the probability below which
    a revealed token is taken back. `share` of (open rows, passes before, passes) is the quota. With `remask`, the rows
    that the guess is least sure of are masked whatever they were, and all others revealed (P2, arXiv 2502.03540). With
    `lead`, the first pass reveals the first row alone.
    """

    rule: Rule
    passes: int
    span: int = 0
    revoke: float = 0.0
    share: Callable[[int, int, int], float] = even
    remask: bool = False
    lead: bool = False


class Task(msgspec.Struct, frozen=True):
    """A gap, and what a family does with it.

    `settle` looks at what was just revealed and may make the canvas longer or shorter; `banned` are the tokens that no
    row may be; `forced` is the row that must be one of some tokens, if any. `done` are the tokens of the blocks before,
    which the copier follows.
    """

    gap: Gap
    mask: int
    settle: Callable[[Canvas], None]
    banned: Callable[[Canvas], list[int]]
    forced: Forced
    copier: Copier | None = None
    done: list[int] = []


def left_to_right(guess: Guess, open_rows: list[int], quota: float) -> list[int]:
    """Autoregression."""
    return open_rows[:1]


def reveal(model: Passes, task: Task, canvas: Canvas, policy: Policy, limits: Limits) -> None:
    """Reveal the canvas until no row is open or time is up. Raises Cancelled between passes.

    Where something is copied, a pass sees it in its place. What model and copier agree on stays; from the first row on
    where they do not, the canvas is denoised.
    """
    passes, copier = 0, task.copier
    revoked: set[int] = set()
    while not limits.late():
        forced = task.forced(canvas)
        open_rows = canvas.open_rows()
        if not open_rows:
            break
        copied = _copied(copier, task, canvas, forced, limits) if copier else []
        stands, start = list(canvas.tokens), open_rows[0]
        stands[start : start + len(copied)] = copied
        question = Question(task.gap.before, stands, task.gap.after, task.banned(canvas), forced, pad=task.gap.pad)
        [guess] = limits.guess(model, [question])
        passes += 1
        if policy.revoke and passes < policy.passes:
            remasking.revoke(canvas, guess, open_rows, policy.revoke, revoked)
        if copier and not _agreed(copier, canvas, guess, start, copied):
            copier = None  # for this canvas: what else the pass says was said beside a wrong copy
        else:
            _choose(canvas, guess, open_rows[len(copied) :], policy, passes, None if copied else forced)
        task.settle(canvas)
        _show(task, canvas, policy, limits)


def _show(task: Task, canvas: Canvas, policy: Policy, limits: Limits) -> None:
    """What is revealed may be taken back where a policy revokes, and then nothing is said to stay."""
    stays = 0 if policy.revoke else canvas.written()
    rest = (None if token == canvas.mask else token for token in canvas.tokens[stays:])
    limits.show(Written([*task.done, *canvas.tokens[:stays]]), list(rest))


def _copied(
    copier: Copier, task: Task, canvas: Canvas, forced: tuple[int, list[int]] | None, limits: Limits
) -> list[int]:
    """Copies for the first open rows, up to one that is revealed; one at a time where nobody wants drafts."""
    start = canvas.written()
    copier.follow([*task.done, *canvas.tokens[:start]])
    copied = copier.draft()[: None if limits.request.drafts else 1]
    if forced is not None and copied and copied[0] not in forced[1]:
        return []
    open_rows = itertools.takewhile(lambda token: token == canvas.mask, canvas.tokens[start:])
    return [token for token, _ in zip(copied, open_rows, strict=False)]


def _agreed(copier: Copier, canvas: Canvas, guess: Guess, start: int, copied: list[int]) -> bool:
    """Keep copies up to the first that is not the likeliest of model and copier; tells whether all are kept."""
    for row, token in enumerate(copied, start):
        likeliest, probability = mixed(guess, row, copier.next)
        if likeliest != token:
            return False
        canvas.tokens[row], canvas.probabilities[row] = token, probability
        copier.advance([token])
    return True


def _choose(
    canvas: Canvas,
    guess: Guess,
    open_rows: list[int],
    policy: Policy,
    passes: int,
    forced: tuple[int, list[int]] | None,
) -> None:
    """Reveal what the rule takes after so many passes."""
    if not open_rows:
        return
    if policy.lead and passes == 1:
        rows = open_rows[:1]
    elif policy.remask:
        masked = remasking.least_sure(guess, 1 - passes / policy.passes)
        for row in masked:
            canvas.tokens[row], canvas.probabilities[row] = canvas.mask, 1.0
        rows = [row for row in open_rows if row not in masked]
    else:
        considered = _considered(open_rows, policy.span)
        rows = policy.rule(guess, considered, _quota(policy, len(canvas.tokens), considered, passes - 1))
    if forced is not None:  # where the model meant another token, its guesses of other rows belong to that one
        rows = [forced[0], *rows] if guess.willing else [forced[0]]
    for row in rows:
        canvas.tokens[row], canvas.probabilities[row] = guess.tokens[row], guess.probabilities[row]


def _quota(policy: Policy, length: int, considered: list[int], step: int) -> float:
    """After so many passes, in those that are for the rows considered."""
    if not policy.span:
        return policy.share(len(considered), step, policy.passes)
    each = max(1, policy.passes // math.ceil(length / policy.span))
    return policy.share(len(considered), step - considered[0] // policy.span * each, each)


def _considered(open_rows: list[int], span: int) -> list[int]:
    if not span:
        return open_rows
    end = (open_rows[0] // span + 1) * span
    return [row for row in open_rows if row < end]
