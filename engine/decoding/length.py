"""How long a gap is, for models that must be told: try some lengths for a pass each and take the one they are surest of.

The score is the mean log-probability of the guesses of an all-masked canvas, as in training-free calibration for
infilling: a canvas too short or too long makes the model less sure of its rows on average.
"""

from __future__ import annotations

import math

from engine.decoding.canvas import Denoiser, Limits, Question
from engine.models.vocabulary import Gap

SIZES = (4, 8, 16, 32, 64)


def probe(model: Denoiser, gap: Gap, mask: int, limits: Limits, banned: list[int]) -> int:
    """One of SIZES, at most the limit of tokens."""
    sizes = [size for size in SIZES if size < limits.tokens] + [limits.tokens]
    scores: dict[int, float] = {}
    for size in sizes:
        if scores and limits.late():
            break
        guess = limits.guess(model, Question(gap.before, [mask] * size, gap.after, gap.firsts, banned))
        scores[size] = sum(math.log(max(p, 1e-9)) for p in guess.probabilities) / size
    return max(scores, key=lambda size: scores[size])
