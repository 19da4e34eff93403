"""A canvas unmasked pass by pass: each pass predicted every row of it, and a rule of `unmasking` says which of the open
rows keep their predictions.

Models whose later blocks are hidden from earlier ones fill block after block; the suffix is part of the prompt.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from engine.decoding import unmasking
from engine.decoding.canvas import Canvas
from engine.decoding.limits import DecodedTokens, Limits
from engine.decoding.runner import CanvasPredictions, CanvasRunner, ForwardInput, Gap
from engine.decoding.unmasking import Policy
from engine.retrieval.copying import Copier, mixed

ROWS = 32  # of blocks, that a policy's passes are for


class Allowed(Protocol):
    def __call__(self, canvas: Canvas, done: list[int] | None = None) -> tuple[int, list[int]] | None:
        """`done` are the tokens of the blocks before the canvas, where there are blocks."""


class Task(msgspec.Struct, frozen=True):
    """A gap, and what a family does with it.

    `settle` looks at what was just unmasked and may make the canvas longer or shorter; `suppressed` are the tokens that
    no row may be; `allowed` is the row that must be one of some tokens, if any. `done` are the tokens of the blocks
    before, which the copier follows.
    """

    gap: Gap
    mask: int
    settle: Callable[[Canvas], None]
    suppressed: Callable[[Canvas], list[int]]
    allowed: Allowed
    copier: Copier | None = None
    done: list[int] = []


def unmask(model: CanvasRunner, task: Task, canvas: Canvas, policy: Policy, limits: Limits) -> None:
    """Reveal the canvas until no row is open or time is up. Raises Cancelled between passes.

    Where something is copied, a pass sees it in its place. What model and copier agree on stays; from the first row on
    where they do not, the canvas is denoised.
    """
    passes, copier = 0, task.copier
    while not limits.late():
        allowed = task.allowed(canvas)
        open_rows = canvas.open_rows()
        if not open_rows:
            break
        copied = _copied(copier, task, canvas, allowed, limits) if copier else []
        stands, start = list(canvas.tokens), open_rows[0]
        stands[start : start + len(copied)] = copied
        model_input = ForwardInput(
            task.gap.before, stands, task.gap.after, task.suppressed(canvas), allowed, pad=task.gap.pad
        )
        [predictions] = limits.predict(model, [model_input])
        passes += 1
        if copier and not _agreed(copier, canvas, predictions, start, copied):
            copier = None  # for this canvas: what else the pass says was said beside a wrong copy
        else:
            _choose(canvas, predictions, open_rows[len(copied) :], policy, passes, None if copied else allowed)
        task.settle(canvas)
        _show(task, canvas, limits)


def _show(task: Task, canvas: Canvas, limits: Limits) -> None:
    stays = canvas.written()
    rest = (None if token == canvas.mask else token for token in canvas.tokens[stays:])
    limits.show(DecodedTokens([*task.done, *canvas.tokens[:stays]]), list(rest))


def _copied(
    copier: Copier, task: Task, canvas: Canvas, allowed: tuple[int, list[int]] | None, limits: Limits
) -> list[int]:
    """Copies for the first open rows, up to one that is unmasked; one at a time where nobody wants drafts."""
    start = canvas.written()
    copier.follow([*task.done, *canvas.tokens[:start]])
    copied = copier.draft()[: None if limits.request.drafts else 1]
    if allowed is not None and copied and copied[0] not in allowed[1]:
        return []
    open_rows = itertools.takewhile(lambda token: token == canvas.mask, canvas.tokens[start:])
    return [token for token, _ in zip(copied, open_rows, strict=False)]


def _agreed(copier: Copier, canvas: Canvas, predictions: CanvasPredictions, start: int, copied: list[int]) -> bool:
    """Keep copies up to the first that is not the likeliest of model and copier; tells whether all are kept."""
    for row, token in enumerate(copied, start):
        likeliest, probability = mixed(predictions, row, copier.next)
        if likeliest != token:
            return False
        canvas.tokens[row], canvas.probabilities[row] = token, probability
        copier.advance([token])
    return True


def _choose(
    canvas: Canvas,
    predictions: CanvasPredictions,
    open_rows: list[int],
    policy: Policy,
    passes: int,
    allowed: tuple[int, list[int]] | None,
) -> None:
    """Reveal what the rule takes after so many passes."""
    if not open_rows:
        return
    if policy.lead and passes == 1:
        rows = open_rows[:1]
    elif policy.remask:
        masked = unmasking.least_sure(predictions, 1 - passes / policy.passes)
        for row in masked:
            canvas.tokens[row], canvas.probabilities[row] = canvas.mask, 1.0
        rows = [row for row in open_rows if row not in masked]
    else:
        considered = policy.considered(open_rows)
        rows = policy.rule(predictions, considered, policy.quota(len(canvas.tokens), considered, passes - 1))
    if allowed is not None:  # where the model meant another token, its predicted of other rows belong to that one
        rows = [allowed[0], *rows] if predictions.agrees else [allowed[0]]
    for row in rows:
        canvas.tokens[row], canvas.probabilities[row] = predictions.tokens[row], predictions.probabilities[row]


def in_blocks(model: CanvasRunner, task: Task, block: int, policy: Policy, limits: Limits) -> Canvas:
    """All blocks as one canvas. `task.settle` looks at all of it and says by `ended` that no block follows.

    Blocks lie where training laid them, at multiples of their length from the start of the window: the first canvas is
    what the prompt left of its last block; the gap's `pad` may make that a whole one.
    """
    whole = Canvas.masked(task.mask, 0)
    while not whole.ended and len(whole.tokens) < limits.tokens and not limits.late():
        before = [*task.gap.before, *whole.tokens]
        canvas = Canvas.masked(task.mask, block - (task.gap.pad + len(before)) % block)
        share = math.ceil(policy.passes * len(canvas.tokens) / ROWS)
        gap = msgspec.structs.replace(task.gap, before=before)
        allowed, stop = partial(task.allowed, done=whole.tokens), partial(_stop, task, whole)
        part = msgspec.structs.replace(task, gap=gap, settle=stop, allowed=allowed, done=list(whole.tokens))
        lead = policy.lead and len(canvas.tokens) == block
        unmask(model, part, canvas, msgspec.structs.replace(policy, passes=share, lead=lead), limits)
        whole.tokens += canvas.tokens
        whole.probabilities += canvas.probabilities
        task.settle(whole)
        whole.ended, whole.end = whole.ended or canvas.ended, canvas.end
    whole.cut(limits.tokens)
    return whole


def _stop(task: Task, whole: Canvas, canvas: Canvas) -> None:
    """End a block where all up to the fill's end is unmasked; until then its rows stay, for they see one another."""
    seen = Canvas([*whole.tokens, *canvas.tokens], [*whole.probabilities, *canvas.probabilities], canvas.mask)
    task.settle(seen)
    if seen.ended and not seen.open_rows():
        canvas.cut(len(seen.tokens) - len(whole.tokens))
        canvas.ended, canvas.end = True, seen.end
