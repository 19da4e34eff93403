"""Block after block, for models whose later blocks are hidden from earlier ones; the suffix is part of the prompt.

Blocks lie where training laid them, at multiples of their length from the start of the window: the first canvas is
what the prompt left of its last block. A block of one token is autoregression.
"""

from __future__ import annotations

import math

import msgspec

from engine.decoding.canvas import Banned, Canvas, Denoiser, Limits, Policy, Settle, reveal
from engine.models.vocabulary import Gap


def fill(
    model: Denoiser, gap: Gap, mask: int, block: int, policy: Policy, limits: Limits, settle: Settle, banned: Banned
) -> Canvas:
    """All blocks as one canvas. `settle` looks at all of it and says by `ended` that no block follows."""
    whole = Canvas.masked(mask, 0)
    while not whole.ended and len(whole.tokens) < limits.tokens and not limits.late():
        before = [*gap.before, *whole.tokens]
        canvas = Canvas.masked(mask, block - len(before) % block)
        passes = max(1, math.ceil(policy.passes * len(canvas.tokens) / limits.tokens))
        part = msgspec.structs.replace(gap, before=before, firsts=gap.firsts if not whole.tokens else [])
        reveal(model, part, canvas, msgspec.structs.replace(policy, passes=passes), limits, _leave, banned)
        whole.tokens += canvas.tokens
        whole.probabilities += canvas.probabilities
        settle(whole)
    return whole


def _leave(canvas: Canvas) -> None:
    """Nothing to do before a block is whole."""
