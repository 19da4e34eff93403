"""Teaches a frozen trunk by low-rank changes of its matrices (LoRA, Hu et al. 2021, arXiv 2106.09685, section 4).

A product W·x becomes W·x + B·(A·x), where B begins as nought. Only A, B and the embedding's rows of our special tokens
have gradients, so that the state of a run and what it learned are small files, and a matrix costs two products in the
backward pass where training it whole costs three. W is held in the dtype of the products, which saves converting it in
every forward pass.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.models.trunk import Linear, Trunk
from engine.tokenizer import SPECIALS


class LowRank(nn.Module):
    def __init__(self, layer: Linear, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(rank, layer.in_features) * layer.in_features**-0.5)
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))


class SpecialRows(nn.Module):
    """An embedding, which is the head too, of which only our special tokens' rows are trained."""

    def __init__(self, whole: Tensor) -> None:
        super().__init__()
        self.special = nn.Parameter(whole[: len(SPECIALS)].detach().clone())
        self.rest = nn.Buffer(whole[len(SPECIALS) :].detach(), persistent=False)

    @property
    def weight(self) -> Tensor:
        return torch.cat((self.special.to(self.rest.dtype), self.rest))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.weight)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (rows, dim) -> (rows, vocab); apart, so that rows without a gradient have none made."""
        return torch.cat((hidden @ self.special.to(hidden.dtype).T, hidden @ self.rest.to(hidden.dtype).T), dim=-1)


class Adapter(nn.Module):
    """What is trained of a trunk, which is changed in its place and otherwise frozen."""

    def __init__(self, trunk: Trunk, rank: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        trunk.requires_grad_(False)
        self.rows = SpecialRows(trunk.embed.weight.to(dtype))
        trunk.embed = trunk.head = self.rows  # type: ignore[assignment]
        self.changes = nn.ModuleDict()
        for name, layer in list(trunk.blocks.named_modules()):
            if isinstance(layer, Linear):
                self.changes[name.replace(".", "/")] = change = LowRank(layer, rank)
                layer.weight.data = layer.weight.data.to(dtype)
                layer.update = change

    def arrays(self) -> dict[str, Tensor]:
        """As `engine.get.Change` reads them."""
        parts = {"special": self.rows.special}
        for name, change in self.changes.items():
            matrix = f"blocks.{name.replace('/', '.')}.weight"
            parts |= {f"{matrix}.a": change.a, f"{matrix}.b": change.b}  # type: ignore[dict-item]
        return {name: part.detach() for name, part in parts.items()}

    def save(self, path: Path) -> None:
        """In half the bits, which the products round to anyway."""
        save_file({name: part.half().contiguous() for name, part in self.arrays().items()}, path)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        saved = load_file(path)
        with torch.no_grad():
            for name, part in self.arrays().items():
                part.copy_(saved[name])
