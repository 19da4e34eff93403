"""DreamOn's length: a row may expand into two masks, or be deleted (arXiv 2602.01326).

A deletion holds for every open row after it: what follows the first row that the model leaves empty is empty
(broadcast). Without it a canvas of 64 takes 64 passes to become a line, with it about 10.
"""

from __future__ import annotations

from engine.decoding.canvas import Canvas


def settle(canvas: Canvas, expand: int, deletes: frozenset[int], most: int, broadcast: bool = True) -> None:
    """Carry out the expansions and deletions just revealed; the canvas grows to at most `most` rows. Without
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
