"""Weights as whole numbers of eight bits with a scale a row: half the memory of bfloat16, for cards that hold no more.

Rows are scaled by their largest weight, so that none is off by more than half a step of its row: 1/254 of the largest.
Activations keep their type, and products are scaled afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Int8Linear(nn.Module):
    """Its weights are unset until `quantise`d ones are copied in."""

    def __init__(self, wide: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty_like(wide.weight, dtype=torch.int8), requires_grad=False)
        self.scale = nn.Buffer(torch.empty_like(wide.weight[:, 0], dtype=torch.float32))
        self.bias = wide.bias

    def forward(self, x: Tensor) -> Tensor:
        out = (F.linear(x, self.weight.to(x.dtype)) * self.scale).to(x.dtype)
        return out if self.bias is None else out + self.bias


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in) to int8 and the scale of each row (out,)."""
    weight = weight.float()
    scale = weight.abs().amax(1).clamp_min(1e-9) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def shrink(module: nn.Module) -> None:
    """Replace the products of a module with int8 ones, unset."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            shrink(child)
