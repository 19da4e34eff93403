"""Muon for matrices, AdamW for the rest (Jordan et al. 2024, kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


def orthogonalise(matrices: Tensor, dtype: torch.dtype, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices of (n, rows, columns), by quintic Newton-Schulz iteration."""
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return torch.Tensor.to(x.mT if tall else x, matrices.dtype)


class Muon(Optimizer):
    """Stacks matrices of one shape, so that small ones are multiplied together; a fused q, k, v projection counts as
    three."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float, dtype: torch.dtype) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum})
        self.dtype = dtype  # bfloat16 only where the processor multiplies it natively

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(momentum, group["momentum"])
                parts = 3 if weight.shape[0] == 3 * weight.shape[1] else 1
                for part, piece in zip(weight.chunk(parts), update.chunk(parts), strict=True):
                    by_shape.setdefault(tuple(piece.shape), []).append((part, piece))
            for (rows, columns), pairs in by_shape.items():
                updates = orthogonalise(torch.stack([update for _, update in pairs]), self.dtype)
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (part, _), update in zip(pairs, updates, strict=True):
                    part.sub_(update, alpha=scale)
