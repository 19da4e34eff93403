"""The embedded model in torch, for a GPU: passes over keys and values that live on the device."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from engine import stored
from engine.backends.memory import BLOCKED, SPARE, CausalPasses, ModelShape, Rows, likeliest
from engine.contract import EngineError
from engine.decoding.passes import Summary
from engine.models.denoiser import Denoiser
from engine.models.trunk import Trunk, TrunkConfig
from engine.tokenizer import MASK

DENOISER = "denoiser."  # what the names of its weights begin with


def read_model(weights: Path) -> tuple[Trunk, Denoiser | None]:
    """From what `train export` wrote. Raises EngineError where the file is missing or damaged."""
    found = stored.floats(stored.read(weights))
    try:
        trunk = Trunk(msgspec.json.decode(stored.about(weights), type=TrunkConfig))
        tensors = {name: torch.from_numpy(each) for name, each in found.items()}
        theirs = {name.removeprefix(DENOISER): tensors.pop(name) for name in found if name.startswith(DENOISER)}
        if trunk.config.tied:
            tensors["head.weight"] = tensors["embed.weight"]
        trunk.load_state_dict(tensors)
        if trunk.config.denoiser is None:
            return trunk.eval(), None
        denoiser = Denoiser(trunk, theirs["tokens"].tolist())
        denoiser.load_state_dict(theirs)
        return trunk.eval(), denoiser.eval()
    except (KeyError, RuntimeError, msgspec.DecodeError) as error:
        raise EngineError(f"the weights {weights} are damaged ({error}); install the model again") from None


class TorchPasses(CausalPasses):
    rows_are_free = True

    def __init__(self, trunk: Trunk, shape: ModelShape, device: torch.device, denoiser: Denoiser | None = None) -> None:
        config = trunk.config
        layers = config.layers + (denoiser.shape.layers if denoiser else 0)
        size = (layers, config.kv_heads, shape.context + SPARE, config.head_dim)
        super().__init__(shape, {part: torch.zeros(size, device=device) for part in ("keys", "values")})
        self._trunk, self._device = trunk.to(device), device
        self._denoiser = denoiser.to(device) if denoiser else None
        self.denoises = denoiser is not None

    @torch.inference_mode()
    def forward(
        self, tokens: list[int], canvas: list[int], results: int, first: NDArray[np.int64] | None = None
    ) -> Rows:
        """See CausalPasses.forward."""
        memory, layers = self._memories[0], self._trunk.config.layers
        start, n, m = len(memory.tokens), len(tokens), len(tokens) + len(canvas)
        ids = torch.tensor(tokens + canvas, device=self._device)
        positions = torch.arange(start, start + m, device=self._device)
        bias = torch.zeros(m, start + m, device=self._device)
        bias[:n, start:] = torch.full((n, m), BLOCKED, device=self._device).triu(1)
        logits, keys, values, streams = self._trunk.step(
            ids,
            torch.from_numpy(self._ngrams(tokens, np.array(tokens + canvas, np.int64))).to(self._device),
            positions,
            memory.parts["keys"][:layers, :, :start],
            memory.parts["values"][:layers, :, :start],
            bias,
            torch.arange(m - results, m, device=self._device),
            self._denoiser.shape.depths if self._denoiser else (),
        )
        if self._denoiser:
            own = self._denoiser.memory(torch.cat(streams, dim=-1)[None], positions[None])
            keys, values = (torch.cat((part, *(each[at] for each in own))) for at, part in enumerate((keys, values)))
        memory.parts["keys"][:, :, start : start + n] = keys[:, :, :n]
        memory.parts["values"][:, :, start : start + n] = values[:, :, :n]
        memory.tokens += tokens
        best = logits.softmax(-1).max(-1)
        found, probabilities = torch.stack((best.indices.float(), best.values)).tolist()
        made = Rows([int(token) for token in found], probabilities, logits.cpu().numpy())
        if first is not None:
            made.tokens[0], made.probabilities[0] = likeliest(made.logits[0], first)
        return made

    @torch.inference_mode()
    def denoise(self, canvas: list[int]) -> Summary:
        """See CausalPasses.denoise."""
        assert self._denoiser is not None
        memory, layers = self._memories[0], self._trunk.config.layers
        start, ids = len(memory.tokens), torch.tensor(canvas, device=self._device)[None]
        parts = (memory.parts[part][layers:, None, :, :start] for part in ("keys", "values"))
        hidden = self._denoiser(
            self._trunk.embed(ids),
            ids == MASK,
            torch.arange(start, start + len(canvas), device=self._device)[None],
            list(zip(*parts, strict=True)),
            torch.zeros(len(canvas), start + len(canvas), device=self._device),
        )
        logits = hidden[0] @ self._trunk.embed.weight[self._denoiser.tokens].T
        best = logits.softmax(-1).max(-1)
        return Summary(self._denoiser.tokens[best.indices].tolist(), best.values.tolist(), [], [], stands=canvas)
