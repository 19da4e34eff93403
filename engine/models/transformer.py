"""One transformer for the public checkpoints. A family differs in options, not in code.

* What a row may see is a mask made from positions (`visible`): everything, its own block and those before it, or a
  causal context with a canvas that sees all of it. One token a block is the causal mask.
* Keys and values live in one buffer, a place for each position. A pass writes those of its rows and reads all that
  are there, so no cache, a prefix cache and a dual cache (prefix and suffix) differ only in which rows are passed.
* Projections that read the same input are one matrix: fewer and larger products.
"""

from __future__ import annotations

import math

import msgspec
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Yarn(msgspec.Struct, frozen=True):
    """Rotary positions stretched beyond the trained length (YaRN, arXiv 2309.00071)."""

    factor: float
    original: int  # tokens of context before stretching
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    vocab: int
    dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    context: int  # most positions
    layer_norm: bool = False  # RMSNorm otherwise
    norm_bias: bool = False
    eps: float = 1e-6
    qk_norm: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    gated: bool = True  # SiLU-gated MLP; a plain one with tanh-approximated GELU otherwise
    tied: bool = False
    learned_positions: bool = False  # rotary otherwise
    rope_base: float = 10000.0
    rope_dim: int | None = None  # the first dimensions of a head that are rotated; None: all
    rope_stretch: float = 1.0  # positions are divided by it ("linear" scaling)
    yarn: Yarn | None = None
    block: int = 0  # tokens of a block of the block-causal mask; 0: every row sees everything


def visible(rows: Tensor, keys: Tensor, block: int, canvas: int | None = None) -> Tensor:
    """Which keys each row sees, from positions (rows,) and (keys,): bool (rows, keys).

    Rows at or after the position `canvas` see all keys whatever the block.
    """
    seen = keys // block <= (rows // block)[:, None]
    return seen if canvas is None else seen | (rows >= canvas)[:, None]


