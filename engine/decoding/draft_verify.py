"""Draft, verify, commit: a pass reads a draft, and the model keeps the longest beginning that it would have written
itself and adds one token of its own.

Where text is copied, the copy is the draft. Else a drafter, where the model has one, denoises a canvas of masks behind
the newest token in one cheap step (see `models.drafter`). The text is the greedy left-to-right text, whatever was
drafted (speculative decoding). What the model would write is the likeliest of the mixture of model and copier, see
`copying`, or is drawn from it, see `sampling`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.decoding.limits import DecodedTokens, Limits
from engine.decoding.runner import ForwardInput, Gap, ModelRunner, Predictions
from engine.retrieval.copying import Copier, Copy, mixed

Allowed: TypeAlias = list[int] | NDArray[np.int64]  # tokens
Denoiser: TypeAlias = Callable[[list[int]], DecodedTokens]  # of what follows a text
Choice: TypeAlias = Callable[
    [Predictions, int, Copy | None], tuple[int, float]
]  # of a row: the token, and its probability


def decode(
    model: ModelRunner[Predictions],
    gap: Gap,
    mask: int,
    limits: Limits,
    copier: Copier,
    allowed_after: Callable[[list[int]], Allowed | None] = lambda written: None,
    choose: Choice = mixed,
    suppressed: Sequence[int] = (),
    denoised: Denoiser = lambda text: DecodedTokens(),
) -> DecodedTokens:
    """Fill a gap. `allowed_after` gives the tokens of which the one after those that are written must be, if there are
    such; none is `suppressed`. `choose` chooses each token, given the copy. `mask` stands for a token that is not
    known. Denoised tokens surer than the request's `trust` are taken unread. Raises Cancelled between passes.
    """
    request, written, going = limits.request, DecodedTokens(), True
    while going and not limits.late():
        draft = copier.draft() if request.drafts else []
        if request.drafts and written.tokens and not draft:
            canvas = denoised([*gap.before, *written.tokens])
            if canvas.tokens:
                limits.show(written, canvas.tokens)
            if sure := _surer(canvas, request.trust):
                copier.advance(sure.tokens)
                going = limits.commit(written, sure)
                continue
            draft = list(itertools.takewhile(lambda token: token not in limits.spelling.ends, canvas.tokens))
        allowed = allowed_after(written.tokens)
        if allowed is not None and draft and allowed_after([*written.tokens, draft[0]]) is not None:
            draft = []  # its second token would be one of some too
        text = [*gap.before, *written.tokens]
        if len(text) + len(draft) > model.capacity:
            break
        after = copier.ahead[len(draft) : len(draft) + 1] or [mask]
        row = None if allowed is None else (0, allowed)
        model_input = ForwardInput(text, [*draft, *after], suppressed=list(suppressed), allowed=row, read=len(draft))
        [predictions] = limits.predict(model, [model_input])
        chosen = _chosen(draft, predictions, copier, choose, allowed)
        going = limits.commit(written, chosen)
        if going and request.trust < 1:
            going = limits.commit(written, copier.decided())
        limits.show(written)
    return written


def _surer(canvas: DecodedTokens, trust: float) -> DecodedTokens | None:
    """The beginning of a canvas of which each token is surer than `trust`, if it has any."""
    sure = list(itertools.takewhile(lambda p: p > trust, canvas.probabilities))
    return DecodedTokens(canvas.tokens[: len(sure)], sure) if sure else None


def _chosen(
    draft: list[int], predictions: Predictions, copier: Copier, choose: Choice, allowed: Allowed | None = None
) -> DecodedTokens:
    """The beginning of the draft that is agreed with and one token more, each as model and copier have it chosen; the
    first is one of those allowed.
    """
    chosen = DecodedTokens()
    while chosen.tokens == draft[: len(chosen.tokens)] and len(chosen.tokens) <= len(draft):
        copy = copier.next
        if copy is not None and allowed is not None and not chosen.tokens and copy.token not in allowed:
            copy = None
        token, probability = choose(predictions, len(chosen.tokens), copy)
        chosen.tokens.append(token)
        chosen.probabilities.append(probability)
        copier.advance([token])
    return chosen
