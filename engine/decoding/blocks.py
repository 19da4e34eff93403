"""Block after block, for models whose later blocks are hidden from earlier ones; the suffix is part of the prompt.

Blocks lie where training laid them, at multiples of their length from the start of the window: the first canvas is
what the prompt left of its last block; the gap's `pad` may make that a whole one. A block of one token is
autoregression.
"""

from __future__ import annotations

import math
from functools import partial

import msgspec

from engine.decoding.canvas import Canvas
from engine.decoding.denoise import Policy, Task, reveal
from engine.decoding.limits import Limits
from engine.decoding.passes import Passes

ROWS = 32  # that a policy's passes are for


def fill(model: Passes, task: Task, block: int, policy: Policy, limits: Limits) -> Canvas:
    """All blocks as one canvas. `task.settle` looks at all of it and says by `ended` that no block follows."""
    whole = Canvas.masked(task.mask, 0)
    while not whole.ended and len(whole.tokens) < limits.tokens and not limits.late():
        before = [*task.gap.before, *whole.tokens]
        canvas = Canvas.masked(task.mask, block - (task.gap.pad + len(before)) % block)
        share = math.ceil(policy.passes * len(canvas.tokens) / ROWS)
        gap = msgspec.structs.replace(task.gap, before=before)
        forced, stop = partial(task.forced, done=whole.tokens), partial(_stop, task, whole)
        part = msgspec.structs.replace(task, gap=gap, settle=stop, forced=forced, done=list(whole.tokens))
        lead = policy.lead and len(canvas.tokens) == block
        reveal(model, part, canvas, msgspec.structs.replace(policy, passes=share, lead=lead), limits)
        whole.tokens += canvas.tokens
        whole.probabilities += canvas.probabilities
        task.settle(whole)
        whole.ended, whole.end = whole.ended or canvas.ended, canvas.end
    whole.cut(limits.tokens)
    return whole


def _stop(task: Task, whole: Canvas, canvas: Canvas) -> None:
    """End a block where all up to the fill's end is revealed; until then its rows stay, for they see one another."""
    seen = Canvas([*whole.tokens, *canvas.tokens], [*whole.probabilities, *canvas.probabilities], canvas.mask)
    task.settle(seen)
    if seen.ended and not seen.open_rows():
        canvas.cut(len(seen.tokens) - len(whole.tokens))
        canvas.ended, canvas.end = True, seen.end
