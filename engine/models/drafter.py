"""A block-diffusion drafter on a frozen trunk (DFlash, arXiv 2602.06036; the layout of DSpark, arXiv 2607.05147).

A canvas of masks is denoised in one step of two layers. Row 0 is the newest token, the *anchor*, which the trunk has
not read; the others are masks. Row k predicts the token that stands k + 1 places after the anchor. Rows see what the
trunk made of everything before the anchor (the residual streams that leave five of its layers, fused into one), and
the rows before them, so that a shorter canvas has the same rows. They are denoised together, so a Markov head puts
them in order: the logits of row k get a bias that the token before it decides.

Layers are the trunk's blocks with a narrower MLP; embedding and head are the trunk's. Context and rows share the
matrices of keys and values, and the context passes by the norm before them.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from engine.models.trunk import BLOCKED, Block, Linear, Norm, Trunk, TrunkConfig, attend, linear, rotary, rotate

TAPS = 5  # layers whose residual streams are fused


class DrafterConfig(msgspec.Struct, frozen=True, kw_only=True):
    rows: int = 6  # of a canvas, and so drafts
    layers: int = 2
    mlp: int = 1536
    rank: int = 64  # of the Markov head


def depths(layers: int) -> list[int]:
    """The layers of a trunk that features leave, spread from the second to the third from the end."""
    last = max(1, layers - 3)
    return [min(round(1 + i * (last - 1) / (TAPS - 1)), layers - 1) for i in range(TAPS)]


class Blocks(NamedTuple):
    """A canvases over one sequence of S positions, with N rows in all: those of which nothing is known are left out,
    and no row that is left sees them.

    features (S, 5 * dim); positions (S,); anchors (A,) tokens; starts (A,) positions of the anchors; visible (A, S)
    True where an anchor's rows may look, which is before the anchor; canvas and row (N,) number the canvas of each row,
    and its place in there; previous (N,) the tokens before those that rows predict, where the anchor is the first.
    """

    features: Tensor
    positions: Tensor
    anchors: Tensor
    starts: Tensor
    visible: Tensor
    canvas: Tensor
    row: Tensor
    previous: Tensor


class Drafter(nn.Module):
    def __init__(self, trunk: TrunkConfig, config: DrafterConfig) -> None:
        super().__init__()
        self.config, self.trunk = config, msgspec.structs.replace(trunk, layers=config.layers, mlp=config.mlp)
        self.fuse = Linear(TAPS * trunk.dim, trunk.dim, bias=False)
        self.fuse_norm = Norm(trunk)
        self.masks = nn.Parameter(torch.zeros(config.rows - 1, trunk.dim))
        self.blocks = nn.ModuleList(Block(self.trunk) for _ in range(config.layers))
        self.norm = Norm(trunk)
        self.before = nn.Embedding(trunk.vocab, config.rank)  # the Markov head: of the token before,
        self.after = Linear(config.rank, trunk.vocab, bias=False)  # and of the token that follows

    @torch.no_grad()
    def begin(self, trunk: Trunk) -> None:
        """Begin as the trunk's last layers but one, looking at the deepest feature alone."""
        last = depths(trunk.config.layers)[-1]
        for number, block in enumerate(self.blocks):
            theirs = trunk.blocks[min(last + 1 + number, trunk.config.layers - 1)]
            for name, weight in block.named_parameters():
                found = theirs.get_parameter(name)
                if weight.shape == found.shape:
                    weight.copy_(found)
                elif name == "up.weight":  # gates and values, of which the first are kept
                    halves = found.view(2, -1, found.shape[1])[:, : self.config.mlp]
                    weight.copy_(halves.reshape(weight.shape))
                else:
                    weight.copy_(found[:, : self.config.mlp])
        nn.init.normal_(self.fuse.weight, std=0.02 * self.trunk.dim**-0.5)
        self.fuse.weight[:, -self.trunk.dim :] += torch.eye(self.trunk.dim)
        self.fuse_norm.load_state_dict(self.blocks[0].norm.state_dict())  # type: ignore[union-attr]
        self.norm.load_state_dict(trunk.norm.state_dict())
        self.masks.copy_(trunk.embed.weight.mean(0) + 0.01 * torch.randn_like(self.masks))
        nn.init.normal_(self.before.weight, std=1.0)
        nn.init.zeros_(self.after.weight)

    def forward(self, blocks: Blocks, embedding: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Hidden states (N, dim), to which the head applies, and what the Markov head adds: (N, rank), to which `after`
        applies. embedding (A, dim) is the trunk's of the anchors.
        """
        context = self.fuse_norm(linear(blocks.features.to(dtype), self.fuse))[None]
        anchors, masks = embedding[blocks.canvas].to(dtype), self.masks[blocks.row - 1].to(dtype)
        x = torch.where(blocks.row[:, None] == 0, anchors, masks)[None]
        turns = [part.to(dtype) for part in rotary((blocks.starts[blocks.canvas] + blocks.row)[None], self.trunk)]
        context_turns = [part.to(dtype) for part in rotary(blocks.positions[None], self.trunk)]
        bias = self._bias(blocks, dtype)
        for block in self.blocks:
            q, k, v = block.project(x, *turns)  # type: ignore[operator]
            keys, values = self._context(block, context, context_turns)  # type: ignore[arg-type]
            attended = attend(q, torch.cat((keys, k), 2), torch.cat((values, v), 2), bias)
            x = block.finish(x, attended)  # type: ignore[operator]
        return self.norm(x)[0], self.before(blocks.previous)

    def _context(self, block: Block, context: Tensor, turns: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Keys and values (1, kv_heads, S, head_dim) of what stands before."""
        first = block.widths[0]
        bias = None if block.qkv.bias is None else block.qkv.bias[first:].to(context.dtype)
        both = nn.functional.linear(context, block.qkv.weight[first:].to(context.dtype), bias)
        k, v = (
            part.view(1, context.shape[1], -1, self.trunk.head_dim).transpose(1, 2)
            for part in both.split(block.widths[1:], dim=-1)
        )
        return rotate(k, turns[0], turns[1]), v

    def _bias(self, blocks: Blocks, dtype: torch.dtype) -> Tensor:
        """(N, S + N) added to scores: rows see their context, and of their own canvas what is not after them."""
        own = blocks.canvas[:, None] == blocks.canvas
        own &= blocks.row[:, None] >= blocks.row
        return torch.where(torch.cat((blocks.visible[blocks.canvas], own), 1), 0.0, BLOCKED).to(dtype)
