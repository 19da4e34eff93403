"""Block after block, for models whose later blocks are hidden from earlier ones; the suffix is part of the prompt.

Blocks lie where training laid them, at multiples of their length from the start of the window: the first canvas is
what the prompt left of its last block. A block of one token is autoregression.
"""

from __future__ import annotations

import math
from functools import partial

import msgspec

from engine.decoding.canvas import Canvas, Denoiser, Limits
from engine.decoding.denoise import Policy, Task, reveal

ROWS = 32  # that a policy's passes are for


def fill(model: Denoiser, task: Task, block: int, policy: Policy, limits: Limits) -> Canvas:
    """All blocks as one canvas. `task.settle` looks at all of it and says by `ended` that no block follows."""
    whole = Canvas.masked(task.mask, 0)
    while not whole.ended and len(whole.tokens) < limits.tokens and not limits.late():
        before = [*task.gap.before, *whole.tokens]
        canvas = Canvas.masked(task.mask, block - len(before) % block)
        share = math.ceil(policy.passes * len(canvas.tokens) / ROWS)
        gap = msgspec.structs.replace(task.gap, before=before)
        part = msgspec.structs.replace(task, gap=gap, settle=_leave, forced=partial(task.forced, done=whole.tokens))
        reveal(model, part, canvas, msgspec.structs.replace(policy, passes=share), limits)
        whole.tokens += canvas.tokens
        whole.probabilities += canvas.probabilities
        task.settle(whole)
    whole.cut(limits.tokens)
    return whole


def _leave(canvas: Canvas) -> None:
    """Nothing ends before its block is whole: rows of a block are revealed in any order."""
