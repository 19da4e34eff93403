"""The ONNX graph of a drafter's step: what is new of the context is read, a canvas is denoised and put in order.

Attention writes into the memory that it reads, as in the trunk's graph. Rows of the context that are new, and those of
the canvas, are multiplied and attend together; then the canvas's go on alone. Keys and values of the canvas lie behind
the context's, where the next step writes over them.

Inputs   token (1,) the anchor; features (1, n, 5 * dim) of what is new before it; last (1,) int32 = the last position,
         length (1,) int32 = positions with the canvas; keys.L, values.L (1, kv_heads, room, d), which are new_keys.L,
         new_values.L too
Outputs  drafts (B,), probabilities (B,)
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from engine.models.drafter import TAPS, DrafterConfig
from engine.models.trunk import TrunkConfig
from engine.stored import Weights
from engine.training.graph import PassGraph


class DraftGraph(PassGraph):
    def __init__(self, trunk: TrunkConfig, config: DrafterConfig, longest: int, weights: Weights, rows: int) -> None:
        """`trunk` is of the drafter's own layers, `rows` how many of a canvas's are denoised: no row sees those after
        it, so that a shorter canvas has the same.
        """
        super().__init__(trunk, longest, weights)
        self.drafter, self.rows = config, rows

    def model(self) -> onnx.ModelProto:
        constant, rows = self.add.constant, self.rows
        fused = self.product("features", "fuse.weight")
        context = self.norm(fused, "fuse_norm.weight")
        anchor = self.looked_up("embed.weight", "token")
        ends = (constant(np.array([each])) for each in (0, rows - 1))
        masks = self.add("Slice", self.weight("masks", (self.drafter.rows - 1, self.config.dim)), *ends)
        x = self.add("Unsqueeze", self.add("Concat", anchor, masks, axis=0), self.first)
        memory = {}
        for layer in range(self.config.layers):
            x, memory[f"new_keys.{layer}"], memory[f"new_values.{layer}"] = self.draft_block(x, context, layer)
        hidden = self.add("Squeeze", self.norm(x, "norm.weight"), self.first)
        own, token, tokens, chances = self.product(hidden, "embed.weight"), "token", [], []
        for row in range(rows):
            before = self.product(self.looked_up("before.weight", token), "after.weight")
            logits = self.add("Add", self.add("Gather", own, constant(np.array([row])), axis=0), before)
            token = self.add("ArgMax", logits, axis=-1, keepdims=0)
            tokens.append(token)
            chances.append(self.add("ReduceMax", self.add("Softmax", logits, axis=-1), self.last, keepdims=0))
        outputs = {
            "drafts": self.add("Concat", *tokens, axis=0),
            "probabilities": self.add("Concat", *chances, axis=0),
            **memory,
        }
        features = (TensorProto.FLOAT, [1, "n", TAPS * self.config.dim])
        return self.finished({"token": (TensorProto.INT64, [1]), "features": features}, outputs)

    def draft_block(self, x: str, context: str, layer: int) -> tuple[str, str, str]:
        both = self.add("Concat", context, self.norm(x, f"blocks.{layer}.norm.weight"), axis=1)
        attended, keys, values = self.attended(both, layer)
        ends = (self.add.constant(np.array([each])) for each in (-self.rows, np.iinfo(np.int64).max, 1))
        return self.finished_block(x, self.add("Slice", attended, *ends), layer), keys, values
