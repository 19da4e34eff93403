"""One transformer for the public checkpoints. A family differs in options, not in code.

* What a row may see is a mask made from positions (`visible`): everything, or its own block and those before it. One
  token a block is the causal mask.
* Keys and values live in one buffer, a place for each position. A pass writes those of its rows and reads all that
  are there, so no cache, a prefix cache and a dual cache (prefix and suffix) differ only in which rows are passed.
* Where rows stand and how much counts are tensors, not numbers: a pass has the same shapes, and so the same kernels,
  whatever the text, and can be compiled and captured once (gpt-fast's way).
* Projections that read the same input are one matrix, and heads that share keys are rows of one product: fewer and
  larger products.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.trunk import rotate

MOST = 1024  # layers, heads, numbers of a head: more than any model has, and few enough to be gone through
LEAST_CONTEXT = 128  # positions: a canvas, and about as much around it
LARGEST = 2**24  # what is as large makes a matrix whose size can still be told

Count = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
Size = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    vocab: Size
    dim: Size
    layers: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    mlp: Size
    context: Annotated[int, msgspec.Meta(ge=LEAST_CONTEXT, le=LARGEST)]  # most positions
    layer_norm: bool = False  # RMSNorm otherwise
    norm_bias: bool = False
    eps: Positive = 1e-6
    qk_norm: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    gated: bool = True  # SiLU-gated MLP; a plain one with tanh-approximated GELU otherwise
    tied: bool = False
    learned_positions: bool = False  # rotary otherwise
    rope_base: Positive = 10000.0
    rope_stretch: Positive = 1.0  # positions are divided by it ("linear" scaling)
    block: int = 0  # tokens of a block of the block-causal mask; 0: every row sees everything
    ranks: Size = 1  # devices, each of which has a part of the heads and of the MLP, see models.tensor_parallel

    def __post_init__(self) -> None:
        """Raises ValueError: weights are named layer by layer before sizes are validated."""
        if self.layers > MOST:
            raise ValueError(f"{self.layers} layers, and {MOST} are the most")


def visible(positions: Tensor, total: Tensor, capacity: int, block: int, pad: Tensor | None = None) -> Tensor:
    """Which of `capacity` keys each row sees, from its position (batch, rows): bool (batch, rows, capacity).

    Of each sequence the first `total` (batch, 1) keys count. Blocks lie as if `pad` (batch, 1) positions stood before
    the first.
    """
    keys = torch.arange(capacity, device=positions.device)
    counts = (keys < total)[:, None]
    if not block:
        return counts.expand(-1, positions.shape[1], -1)
    shift = torch.zeros_like(total) if pad is None else pad
    seen = ((keys + shift) // block)[:, None] <= ((positions + shift) // block)[..., None]
    return seen & counts


def norm(shape: Shape) -> nn.Module:
    if shape.layer_norm:
        return nn.LayerNorm(shape.dim, shape.eps, bias=shape.norm_bias)
    return nn.RMSNorm(shape.dim, shape.eps)


class Around(NamedTuple):
    """What the blocks of a pass share."""

    turns: tuple[Tensor, Tensor] | None  # cosines and sines, each (batch, 1, rows, head_dim / 2)
    places: tuple[Tensor, Tensor]  # sequence (batch, 1) and position (batch, rows) of each row's keys and values
    bias: Tensor  # added to scores, (batch, 1, heads a key · rows, capacity)


class TransformerBlock(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        fused = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.widths = [width // shape.ranks for width in fused]
        self.attn_norm = norm(shape)
        self.qkv = nn.Linear(shape.dim, sum(fused), bias=shape.qkv_bias)
        self.out = nn.Linear(fused[0], shape.dim, bias=shape.out_bias)
        if shape.qk_norm:
            self.q_norm, self.k_norm = (nn.RMSNorm(shape.head_dim, shape.eps) for _ in "qk")
        self.mlp_norm = norm(shape)
        self.up = nn.Linear(shape.dim, shape.mlp * (1 + shape.gated), bias=shape.mlp_bias)
        self.down = nn.Linear(shape.mlp, shape.dim, bias=shape.mlp_bias)

    def forward(self, x: Tensor, memory: Tensor, around: Around) -> Tensor:
        """x (batch, rows, dim); memory (2, batch, kv_heads / ranks, capacity, head_dim), to which the rows' keys and
        values are written.
        """
        x = x + self._attend(self.attn_norm(x), memory, around)
        up = self.up(self.mlp_norm(x))
        if self.shape.gated:
            gate, up = up.chunk(2, dim=-1)
            up = F.silu(gate) * up
        else:
            up = F.gelu(up, approximate="tanh")
        return torch.add(x, self.down(up))

    def _attend(self, x: Tensor, memory: Tensor, around: Around) -> Tensor:
        batch, rows, _ = x.shape
        q, k, v = (
            part.view(batch, rows, -1, self.shape.head_dim).transpose(1, 2)
            for part in self.qkv(x).split(self.widths, dim=-1)
        )
        if self.shape.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if around.turns is not None:
            q, k = rotate(q, *around.turns), rotate(k, *around.turns)
        keys, values = memory.unbind(0)
        of, at = around.places
        keys[of, :, at] = k.transpose(1, 2)
        values[of, :, at] = v.transpose(1, 2)
        shared = q.reshape(batch, self.shape.kv_heads // self.shape.ranks, -1, self.shape.head_dim)
        attended = F.scaled_dot_product_attention(shared, keys, values, attn_mask=around.bias)
        out: Tensor = self.out(attended.reshape(q.shape).transpose(1, 2).reshape(batch, rows, -1))
        return out


class Transformer(nn.Module):
    """Weights are unset until a checkpoint's are copied in."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.dim)
        if shape.learned_positions:
            self.positions = nn.Embedding(shape.context, shape.dim)
        self.blocks = nn.ModuleList(TransformerBlock(shape) for _ in range(shape.layers))
        self.norm = norm(shape)
        self.head = nn.Linear(shape.dim, shape.vocab, bias=shape.head_bias)
        if shape.tied:
            self.head.weight = self.embed.weight

    def memory(self, capacity: int, batch: int = 1) -> Tensor:
        """Room for the keys and values of `capacity` positions:
        (layers, 2, batch, kv_heads / ranks, capacity, head_dim).
        """
        shape, like = self.shape, self.embed.weight
        size = shape.layers, 2, batch, shape.kv_heads // shape.ranks, capacity, shape.head_dim
        return torch.zeros(size, dtype=like.dtype, device=like.device)

    def forward(self, tokens: Tensor, positions: Tensor, memory: Tensor, seen: Tensor, wanted: Tensor) -> Tensor:
        """Logits (batch, n, vocab) of the rows `wanted` (batch, n), the only ones that go through the head, which for
        a large vocabulary costs as much as several blocks.

        tokens and positions (batch, rows); seen (batch, rows, capacity) from `visible`. The rows' keys and values are
        written to memory.
        """
        x = self.embed(tokens)
        turns = None
        if self.shape.learned_positions:
            x = x + self.positions(positions.clamp(max=self.shape.context - 1))  # padding stands beyond the last
        else:
            turns = self._turns(positions, x.dtype)
        bias = torch.zeros(seen.shape, dtype=x.dtype, device=x.device).masked_fill(~seen, -torch.inf)[:, None]
        sequences = torch.arange(len(tokens), device=tokens.device)[:, None]
        shared = self.shape.heads // self.shape.kv_heads
        around = Around(turns, (sequences, positions), bias.repeat(1, 1, shared, 1))
        for block, place in zip(self.blocks, memory, strict=True):
            x = block(x, place, around)
        logits: Tensor = self.head(self.norm(x.gather(1, wanted[..., None].expand(-1, -1, x.shape[2]))))
        return logits

    def _turns(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions (batch, rows), each (batch, 1, rows, head_dim / 2)."""
        half = self.shape.head_dim // 2
        frequency = self.shape.rope_base ** (-torch.arange(half, dtype=torch.float32, device=positions.device) / half)
        angle = positions[:, None, :, None] * (frequency / self.shape.rope_stretch)
        return angle.cos().to(dtype), angle.sin().to(dtype)
