"""A small denoiser on a frozen trunk: drafts a canvas from what the trunk has made of the context.

The trunk's residual streams at a few depths are fused into one feature a token, of which each of the denoiser's
layers makes keys and values, cached with the trunk's. A canvas is the next token, which is known, and masks after it;
its rows see the context and each other. So a denoising step costs a layer or two over a few rows and the head of the
most frequent tokens, a small part of a pass, while the trunk, which verifies, is not touched: its text stays what it
was. (Features of the target in every layer's keys and values: DFlash, arXiv 2602.06036, section 3; a head of frequent
tokens only: FR-Spec, arXiv 2502.14856.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.models.trunk import Block, Linear, Norm, Trunk, attend, linear, rotary


class Denoiser(nn.Module):
    """`trunk.config.denoiser` says its shape. Layers begin as the trunk's last, fed with the stream that these read."""

    def __init__(self, trunk: Trunk, tokens: list[int]) -> None:
        """`tokens` are those that it drafts, the most frequent ones."""
        super().__init__()
        config = trunk.config
        assert config.denoiser is not None
        self.config, self.shape = config, config.denoiser
        self.fuse = Linear(len(self.shape.depths) * config.dim, config.dim, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(self.shape.layers))
        self.norm = Norm(config)
        self.mask = nn.Parameter(trunk.embed.weight.detach().mean(0))
        self.tokens = nn.Buffer(torch.tensor(tokens))
        with torch.no_grad():
            self.fuse.weight.zero_()
            self.fuse.weight[:, -config.dim :] = torch.eye(config.dim)
            for block, theirs in zip(self.blocks, trunk.blocks[-self.shape.layers :], strict=True):
                block.load_state_dict(theirs.state_dict())
            self.norm.load_state_dict(trunk.norm.state_dict())

    def memory(self, streams: Tensor, positions: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each layer (batch, kv_heads, n, head_dim) for the context's residual streams
        (batch, n, depths · dim) at positions (batch, n).
        """
        fused = linear(streams, self.fuse)
        cos, sin = (part.to(fused.dtype) for part in rotary(positions, self.config))
        return [block.project(fused, cos, sin)[1:] for block in self.blocks]  # type: ignore[operator]

    def forward(
        self, embedded: Tensor, masked: Tensor, positions: Tensor, memory: list[tuple[Tensor, Tensor]], bias: Tensor
    ) -> Tensor:
        """Hidden states (batch, c, dim) of canvases.

        embedded (batch, c, dim) are the trunk's embeddings of the canvas's tokens, which do not count where masked
        (batch, c) is True; memory is what `memory` made; bias (…, c, n + c) is added to the scores.
        """
        x = torch.where(masked[..., None], self.mask.to(embedded.dtype), embedded)
        cos, sin = (part.to(x.dtype) for part in rotary(positions, self.config))
        for block, (keys, values) in zip(self.blocks, memory, strict=True):
            q, k, v = block.project(x, cos, sin)  # type: ignore[operator]
            attended = attend(q, torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2), bias)
            x = block.finish(x, attended)  # type: ignore[operator]
        normed: Tensor = self.norm(x)
        return normed
