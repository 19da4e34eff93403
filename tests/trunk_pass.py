"""One inference pass of a trunk over a KV cache in plain torch, which exported graphs are held against."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.models.trunk import Trunk, attend, rotary


@torch.no_grad()
def step(
    trunk: Trunk,
    tokens: Tensor,
    positions: Tensor,
    keys: Tensor,
    values: Tensor,
    bias: Tensor,
    rows: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """tokens, positions (n,), keys, values (layers, kv_heads, cached, d), bias (n, cached + n) added
    to the scores, rows (m,) -> logits of those rows (m, vocab), new keys and values (layers, kv_heads, n, d).
    """
    x = trunk.embed(tokens[None])
    cos, sin = rotary(positions[None], trunk.config)
    new = []
    for block, old_k, old_v in zip(trunk.blocks, keys[:, None], values[:, None], strict=True):
        q, k, v = block.project(x, cos, sin)
        x = block.finish(x, attend(q, torch.cat((old_k, k), dim=2), torch.cat((old_v, v), dim=2), bias))
        new.append((k[0], v[0]))
    new_keys, new_values = (torch.stack(parts) for parts in zip(*new, strict=True))
    return trunk.head(trunk.norm(x)[0, rows]), new_keys, new_values


def logits(trunk: Trunk, tokens: Tensor) -> Tensor:
    """Of each token of a text (n, vocab)."""
    n, config = len(tokens), trunk.config
    empty = torch.zeros(config.layers, config.kv_heads, 0, config.head_dim)
    bias = torch.full((n, n), -1e4).triu(1)
    return step(trunk, tokens, torch.arange(n), empty, empty, bias, torch.arange(n))[0]
