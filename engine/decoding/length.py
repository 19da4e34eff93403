"""How long a canvas is.

Models that must be told get some lengths in one pass, and the one that they are surest of. Where that is the longest
and the request allows for more, twice as long is tried, as long as they are surer still. The score is the mean
log-probability of the predicted of an all-masked canvas, as in training-free calibration for infilling: a canvas too
short or too long makes the model less sure of its rows on average.

DreamOn's rows may expand into two masks, or be deleted (arXiv 2602.01326). A deletion holds for every open row after
it: what follows the first row that the model leaves empty is empty (broadcast). Without it a canvas of 64 takes 64
passes to become a line, with it about 10.
"""

from __future__ import annotations

import math

from engine.decoding.canvas import Canvas
from engine.decoding.denoise import Task
from engine.decoding.limits import Limits
from engine.decoding.runner import CanvasPredictions, CanvasRunner, ForwardInput

SIZES = (4, 12, 28, 64)


def probe(model: CanvasRunner, task: Task, limits: Limits) -> int:
    """One of SIZES, one of them doubled, or as long as a copy that is likely; at most the limit of tokens."""
    size, copier = _surest(model, task, limits), task.copier
    likely = copier is not None and limits.request.drafts and copier.draft()
    return max(size, min(copier.left, limits.tokens)) if copier and likely else size


def _surest(model: CanvasRunner, task: Task, limits: Limits) -> int:
    canvases = [Canvas.masked(task.mask, size) for size in sorted({min(size, limits.tokens) for size in SIZES})]
    if len(canvases) == 1 or limits.late():
        return len(canvases[0].tokens)
    inputs = [_input(task, canvas) for canvas in canvases]
    scores = [_sureness(predictions) for predictions in limits.predict(model, inputs)]
    score = max(scores)
    size = len(inputs[scores.index(score)].canvas)
    most = SIZES[-1] if limits.request.max_lines == 1 else limits.tokens
    while SIZES[-1] <= size < most and not limits.late():
        longer = min(2 * size, most)
        [predictions] = limits.predict(model, [_input(task, Canvas.masked(task.mask, longer))])
        if _sureness(predictions) <= score:
            break
        size, score = longer, _sureness(predictions)
    return size


def _input(task: Task, canvas: Canvas) -> ForwardInput:
    allowed = task.allowed(canvas)  # may make the canvas longer
    return ForwardInput(task.gap.before, canvas.tokens, task.gap.after, task.suppressed(canvas), allowed)


def _sureness(predictions: CanvasPredictions) -> float:
    return sum(math.log(max(p, 1e-9)) for p in predictions.probabilities) / len(predictions.probabilities)


def resize(canvas: Canvas, expand: int, deletes: frozenset[int], most: int, broadcast: bool = True) -> None:
    """Carry out the expansions and deletions just unmasked; the canvas grows to at most `most` rows. Without
    `broadcast` (DreamOn's delete_eos_token), a deletion holds for its row alone.

    It expands at most as often, so that no model can expand and delete for ever.
    """
    rows: list[tuple[int, float]] = []
    deleted = False
    length = len(canvas.tokens)
    for token, probability in zip(canvas.tokens, canvas.probabilities, strict=True):
        if token in deletes or (deleted and token == canvas.mask):
            canvas.end = min(canvas.end, probability)
            deleted = broadcast
            length -= 1
        elif token == expand and can_expand(canvas, length, most):
            rows += [(canvas.mask, 1.0)] * 2
            canvas.expansions += 1
            length += 1
        else:
            rows.append((canvas.mask, 1.0) if token == expand else (token, probability))
    canvas.tokens, canvas.probabilities = [token for token, _ in rows], [probability for _, probability in rows]


def can_expand(canvas: Canvas, length: int, most: int) -> bool:
    return length < most and canvas.expansions < most
