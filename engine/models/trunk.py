"""The embedded models in torch: a decoder-only transformer, shaped as the Llamas that they grow from, whose head is the
embedding; base's queries, keys and values have biases.

A training row is a context of T tokens and a *tail* of Q tokens. The tail holds branches, each what stands at one
cursor (rest of line, middle), and sees the context only up to its own anchor, so one encoding of the context serves
many gaps. Context and tail attend apart, so that the context's rows are not multiplied with the tail's keys. Attention
is written out: on a CPU the backward pass of the fused kernel is slower than plain matrix products at these lengths,
and the compiler fuses the rest.
"""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

BLOCKED = -1e4  # added to a score that must not count; -inf would make a row of padding NaN
CHUNK = 256  # rows of a context that attend together: what is multiplied in vain is at most half a square of these


class TrunkConfig(msgspec.Struct, frozen=True, kw_only=True):
    vocab: int
    dim: int
    layers: int
    heads: int
    shared: int = 1  # query heads that share a key-value head
    head_dim: int
    mlp: int
    qkv_bias: bool = False
    rope_base: float = 10000.0
    eps: float = 1e-6

    @property
    def kv_heads(self) -> int:
        return self.heads // self.shared


class Norm(nn.Module):
    """RMSNorm, written out because the backward pass of the library's is slower here."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.weight = nn.Parameter(torch.ones(config.dim))

    def forward(self, x: Tensor) -> Tensor:
        size = x.float().square().mean(-1, keepdim=True)
        return x * torch.rsqrt(size + self.eps).to(x.dtype) * self.weight.to(x.dtype)


def rotary(positions: Tensor, config: TrunkConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines (batch, 1, length, head_dim / 2) for positions (batch, length)."""
    half = config.head_dim // 2
    frequency = config.rope_base ** (-torch.arange(half, dtype=torch.float32, device=positions.device) / half)
    angle = positions[:, None, :, None].float() * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Linear(nn.Linear):
    """`update`, where there is one, is a low-rank change of the product that is being trained (training.lora)."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(inputs, outputs, bias)
        self.update: nn.Module | None = None


def linear(x: Tensor, layer: Linear) -> Tensor:
    """Multiply in x's dtype: weights and their gradients stay float32 where the products are bfloat16."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    product = F.linear(x, layer.weight.to(x.dtype), bias)
    return product if layer.update is None else product + layer.update(x)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """q and the result (batch, heads, rows, d); k, v (batch, kv_heads, keys, d); bias (…, rows, keys) of the scores.

    The heads that share keys are multiplied as more rows of one head, so that keys are never copied.
    """
    batch, kv_heads, keys, dim = k.shape
    rows = q.shape[2]
    stacked = (q * dim**-0.5).reshape(batch, kv_heads, -1, dim)
    scores = (stacked @ k.transpose(2, 3)).view(batch, kv_heads, -1, rows, keys) + bias
    shares = scores.softmax(-1).view(batch, kv_heads, -1, keys)
    return torch.matmul(shares, v).view(q.shape)


class Block(nn.Module):
    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        self.widths = [config.heads * config.head_dim] + [config.kv_heads * config.head_dim] * 2
        self.norm = Norm(config)
        self.qkv = Linear(config.dim, sum(self.widths), bias=config.qkv_bias)
        self.out = Linear(self.widths[0], config.dim, bias=False)
        self.mlp_norm = Norm(config)
        self.up = Linear(config.dim, 2 * config.mlp, bias=False)
        self.down = Linear(config.mlp, config.dim, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (batch, heads, length, head_dim), keys and values (batch, kv_heads, length, head_dim)."""
        batch, length, _ = x.shape
        q, k, v = (
            part.view(batch, length, -1, self.config.head_dim).transpose(1, 2)
            for part in linear(self.norm(x), self.qkv).split(self.widths, dim=-1)
        )
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + linear(attended.transpose(1, 2).flatten(2), self.out)
        gate, up = linear(self.mlp_norm(x), self.up).chunk(2, dim=-1)
        return x + linear(F.silu(gate) * up, self.down)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, tail: Tensor) -> Tensor:
        """A training row: x (batch, T + Q, dim), tail (batch, 1, 1, Q, T + Q) added to the scores."""
        q, k, v = self.project(x, cos, sin)
        length = x.shape[1] - tail.shape[3]
        attended = []
        for start in range(0, length, CHUNK):
            end = min(start + CHUNK, length)
            ahead = torch.full((end - start, end), BLOCKED, dtype=x.dtype, device=x.device).triu(start + 1)
            attended.append(attend(q[:, :, start:end], k[:, :, :end], v[:, :, :end], ahead))
        return self.finish(x, torch.cat((*attended, attend(q[:, :, length:], k, v, tail)), dim=2))


class Trunk(nn.Module):
    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(config)
        self.head = nn.Linear(config.dim, config.vocab, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Hidden states (batch, T + Q, dim) of training rows; the loss applies the head.

        mask (batch, 1, Q, T + Q) is True where a row of the tail may look; dtype is that of the products.
        """
        normed: Tensor = self.norm(self.leaving(tokens, positions, mask, dtype)[-1])
        return normed

    def leaving(
        self, tokens: Tensor, positions: Tensor, mask: Tensor, dtype: torch.dtype = torch.float32
    ) -> list[Tensor]:
        """The residual stream that leaves each layer (batch, T + Q, dim) of training rows as in `forward`."""
        x = self.embed(tokens).to(dtype)
        cos, sin = (part.to(dtype) for part in rotary(positions, self.config))
        tail = torch.where(mask[:, None], 0.0, BLOCKED).to(dtype)
        streams = list[Tensor]()
        for block in self.blocks:
            x = block(x, cos, sin, tail)
            streams.append(x)
        return streams
