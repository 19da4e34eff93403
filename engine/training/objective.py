"""The loss of a training row: next-token cross-entropy on the context and in branches.

One sum, each target with the weight of its kind. The head's logits are made in chunks, so that they stay in the cache
and never exist at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.trunk import Trunk
from engine.training.dataset import NONE
from engine.training.lora import SpecialRows

KINDS = ("context", "middle")
CHUNK = 512  # rows of logits at a time


class Objective(nn.Module):
    weights: Tensor

    def __init__(self, model: Trunk, weights: tuple[float, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.register_buffer("weights", torch.tensor(weights))

    def forward(
        self, tokens: Tensor, positions: Tensor, targets: Tensor, kinds: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A batch (see dataset.Batch) -> (weighted sum of losses, sums of losses and counts (2, 2) by kind)."""
        hidden = self.model(tokens, positions, mask, self.dtype)
        hidden, targets, kinds = hidden.flatten(0, 1), targets.flatten(), kinds.flatten()
        return self._counted(hidden, targets, kinds)

    def compile_parts(self) -> None:
        """The blocks, which share their code, and what follows them."""
        for block in self.model.blocks:
            block.compile(dynamic=False)
        self._counted = torch.compile(self._counted, dynamic=False)  # type: ignore[method-assign]

    def _counted(self, hidden: Tensor, targets: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        losses = torch.cat(
            [
                F.cross_entropy(self._logits(rows).float(), target, reduction="none", ignore_index=NONE)
                for rows, target in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
            ]
        )
        counted = (targets != NONE).float()
        total = (losses * self.weights[kinds]).sum()
        sums = [[((kinds == kind) * part).sum() for kind in range(len(KINDS))] for part in (losses.detach(), counted)]
        return total, torch.stack([torch.stack(part) for part in sums])

    def _logits(self, rows: Tensor) -> Tensor:
        head = self.model.head
        return head.logits(rows) if isinstance(head, SpecialRows) else rows @ head.weight.to(self.dtype).T
