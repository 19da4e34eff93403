"""Exports the averaged weights: one file for all backends, the graph of a pass, tokenizer, shape, card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from engine import checksums, stored
from engine.backends.kv_cache import ModelShape
from engine.backends.onnx import OnnxRunner
from engine.backends.torch_runner import read_model
from engine.contract import EngineError
from engine.corpus import Corpus
from engine.embedded import Embedded
from engine.evaluation.lines import Quality, evaluate
from engine.get import ADAPTER
from engine.models.trunk import Trunk
from engine.stored import Matrix, quantise
from engine.tokenizer import Tokenizer
from engine.training import card
from engine.training.card import ALONE, AS_SHIPPED
from engine.training.graph import POSITIONS, build
from engine.training.lora import Adapter
from engine.training.train import DataPaths, TrainConfig, TrainingProgress, begun, losses

BLOCK = 64  # weights that share a scale
PLACES = 300  # of the evaluation in the card, a language


def saved_state(state: Path) -> tuple[dict[str, Any], TrainConfig]:
    """Raises EngineError where there is none."""
    if not (state / "state.pt").exists():
        raise EngineError(f"no training state in {state}: run `python -m engine train run --state {state}` first")
    saved = torch.load(state / "state.pt", weights_only=True)
    config = msgspec.json.decode(saved["config"])
    known = {name: config[name] for name in TrainConfig.__struct_fields__ if name in config}  # a run may be an old one
    return saved, msgspec.convert(known, TrainConfig)


def averaged(state: Path) -> tuple[Trunk, TrainConfig, TrainingProgress]:
    """The averaged weights of a training state. Raises EngineError where there is none."""
    saved, config = saved_state(state)
    trunk = begun(config)
    for parameter, weight in zip(trunk.parameters(), saved["average"], strict=True):
        parameter.data.copy_(weight)
    return trunk.eval(), config, TrainingProgress(**saved["progress"])


def write_adapter(state: Path, out: Path) -> TrainingProgress:
    """What an adapter has learned, averaged, as `engine get` takes it. Raises EngineError as `averaged`.

    It may be `scale`d: between a model and a tuned one there often is a better one (WiSE-FT, arXiv 2109.01903).
    """
    saved, config = saved_state(state)
    adapter = Adapter(begun(config), config.rank)
    special = adapter.rows.special.detach().clone()
    for parameter, weight in zip(adapter.parameters(), saved["average"], strict=True):
        parameter.data.copy_(weight)
    adapter.rows.special.data.lerp_(special, 1 - config.scale)
    for change in adapter.changes.values():
        change.b.data.mul_(config.scale)  # type: ignore[operator]
    adapter.save(out / ADAPTER)
    return TrainingProgress(**saved["progress"])


def write(trunk: Trunk, shape: ModelShape, tokenizer: Path, bits: int, out: Path) -> None:
    """All that a backend loads; matrices are stored in so many bits."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: packed(weight.detach().numpy(), bits) for name, weight in trunk.named_parameters()}
    config, longest = trunk.config, POSITIONS * shape.context
    stored.write(out / "model.safetensors", weights, msgspec.json.encode(config).decode())
    onnx.save(build(config, longest, weights), out / "graph.onnx")
    shutil.copyfile(tokenizer, out / "tokenizer.json")
    (out / "config.json").write_bytes(msgspec.json.format(msgspec.json.encode(shape), indent=2))


def packed(weight: NDArray[np.float32], bits: int) -> Matrix | NDArray[np.float32]:
    return quantise(weight, bits, BLOCK) if weight.ndim == 2 else weight


def judged(out: Path, shape: ModelShape, validation: Path, language: str, copies: bool) -> Quality:
    """How the model fills."""
    filler = Embedded(OnnxRunner.load(out, shape), Tokenizer.load(out / "tokenizer.json"), out.name)
    return evaluate(filler, validation, PLACES, copies, language)


def run(state: Path, tokenizer: Path, corpus: Path, out: Path, bits: int) -> None:
    """Write everything the engine and the torch backend load, and a card that says what it is and how good; of an
    adapter, what it has learned.
    """
    if saved_state(state)[1].rank:
        progress = write_adapter(state, out)
        print(f"{out / ADAPTER}, after {progress.tokens:,} tokens")
        return
    trunk, config, progress = averaged(state)
    shape = config.sampler.shape
    write(trunk, shape, tokenizer, bits, out)
    notice = Path(config.base).with_name("NOTICE")
    if config.base and notice.exists():
        shutil.copyfile(notice, out / "NOTICE")
    data, validation = DataPaths(corpus, tokenizer), corpus / "validation"
    made = {
        "float32": losses(trunk, config, data),
        "as stored": losses(read_model(out / "model.safetensors"), config, data),
    }
    qualities = {
        (language, way): judged(out, shape, validation, language, way == AS_SHIPPED)
        for language in sorted(Corpus(validation).languages)
        for way in (AS_SHIPPED, ALONE)
    }
    card.write(out, trunk, progress, made, qualities, corpus / "report.json")
    checksums.write(out)
