"""The embedded model in torch, for a GPU: passes over keys and values that live on the device.

They have few shapes (see `buckets`). A captured pass reads and writes at fixed addresses: the memory in use is copied
to the working one, which it knows, and back when another is used, which costs microseconds there.
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
from engine.backends.kv_cache import BLOCKED, SPARE, CausalRunner, KVCache, LogitPredictions, ModelShape, likeliest
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
        positions = shape.context + SPARE + 1  # the last is for rows of padding
        size = (config.layers, config.kv_heads, positions, config.head_dim)
        super().__init__(shape, {part: torch.zeros(size, device=device) for part in ("keys", "values")})
        self._trunk, self._device = trunk.to(device), device
        self._buckets = Buckets(device)
        self._captures = self._buckets.capture is not None
        self._in_use = self._memories[0]
        self._working = self._in_use.parts
        if self._captures:
            self._working = {name: part.clone() for name, part in self._working.items()}

    def reuse_prefix(self, tokens: list[int]) -> int:
        """See CausalRunner.reuse_prefix."""
        self._store()
        return super().reuse_prefix(tokens)

    def _store(self) -> None:
        """Bring the memory in use up to date, before it is copied or another one is used."""
        if self._captures:
            for name, part in self._working.items():
                self._in_use.parts[name].copy_(part)

    def _use(self, memory: KVCache) -> None:
        """Have passes read and write this memory."""
        if not self._captures:
            self._working = memory.parts
        elif memory is not self._in_use:
            for name, part in memory.parts.items():
                self._working[name].copy_(part)
        self._in_use = memory

    @torch.inference_mode()
    def forward(self, tokens: list[int], results: int, first: NDArray[np.int64] | None = None) -> LogitPredictions:
        """See CausalRunner.forward."""
        memory = self._memories[0]
        start, n = len(memory.tokens), len(tokens)
        rows, wanted = bucket(n), bucket(results)
        numbers = np.zeros(2 * rows + wanted, np.int64)
        numbers[:n] = tokens
        numbers[rows : 2 * rows] = self._pad
        numbers[rows : rows + n] = np.arange(start, start + n)
        numbers[2 * rows : 2 * rows + results] = np.arange(n - results, n)
        self._use(memory)
        shaped = self._buckets.of((rows, wanted), numbers, partial(self._forward, rows=rows))
        shaped.host.numpy()[:] = numbers
        logits = shaped()[:results]
        memory.tokens += tokens
        best = logits.softmax(-1).max(-1)
        found, probabilities = torch.stack((best.indices.float(), best.values)).tolist()
        made = LogitPredictions([int(token) for token in found], probabilities, logits.cpu().numpy())
        if first is not None:
            made.tokens[0], made.probabilities[0] = likeliest(made.logits[0], first)
        return made

    @property
    def _pad(self) -> int:
        """The place that rows of padding write to."""
        return self._memories[0].room - 1

    def _forward(self, numbers: Tensor, rows: int) -> Tensor:
        """Logits (wanted, vocab) of a pass whose keys and values go to the working memory.

        numbers are ids (rows,), positions (rows,) and the rows of which logits are wanted.
        """
        trunk = self._trunk
        ids, positions, wanted = numbers.split((rows, rows, len(numbers) - 2 * rows))
        keys, values = self._working["keys"], self._working["values"]
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
