"""The loss of drafted canvases: cross-entropy on what the trunk would write, a row weighing what it is worth (D-PACE).

A draft counts up to its first wrong token. So the weight of row j is the sum, over the rows m from j on, of the chance
that everything up to m is right, each chance smoothed by a half: w_j = Σ_{m≥j} Π_{i≤m} (1 + q_i) / 2, where q_i is the
probability of the label. (SpecForge and speculators have it so; their comparison is in the latter's pull request 736.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SMOOTHING = 0.5


def loss(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """The mean over A canvases of B rows, of which N are valid (A, B): logits (N, vocab) and labels (N,) are theirs."""
    negative = F.cross_entropy(logits.float(), labels, reduction="none")
    every = torch.zeros(valid.shape).masked_scatter(valid, negative.detach())
    return (weights(every, valid)[valid] * negative).sum() / len(valid)


def weights(negative: Tensor, valid: Tensor) -> Tensor:
    """Of each row (A, B), from the negative logarithm of its label's probability."""
    chances = torch.where(valid, (1 - SMOOTHING) * torch.exp(-negative) + SMOOTHING, 1.0)
    together = torch.where(valid, chances.cumprod(1), 0.0)
    return torch.where(valid, together.flip(1).cumsum(1).flip(1), 0.0)


def leading(right: Tensor, valid: Tensor) -> Tensor:
    """How many rows of each canvas (A,) are right before the first that is not, or that nothing is known of."""
    return (right & valid).long().cumprod(1).sum(1)
