"""How long a gap is, for models that must be told: try some lengths in one pass and take the one they are surest of.

The score is the mean log-probability of the guesses of an all-masked canvas, as in training-free calibration for
infilling: a canvas too short or too long makes the model less sure of its rows on average.
"""

from __future__ import annotations

import math

from engine.decoding.canvas import Canvas
from engine.decoding.denoise import Task
from engine.decoding.limits import Limits
from engine.decoding.passes import Guess, Passes, Question

SIZES = (4, 12, 28, 64)


def probe(model: Passes, task: Task, limits: Limits) -> int:
    """One of SIZES, or as long as a copy that is likely; at most the limit of tokens."""
    size, copier = _surest(model, task, limits), task.copier
    likely = copier is not None and limits.request.drafts and copier.draft()
    return max(size, min(copier.left, limits.tokens)) if copier and likely else size


def _surest(model: Passes, task: Task, limits: Limits) -> int:
    gap = task.gap
    canvases = [Canvas.masked(task.mask, size) for size in sorted({min(size, limits.tokens) for size in SIZES})]
    if len(canvases) == 1 or limits.late():
        return len(canvases[0].tokens)
    questions = [
        Question(gap.before, canvas.tokens, gap.after, task.banned(canvas), task.forced(canvas)) for canvas in canvases
    ]
    scores = [_sureness(guess) for guess in limits.guess(model, questions)]
    return len(questions[scores.index(max(scores))].canvas)


def _sureness(guess: Guess) -> float:
    return sum(math.log(max(p, 1e-9)) for p in guess.probabilities) / len(guess.probabilities)
