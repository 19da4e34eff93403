"""How long a gap is, for models that must be told: try some lengths for a pass each and take the one they are surest
of.

The score is the mean log-probability of the guesses of an all-masked canvas, as in training-free calibration for
infilling: a canvas too short or too long makes the model less sure of its rows on average.
"""

from __future__ import annotations

import math

from engine.decoding.canvas import Canvas, Denoiser, Limits, Question
from engine.decoding.denoise import Task

SIZES = (4, 8, 16, 32, 64)


def probe(model: Denoiser, task: Task, limits: Limits) -> int:
    """One of SIZES, at most the limit of tokens."""
    gap = task.gap
    scores: dict[int, float] = {}
    for size in sorted({min(size, limits.tokens) for size in SIZES}):
        if scores and limits.late():
            break
        canvas = Canvas.masked(task.mask, size)
        question = Question(gap.before, canvas.tokens, gap.after, task.banned(canvas), task.forced(canvas))
        guess = limits.guess(model, question)
        scores[size] = sum(math.log(max(p, 1e-9)) for p in guess.probabilities) / size
    return max(scores, key=lambda size: scores[size])
