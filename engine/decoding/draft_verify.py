"""Draft, verify, commit: a pass reads the last draft causally and may denoise the next one on a canvas after it.

The causal role keeps the longest beginning of the draft that it would have written itself and adds one token of its
own, so the text is the greedy left-to-right text, whatever the drafts were (speculative decoding; drafting on a canvas
within the verifying pass is TiDAR's, arXiv 2511.08923, section 3). What it would write is the likeliest of the mixture
of model and copier, see `copying`, or is drawn from it, see `drawing`. A pass is

    committed token, draft …     causal           ──▶  agreed tokens and one more
    <mask> <mask> <mask> …       bidirectional    ──▶  the next draft, if all of the last one was agreed with

Where rows are dear (a processor pays for nine what it pays for two passes of one), a canvas costs more passes than it
saves, and drafts are copied only. Where they are free (a GPU), and where the request trusts denoised tokens without
having them read (a fill is then one or two passes), every pass without a copied draft has a canvas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.decoding.limits import Limits, Written
from engine.decoding.passes import Gap, Guess, Passes, Question
from engine.retrieval.copying import Copier, Copy, mixed

LIKELY = 0.2  # a draft goes on while the product of its probabilities is above this

Allowed: TypeAlias = list[int] | NDArray[np.int64]  # tokens
Choice: TypeAlias = Callable[[Guess, int, Copy | None], tuple[int, float]]  # of a row: the token, and its probability


def decode(
    model: Passes,
    gap: Gap,
    mask: int,
    size: int,
    limits: Limits,
    copier: Copier,
    forced: Callable[[list[int]], Allowed | None] = lambda written: None,
    choose: Choice = mixed,
    banned: Sequence[int] = (),
) -> Written:
    """Fill a gap with canvases, where they pay, of `size` rows of `mask`. `forced` gives the tokens of which the one
    after those that are written must be, if there are such; none is one of `banned`. `choose` chooses each token, given
    the copy. Raises Cancelled between passes.
    """
    request, written, canvas, going = limits.request, Written(), Written(), True
    on_canvas = request.drafts and (model.rows_are_free or request.trust < 1)
    while going and not limits.late():
        copied = copier.draft() if request.drafts else []
        draft = copied or _likely(canvas, limits.spelling.ends)
        allowed = forced(written.tokens)
        if allowed is not None and draft and forced([*written.tokens, draft[0]]) is not None:
            draft = []  # its second token would be forced too
        masks = [mask] * size if on_canvas and not copied else []
        text = [*gap.before, *written.tokens]
        if len(text) + len(draft) + len(masks) > model.capacity:
            break
        after = masks or copier.ahead[len(draft) : len(draft) + 1] or [mask]
        held = None if allowed is None else (0, allowed)
        question = Question(text, [*draft, *after], banned=list(banned), forced=held, read=len(draft))
        [guess] = limits.guess(model, [question])
        chosen = _chosen(draft, guess, copier, choose, allowed)
        going, canvas = limits.commit(written, chosen), Written()
        sure = copier.decided() if going and request.trust < 1 else Written()
        if going and masks and not sure.tokens and len(chosen.tokens) > len(draft):
            # after a draft that was wrong, the canvas was denoised for another text
            rest = slice(len(draft) + 1, None)
            own = Written([*chosen.tokens[-1:], *guess.tokens[rest]], [1.0, *guess.probabilities[rest]])
            limits.show(written, own.tokens[1:])
            canvas = _refined(model, gap, written, mask, own, limits)
            sure = _trusted(canvas, request.trust)
            rest = slice(1 + len(sure.tokens), None)
            canvas = Written(canvas.tokens[rest], canvas.probabilities[rest])
            copier.advance(sure.tokens)
        going = going and limits.commit(written, sure)
        limits.show(written, canvas.tokens)
    return written


def _chosen(draft: list[int], guess: Guess, copier: Copier, choose: Choice, allowed: Allowed | None = None) -> Written:
    """The beginning of the draft that is agreed with and one token more, each as model and copier have it chosen; the
    first is one of those allowed.
    """
    chosen = Written()
    while chosen.tokens == draft[: len(chosen.tokens)] and len(chosen.tokens) <= len(draft):
        copy = copier.next
        if copy is not None and allowed is not None and not chosen.tokens and copy.token not in allowed:
            copy = None
        token, probability = choose(guess, len(chosen.tokens), copy)
        chosen.tokens.append(token)
        chosen.probabilities.append(probability)
        copier.advance([token])
    return chosen


def _refined(model: Passes, gap: Gap, written: Written, mask: int, canvas: Written, limits: Limits) -> Written:
    """A canvas, whose first token is the last that is written, after more denoising steps: the surest tokens stay, the
    others are denoised again around them (MaskGIT, arXiv 2202.04200).
    """
    before = [*gap.before, *written.tokens[:-1]]
    tokens, sure = canvas.tokens, canvas.probabilities
    size, steps = len(tokens), limits.request.steps
    for step in range(1, steps):
        shown = sorted(range(size), key=lambda row: -sure[row])[: math.ceil(size * step / steps)]
        masked = [tokens[row] if row in shown else mask for row in range(size)]
        limits.show(written, [tokens[row] if row in shown else None for row in range(1, size)])
        [guess] = limits.guess(model, [Question(before, masked)])
        tokens = [tokens[row] if row in shown else guess.tokens[row] for row in range(size)]
        sure = [sure[row] if row in shown else guess.probabilities[row] for row in range(size)]
    return Written(tokens, sure)


def _trusted(canvas: Written, trust: float) -> Written:
    """What follows a canvas's first token, as far as each is surer than `trust`."""
    count = next((i for i, p in enumerate(canvas.probabilities) if i and p <= trust), len(canvas.tokens))
    return Written(canvas.tokens[1:count], canvas.probabilities[1:count])


def _likely(canvas: Written, ends: frozenset[int]) -> list[int]:
    """The beginning of a canvas that is likely to be agreed with; never the end."""
    together, count = 1.0, 0
    for token, probability in zip(canvas.tokens, canvas.probabilities, strict=True):
        together *= probability
        if together < LIKELY or token in ends:
            break
        count += 1
    return canvas.tokens[:count]
