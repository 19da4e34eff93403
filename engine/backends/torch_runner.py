"""The embedded model in torch, for a GPU: passes over keys and values that live on the device.

They have few shapes (see `buckets`). A captured pass reads and writes at fixed addresses, so there is one KV cache: a
GPU reads the context of another file in milliseconds.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine import stored
from engine.backends.buckets import Buckets, bucket
from engine.backends.kv_cache import BLOCKED, SPARE, CausalRunner, LogitPredictions, ModelShape, likeliest
from engine.contract import EngineError
from engine.get import Change
from engine.models.trunk import Trunk, TrunkConfig, attend, rotary


def read_model(weights: Path, change: Change | None = None) -> Trunk:
    """From what `train export` wrote, with what was learned besides. Raises EngineError where the file is missing or
    damaged.
    """
    found = stored.floats(stored.read(weights))
    if change is not None:
        found = {name: change.of(name, each) for name, each in found.items()}
        found["embed.weight"] = change.embedding(found["embed.weight"])
    try:
        trunk = Trunk(msgspec.json.decode(stored.about(weights), type=TrunkConfig))
        tensors = {name: torch.from_numpy(each) for name, each in found.items()}
        tensors["head.weight"] = tensors["embed.weight"]
        trunk.load_state_dict(tensors)
        return trunk.eval()
    except (KeyError, RuntimeError, msgspec.DecodeError) as error:
        raise EngineError(f"the weights {weights} are damaged ({error}); install the model again") from None


class TorchRunner(CausalRunner):
    def __init__(self, trunk: Trunk, shape: ModelShape, device: torch.device) -> None:
        config = trunk.config
        self._pad = shape.context + SPARE  # the position of rows of padding
        size = (config.layers, config.kv_heads, self._pad + 1, config.head_dim)
        super().__init__(shape, {part: torch.zeros(size, device=device) for part in ("keys", "values")})
        self.memories = 1
        self._trunk, self._device = trunk.to(device), device
        self._buckets = Buckets(device)

    def remember(self, megabytes: float) -> None:
        """See CausalRunner.remember: there is one."""

    @torch.inference_mode()
    def forward(self, tokens: list[int], results: int, first: NDArray[np.int64] | None = None) -> LogitPredictions:
        """See CausalRunner.forward."""
        start, n = len(self.sequence), len(tokens)
        rows, wanted = bucket(n), bucket(results)
        numbers = np.zeros(2 * rows + wanted, np.int64)
        numbers[:n] = tokens
        numbers[rows : 2 * rows] = self._pad
        numbers[rows : rows + n] = np.arange(start, start + n)
        numbers[2 * rows : 2 * rows + results] = np.arange(n - results, n)
        shaped = self._buckets.of((rows, wanted), numbers, partial(self._forward, rows=rows))
        shaped.host.numpy()[:] = numbers
        logits = shaped()[:results]
        self.sequence.extend(tokens)
        best = logits.softmax(-1).max(-1)
        found, probabilities = torch.stack((best.indices.float(), best.values)).tolist()
        made = LogitPredictions([int(token) for token in found], probabilities, logits.cpu().numpy())
        if first is not None:
            made.tokens[0], made.probabilities[0] = likeliest(made.logits[0], first)
        return made

    def _forward(self, numbers: Tensor, rows: int) -> Tensor:
        """Logits (wanted, vocab) of a pass whose keys and values go to the memory.

        numbers are ids (rows,), positions (rows,) and the rows of which logits are wanted.
        """
        trunk = self._trunk
        ids, positions, wanted = numbers.split((rows, rows, len(numbers) - 2 * rows))
        keys, values = self._memories[0].parts["keys"], self._memories[0].parts["values"]
        bias = torch.where(torch.arange(keys.shape[2], device=self._device) <= positions[:, None], 0.0, BLOCKED)
        x = trunk.embed(ids[None])
        cos, sin = rotary(positions[None], trunk.config)
        for number, block in enumerate(trunk.blocks):
            q, k, v = block.project(x, cos, sin)  # type: ignore[operator]
            keys[number].index_copy_(1, positions, k[0])
            values[number].index_copy_(1, positions, v[0])
            x = block.finish(x, attend(q, keys[number, None], values[number, None], bias))  # type: ignore[operator]
        logits: Tensor = trunk.head(trunk.norm(x)[0, wanted])
        return logits