def rotary_frequencies(shape: Shape) -> tuple[Tensor, float]:
    """Angles a position (rope_dim / 2,), and what cosines and sines are multiplied with."""
    dim = shape.rope_dim or shape.head_dim
    frequency = shape.rope_base ** -(torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    yarn = shape.yarn
    if yarn is None:
        return frequency / shape.rope_stretch, 1.0

    def turns_at(turns: float) -> float:  # the dimension that makes so many turns over the original context
        return dim * math.log(yarn.original / (turns * 2 * math.pi)) / (2 * math.log(shape.rope_base))

    low, high = max(math.floor(turns_at(yarn.beta_fast)), 0), min(math.ceil(turns_at(yarn.beta_slow)), dim - 1)
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / max(high - low, 0.001)).clamp(0, 1)
    scale = 0.1 * math.log(yarn.factor) + 1 if yarn.attention_factor is None else yarn.attention_factor
    return frequency * (1 - ramp) + frequency / yarn.factor * ramp, scale


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (batch, heads, rows, d) with its first 2 · cos.shape[-1] dimensions turned; cos and sin (rows, dims / 2)."""
    half = cos.shape[-1]
    a, b, rest = x.split((half, half, x.shape[-1] - 2 * half), dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=-1)


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


class LayerNorm(nn.Module):
    def __init__(self, dim: int, eps: float, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.bias = nn.Parameter(torch.empty(dim)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


def norm(shape: Shape) -> nn.Module:
    return LayerNorm(shape.dim, shape.eps, shape.norm_bias) if shape.layer_norm else RMSNorm(shape.dim, shape.eps)


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.widths = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.kv_heads * shape.head_dim)
        self.attn_norm = norm(shape)
        self.qkv = nn.Linear(shape.dim, sum(self.widths), bias=shape.qkv_bias)
        self.out = nn.Linear(self.widths[0], shape.dim, bias=shape.out_bias)
        if shape.qk_norm:
            self.q_norm, self.k_norm = RMSNorm(shape.head_dim, shape.eps), RMSNorm(shape.head_dim, shape.eps)
        self.mlp_norm = norm(shape)
        self.up = nn.Linear(shape.dim, shape.mlp * (1 + shape.gated), bias=shape.mlp_bias)
        self.down = nn.Linear(shape.mlp, shape.dim, bias=shape.mlp_bias)

    def forward(
        self,
        x: Tensor,
        turns: tuple[Tensor, Tensor] | None,
        memory: Tensor,
        start: int,
        total: int,
        mask: Tensor | None,
    ) -> Tensor:
        """x (batch, rows, dim) at positions from `start`; memory (2, batch, kv_heads, capacity, head_dim), of which
        `total` places count.
        """
        x = x + self._attend(self.attn_norm(x), turns, memory, start, total, mask)
        up = self.up(self.mlp_norm(x))
        if self.shape.gated:
            gate, up = up.chunk(2, dim=-1)
            up = F.silu(gate) * up
        else:
            up = F.gelu(up, approximate="tanh")
        return torch.add(x, self.down(up))

    def _attend(
        self,
        x: Tensor,
        turns: tuple[Tensor, Tensor] | None,
        memory: Tensor,
        start: int,
        total: int,
        mask: Tensor | None,
    ) -> Tensor:
        batch, rows, _ = x.shape
        q, k, v = (
            part.view(batch, rows, -1, self.shape.head_dim).transpose(1, 2)
            for part in self.qkv(x).split(self.widths, dim=-1)
        )
        if self.shape.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if turns is not None:
            q, k = rotate(q, *turns), rotate(k, *turns)
        memory[0, :, :, start : start + rows] = k
        memory[1, :, :, start : start + rows] = v
        keys, values = memory[0, :, :, :total], memory[1, :, :, :total]
        attended = F.scaled_dot_product_attention(
            q, keys, values, attn_mask=mask, enable_gqa=self.shape.kv_heads < self.shape.heads
        )
        out: Tensor = self.out(attended.transpose(1, 2).reshape(batch, rows, -1))
        return out


class Transformer(nn.Module):
    """Weights are unset until a checkpoint's are copied in."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.dim)
        if shape.learned_positions:
            self.positions = nn.Embedding(shape.context, shape.dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = norm(shape)
        self.head = nn.Linear(shape.dim, shape.vocab, bias=shape.head_bias)
        if shape.tied:
            self.head.weight = self.embed.weight
        self._frequency: Tensor | None = None  # made at the first pass: weights come late, from a checkpoint
        self._scale = 1.0

    def memory(self, capacity: int, batch: int = 1) -> Tensor:
        """Room for the keys and values of `capacity` positions: (layers, 2, batch, kv_heads, capacity, head_dim)."""
        shape = self.shape
        return self.embed.weight.new_zeros(shape.layers, 2, batch, shape.kv_heads, capacity, shape.head_dim)

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor,
        start: int = 0,
        total: int | None = None,
        canvas: int | None = None,
        wanted: slice = slice(None),
    ) -> Tensor:
        """Logits (batch, rows, vocab) of tokens (batch, rows) at positions from `start`, over `total` positions.

        `total` of None ends at the last row. The rows' keys and values are written to memory. Only the `wanted` rows
        go through the head, which for a large vocabulary costs as much as several blocks.
        """
        end = start + tokens.shape[1]
        total = end if total is None else total
        positions = torch.arange(start, end, device=tokens.device)
        size = self.shape.block
        mask = None
        if size and start // size < (total - 1) // size:  # otherwise all rows see all keys
            mask = visible(positions, torch.arange(total, device=tokens.device), size, canvas)
        x = self.embed(tokens)
        turns = None
        if self.shape.learned_positions:
            x = x + self.positions(positions)
        else:
            turns = self._turns(positions, x.dtype)
        for block, place in zip(self.blocks, memory, strict=True):
            x = block(x, turns, place, start, total, mask)
        logits: Tensor = self.head(self.norm(x[:, wanted]))
        return logits

    def _turns(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (rows, rope_dim / 2)."""
        if self._frequency is None:
            frequency, self._scale = rotary_frequencies(self.shape)
            self._frequency = frequency.to(positions.device)
        angle, scale = positions[:, None] * self._frequency, self._scale
        return (angle.cos() * scale).to(dtype), (angle.sin() * scale).to(dtype)
