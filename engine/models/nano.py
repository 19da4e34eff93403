"""The embedded model in torch: one decoder-only transformer in two roles.

* causal over the *context*, so that its KV memory is exact and append-only while the user types;
* bidirectional inside a *canvas* of `<mask>` tokens at the gap, which predicts all of its tokens at once
  (the pattern of TiDAR, arXiv 2511.08923, and DiffusionGemma).

A training row is a context of T tokens and a *tail* of Q tokens. The tail holds branches, each what stands at one
cursor (rest of line, middle, canvases), and sees the context only up to its own anchor, so one encoding of the
context serves many gaps. Context and tail attend apart, so that the context's rows are not multiplied with the tail's
keys. Attention is written out: on a CPU the backward pass of the fused kernel is slower than plain matrix products at
these lengths, and the compiler fuses the rest.

Choices: RMSNorm without weights, QK-norm, rotary positions, ReLU², zero-initialised output projections
(modded-nanogpt); embedding and head untied; hashed bigrams and trigrams of the input as a second, narrow embedding,
which costs a look-up.
"""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

BLOCKED = -1e4  # added to a score that must not count; -inf would make a row of padding NaN


class NanoConfig(msgspec.Struct, frozen=True, kw_only=True):
    vocab: int = 8192
    dim: int = 320
    layers: int = 4
    heads: int = 5
    mlp: int = 1280
    ngram_buckets: int = 10240  # 0 leaves the n-gram embedding out
    ngram_dim: int = 64
    rope_base: float = 10000.0

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


def rms_norm(x: Tensor) -> Tensor:
    """Written out, because the ONNX exporter has no operator for it."""
    return x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6).to(x.dtype)


def rotary(positions: Tensor, config: NanoConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines (batch, 1, length, head_dim / 2) for positions (batch, length)."""
    half = config.head_dim // 2
    frequency = config.rope_base ** (-torch.arange(half, dtype=torch.float32, device=positions.device) / half)
    angle = positions[:, None, :, None].float() * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """Multiply in x's dtype: weights and their gradients stay float32 where the products are bfloat16."""
    return F.linear(x, layer.weight.to(x.dtype))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """q (batch, heads, rows, d), k, v (batch, heads, keys, d), bias added to the scores -> (batch, heads, rows, d)."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3) + bias
    return torch.matmul(scores.softmax(-1), v)


class Block(nn.Module):
    def __init__(self, config: NanoConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.out = nn.Linear(config.dim, config.dim, bias=False)
        self.up = nn.Linear(config.dim, config.mlp, bias=False)
        self.down = nn.Linear(config.mlp, config.dim, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, heads, length, head_dim)."""
        batch, length, dim = x.shape
        q, k, v = (
            linear(rms_norm(x), self.qkv).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        )
        return rotate(rms_norm(q), cos, sin), rotate(rms_norm(k), cos, sin), v

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + linear(attended.transpose(1, 2).reshape(x.shape), self.out)
        return x + linear(F.relu(linear(rms_norm(x), self.up)).square(), self.down)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, causal: Tensor, tail: Tensor) -> Tensor:
        """A training row: x (batch, T + Q, dim), causal (T, T) and tail (batch, 1, Q, T + Q) added to the scores."""
        q, k, v = self.project(x, cos, sin)
        n = causal.shape[0]
        context = attend(q[:, :, :n], k[:, :, :n], v[:, :, :n], causal)
        return self.finish(x, torch.cat((context, attend(q[:, :, n:], k, v, tail)), dim=2))

    def step(
        self, x: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Inference rows over a KV memory: keys, values (batch, heads, cached, d), bias (rows, cached + rows)."""
        q, k, v = self.project(x, cos, sin)
        attended = attend(q, torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2), bias)
        return self.finish(x, attended), k, v


class NanoModel(nn.Module):
    def __init__(self, config: NanoConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.dim)
        if config.ngram_buckets:
            self.ngrams = nn.Embedding(config.ngram_buckets, config.ngram_dim)
            self.ngram_up = nn.Linear(config.ngram_dim, config.dim, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = nn.Linear(config.dim, config.vocab, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if name.endswith(("out.weight", "down.weight", "ngram_up.weight", "head.weight")):
                nn.init.zeros_(weight)
            elif "embed" in name or "ngrams" in name:
                nn.init.normal_(weight, std=1.0 if "embed" in name else 0.5)
            else:
                nn.init.uniform_(weight, -((3 / weight.shape[1]) ** 0.5), (3 / weight.shape[1]) ** 0.5)

    def embedded(self, tokens: Tensor, ngrams: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """tokens (batch, length) and their hashed n-grams (batch, length, 2) -> (batch, length, dim)."""
        x = self.embed(tokens).to(dtype)
        if self.config.ngram_buckets:
            x = x + linear(self.ngrams(ngrams).sum(2).to(dtype), self.ngram_up)
        return rms_norm(x)

    def forward(
        self, tokens: Tensor, ngrams: Tensor, positions: Tensor, mask: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Hidden states (batch, T + Q, dim) of training rows; the loss applies the head.

        mask (batch, 1, Q, T + Q) is True where a row of the tail may look; dtype is that of the products.
        """
        x = self.embedded(tokens, ngrams, dtype)
        cos, sin = (part.to(dtype) for part in rotary(positions, self.config))
        length = x.shape[1] - mask.shape[2]
        causal = torch.full((length, length), BLOCKED, dtype=dtype, device=x.device).triu(1)
        tail = torch.where(mask, 0.0, BLOCKED).to(dtype)
        for block in self.blocks:
            x = block(x, cos, sin, causal, tail)
        return rms_norm(x)

    def step(
        self,
        tokens: Tensor,
        ngrams: Tensor,
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor,
        rows: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One inference pass of one sequence over a KV memory, as the exported graph computes it.

        tokens, positions (n,), ngrams (n, 2), keys, values (layers, heads, cached, d), bias (n, cached + n) added to
        the scores, rows (m,) -> logits of those rows (m, vocab), new keys and values (layers, heads, n, d).
        """
        x = self.embedded(tokens[None], ngrams[None])
        cos, sin = rotary(positions[None], self.config)
        new = []
        for block, *memory in zip(self.blocks, keys, values, strict=True):
            x, k, v = block.step(x, cos, sin, *(part[None] for part in memory), bias)  # type: ignore[operator]
            new.append((k[0], v[0]))
        logits = self.head(rms_norm(x)[0, rows])
        new_keys, new_values = (torch.stack(parts) for parts in zip(*new, strict=True))
        return logits, new_keys, new_values
