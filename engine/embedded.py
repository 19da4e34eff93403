"""The embedded model: finds its files, keeps its KV memory, answers requests."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from engine import checksums
from engine.backends.memory import CausalPasses, ModelShape
from engine.backends.onnx import OnnxPasses
from engine.contract import EngineError, Fill, FillRequest, Watch
from engine.decoding import copying, draft_verify
from engine.decoding.limits import Limits
from engine.decoding.passes import Gap
from engine.tokenizer import BOS, MASK, Tokenizer
from engine.window import CHARACTERS, prompt

if TYPE_CHECKING:
    import torch

WEIGHTS = Path(__file__).parent / "weights"
GRAPH, STORED = "graph.onnx", "model.safetensors"
WARM_UP = FillRequest(prefix="import os\n\n\ndef main(", suffix=")\n", max_lines=1)


class Embedded:
    def __init__(self, model: CausalPasses, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer

    @classmethod
    def load(cls, name: str, device: torch.device | None = None) -> Embedded:
        """A shipped model by name, or a folder that `train export` wrote. Raises EngineError with what to do.

        Runs on ONNX Runtime, or in torch where a device is given.
        """
        folder = WEIGHTS / name if (WEIGHTS / name / "config.json").is_file() else Path(name).expanduser()
        if not (folder / "config.json").is_file():
            shipped = ", ".join(sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))) or "none"
            raise EngineError(f"no model {name!r}: give a shipped one ({shipped}) or a folder with config.json")
        checksums.check(folder, ("config.json", "tokenizer.json", GRAPH, STORED))
        try:
            shape = msgspec.json.decode((folder / "config.json").read_bytes(), type=ModelShape)
        except (msgspec.DecodeError, OSError, RecursionError) as error:
            raise EngineError(f"{folder / 'config.json'} is damaged ({error}); install the model again") from None
        model = cls(_passes(folder, shape, device), Tokenizer.load(folder / "tokenizer.json"))
        model.prove(folder)
        return model

    def prove(self, folder: Path) -> None:
        """Make the first passes, which allocate. Raises EngineError where the folder's files do not go together."""
        try:
            logits = self._model.forward([BOS], [], 1).logits
            self.fill(WARM_UP, threading.Event())
        except Exception as error:  # onnxruntime has a family of exceptions without a public base
            reason = f"{type(error).__name__}: {error}"
        else:
            if logits.shape[-1] == self._tokenizer.vocab and np.isfinite(logits).all():
                return
            reason = f"{logits.shape[-1]} logits for {self._tokenizer.vocab} tokens, or some that are no numbers"
        raise EngineError(f"the files in {folder} do not go together ({reason}); install the model again")

    @staticmethod
    def holds(name: str) -> bool:
        """Whether a name is for `load`: ours, or nobody's. Other folders and hub ids are public checkpoints'."""
        folder = Path(name).expanduser()
        shipped = folder.name == name and (WEIGHTS / name / "config.json").is_file()
        return shipped or (folder / GRAPH).exists() or not (folder.is_dir() or "/" in name)

    @staticmethod
    def threads(name: str) -> int:
        """That a pass of the model uses; 1 where there is no such model."""
        folder = WEIGHTS / name if (WEIGHTS / name).is_dir() else Path(name).expanduser()
        try:
            return msgspec.json.decode((folder / "config.json").read_bytes(), type=ModelShape).threads
        except (OSError, msgspec.DecodeError):
            return 1

    @property
    def reach(self) -> int:
        """See Engine.reach."""
        return max(copying.REACH, self._model.shape.context * CHARACTERS)

    @property
    def parallel(self) -> int:
        """See Engine.parallel."""
        return 1

    def remember(self, megabytes: float) -> None:
        """See Engine.remember."""
        self._model.remember(megabytes)

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        """See Engine.fill."""
        limits = Limits(request, self._tokenizer, cancel, watch)
        asked = prompt(request, self._tokenizer, self._model.shape.context, self._model.shape.marks_empty_rest)
        limits.spelled = lambda tokens: self._tokenizer.decode(tokens)[len(asked.blank) :]
        limits.respelled_lines = asked.blank.count("\n")
        reused = self._model.keep(asked.context)
        copier = copying.Copier(request, self._tokenizer, asked.blank)
        written = draft_verify.decode(
            self._model,
            Gap([*asked.context, *asked.lead], [], asked.blank),
            MASK,
            self._model.shape.canvas // (1 if self._model.denoises else 2),  # a line has about eight tokens
            limits,
            copier,
            self._tokenizer.after.get(asked.blank),
        )
        fill = limits.fill(
            written,
            newline=asked.newline,
            window=len(asked.context),
            reused=reused,
        )
        return msgspec.structs.replace(fill, source=copier.source(len(fill.text)))


def _passes(folder: Path, shape: ModelShape, device: torch.device | None) -> CausalPasses:
    if device is None:
        return OnnxPasses.load(folder, shape)
    from engine.backends.torch_passes import TorchPasses, read_model  # here, so that the default costs no torch

    trunk, denoiser = read_model(folder / STORED)
    return TorchPasses(trunk, shape, device, denoiser)
