"""Take back a revealed token that the model, seeing more of the canvas, no longer believes (WINO, arXiv 2507.18578).

A row is taken back once, so that decoding ends.
"""

from __future__ import annotations

import numpy as np

from engine.decoding.canvas import Canvas
from engine.decoding.passes import Guess


def revoke(canvas: Canvas, guess: Guess, open_rows: list[int], bar: float, revoked: set[int]) -> None:
    """Mask the rows that were revealed before this guess and whose token it gives less than `bar`."""
    before = set(range(len(guess.held))) - set(open_rows) - revoked
    for row in before:
        if guess.held[row] < bar:
            canvas.tokens[row], canvas.probabilities[row] = canvas.mask, 1.0
            revoked.add(row)


def least_sure(guess: Guess, share: float) -> set[int]:
    """The rows whose guesses are the least sure, a share of all, rounded down; counted in float32, as torch does."""
    count = int(np.float32(len(guess.tokens)) * np.float32(share))
    return set(sorted(range(len(guess.tokens)), key=lambda row: guess.sure[row])[:count])
