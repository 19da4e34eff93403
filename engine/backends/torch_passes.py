"""The embedded model in torch, for a GPU: passes over keys and values that live on the device."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from engine import quantised
from engine.backends.memory import BLOCKED, SPARE, CausalPasses, ModelShape, Rows, likeliest
from engine.contract import EngineError
from engine.models.trunk import Trunk, TrunkConfig
from engine.quantised import Matrix


def read_model(weights: Path) -> Trunk:
    """From the safetensors that `train export` wrote. Raises EngineError where they are missing or damaged."""
    found = quantised.read(weights)
    floats = {name: each.floats() if isinstance(each, Matrix) else each for name, each in found.items()}
    try:
        model = Trunk(msgspec.json.decode(quantised.about(weights), type=TrunkConfig))
        if model.config.tied:
            floats["head.weight"] = floats["embed.weight"]
        model.load_state_dict({name: torch.from_numpy(each) for name, each in floats.items()})
    except (KeyError, RuntimeError, msgspec.DecodeError) as error:
        raise EngineError(f"the weights {weights} are damaged ({error}); install the model again") from None
    return model.eval()


class TorchPasses(CausalPasses):
    rows_are_free = True

    def __init__(self, model: Trunk, shape: ModelShape, device: torch.device) -> None:
        config = model.config
        size = (config.layers, config.kv_heads, shape.context + SPARE, config.head_dim)
        super().__init__(shape, {part: torch.zeros(size, device=device) for part in ("keys", "values")})
        self._model, self._device = model.to(device), device

    @torch.inference_mode()
    def forward(
        self, tokens: list[int], canvas: list[int], results: int, first: NDArray[np.int64] | None = None
    ) -> Rows:
        """See CausalPasses.forward."""
        memory = self._memories[0]
        start, n, m = len(memory.tokens), len(tokens), len(tokens) + len(canvas)
        ids = torch.tensor(tokens + canvas, device=self._device)
        bias = torch.zeros(m, start + m, device=self._device)
        bias[:n, start:] = torch.full((n, m), BLOCKED, device=self._device).triu(1)
        logits, keys, values = self._model.step(
            ids,
            torch.from_numpy(self._ngrams(tokens, np.array(tokens + canvas, np.int64))).to(self._device),
            torch.arange(start, start + m, device=self._device),
            memory.parts["keys"][:, :, :start],
            memory.parts["values"][:, :, :start],
            bias,
            torch.arange(m - results, m, device=self._device),
        )
        memory.parts["keys"][:, :, start : start + n] = keys[:, :, :n]
        memory.parts["values"][:, :, start : start + n] = values[:, :, :n]
        memory.tokens += tokens
        best = logits.softmax(-1).max(-1)
        found, probabilities = torch.stack((best.indices.float(), best.values)).tolist()
        made = Rows([int(token) for token in found], probabilities, logits.cpu().numpy())
        if first is not None:
            made.tokens[0], made.probabilities[0] = likeliest(made.logits[0], first)
        return made
