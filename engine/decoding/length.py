"""How long a gap is, for models that must be told: try some lengths in one pass and take the one they are surest of.
Where that is the longest and the request allows for more, twice as long is tried, as long as they are surer still.

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
    """One of SIZES, one of them doubled, or as long as a copy that is likely; at most the limit of tokens."""
    size, copier = _surest(model, task, limits), task.copier
    likely = copier is not None and limits.request.drafts and copier.draft()
    return max(size, min(copier.left, limits.tokens)) if copier and likely else size


def _surest(model: Passes, task: Task, limits: Limits) -> int:
    canvases = [Canvas.masked(task.mask, size) for size in sorted({min(size, limits.tokens) for size in SIZES})]
    if len(canvases) == 1 or limits.late():
        return len(canvases[0].tokens)
    questions = [_question(task, canvas) for canvas in canvases]
    scores = [_sureness(guess) for guess in limits.guess(model, questions)]
    score = max(scores)
    size = len(questions[scores.index(score)].canvas)
    most = SIZES[-1] if limits.request.max_lines == 1 else limits.tokens
    while SIZES[-1] <= size < most and not limits.late():
        longer = min(2 * size, most)
        [guess] = limits.guess(model, [_question(task, Canvas.masked(task.mask, longer))])
        if _sureness(guess) <= score:
            break
        size, score = longer, _sureness(guess)
    return size


def _question(task: Task, canvas: Canvas) -> Question:
    forced = task.forced(canvas)  # may make the canvas longer
    return Question(task.gap.before, canvas.tokens, task.gap.after, task.banned(canvas), forced)


def _sureness(guess: Guess) -> float:
    return sum(math.log(max(p, 1e-9)) for p in guess.probabilities) / len(guess.probabilities)
