"""Tokens drawn from model and copy together, at a temperature above 0.

Drafts are certain tokens, so speculative sampling (Leviathan et al. 2023, arXiv 2211.17192, section 2.3) comes to this:
each token is drawn as if there was no draft, and a draft goes on while it is what was drawn. One number is drawn for
each token that stays, so equal seeds make equal texts, whatever the drafts were.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.contract import Sampling
from engine.decoding.runner import Predictions
from engine.retrieval.copy_weights import share
from engine.retrieval.copying import Copy


class TokenSampler:
    """A `draft_verify.Choice`. No token is one of `never`, the first that is drawn one of `first`, where given."""

    def __init__(self, sampling: Sampling, never: Sequence[int] = (), first: NDArray[np.int64] | None = None) -> None:
        self._temperature, self._top_p = sampling.temperature or 1.0, sampling.top_p or 1.0
        self._random = np.random.default_rng(sampling.seed or 0)
        self._never, self._first = list(never), first

    def __call__(self, predictions: Predictions, row: int, copy: Copy | None) -> tuple[int, float]:
        """The token, and its probability at temperature 1."""
        chances = _mixture(predictions.chances(row), copy)
        shaped = chances ** (1 / self._temperature)
        shaped[self._never] = 0
        if self._first is not None:
            others = np.ones(len(shaped), bool)
            others[self._first] = False
            shaped[others], self._first = 0, None
        order = np.argsort(-shaped)
        ranked = np.cumsum(shaped[order])
        count = 1 + np.searchsorted(ranked, self._top_p * ranked[-1])  # up to the token that completes top_p
        drawn = self._random.random() * ranked[:count][-1]
        token = int(order[min(np.searchsorted(ranked[:count], drawn, side="right"), count - 1)])
        return token, float(chances[token])


def _mixture(chances: NDArray[np.float64], copy: Copy | None) -> NDArray[np.float64]:
    """See `copying.mixed`."""
    if copy is None:
        return chances
    copied = chances[copy.token]
    copy_share = share(copy.evidence, float(copied), float(chances.max()), copy.weights)
    mixed: NDArray[np.float64] = chances * ((1 - copy_share) / max(1 - copied, 1e-9))
    mixed[copy.token] = copy_share
    return mixed
