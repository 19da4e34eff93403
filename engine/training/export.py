"""Exports the averaged weights: int8 ONNX for the engine, int8 safetensors for torch, tokenizer, config, card."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import onnx
import torch
from safetensors.torch import save_file

from engine import checksums
from engine.backends.memory import ModelShape
from engine.backends.onnx import OnnxPasses
from engine.contract import EngineError
from engine.embedded import Embedded
from engine.evaluation.lines import Quality, evaluate, print_table
from engine.models.int8 import pack
from engine.models.trunk import Trunk
from engine.tokenizer import Tokenizer
from engine.training.card import card
from engine.training.graph import build
from engine.training.train import Progress, TrainConfig
from engine.training.validation import shape_of

POSITIONS = 2  # contexts: room in the rotary tables for long fills
PLACES = 500  # of the evaluation in the card


def averaged(state: Path) -> tuple[Trunk, TrainConfig, Progress]:
    """The averaged weights of a training state. Raises EngineError where there is none."""
    if not (state / "state.pt").exists():
        raise EngineError(f"no training state in {state}: run `python -m engine train run --state {state}` first")
    saved = torch.load(state / "state.pt", weights_only=True)
    config = msgspec.json.decode(saved["config"], type=TrainConfig)
    model = Trunk(config.model)
    for parameter, weight in zip(model.parameters(), saved["average"], strict=True):
        parameter.data.copy_(weight)
    return model.eval(), config, Progress(**saved["progress"])


def judged(model: Trunk, shape: ModelShape, tokenizer: Path, validation: Path, int8: bool, copies: bool) -> Quality:
    """How the model fills; alone with drafts on canvases in every pass, so that accepted tokens are counted too."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.onnx"
        onnx.save(build(model, POSITIONS * shape.context, int8), weights)
        passes = OnnxPasses.load(weights, shape)
    passes.rows_are_free = not copies
    return evaluate(Embedded(passes, Tokenizer.load(tokenizer)), validation, PLACES, copies)


def run(state: Path, tokenizer: Path, corpus: Path, out: Path) -> None:
    """Write everything the engine and the torch backend load, and a card that says what it is and how good."""
    model, config, progress = averaged(state)
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(build(model, POSITIONS * config.sampler.context, int8=True), out / "model.int8.onnx")
    save_file(
        pack(model.state_dict()),
        out / "model.safetensors",
        metadata={"config": msgspec.json.encode(config.model).decode()},
    )
    shutil.copyfile(tokenizer, out / "tokenizer.json")
    shape = shape_of(model, config.sampler)
    (out / "config.json").write_bytes(msgspec.json.format(msgspec.json.encode(shape), indent=2))
    qualities = {
        name: judged(model, shape, tokenizer, corpus / "validation", int8, copies)
        for name, int8, copies in (
            ("int8, as shipped", True, True),
            ("int8, alone", True, False),
            ("float32, alone", False, False),
        )
    }
    (out / "README.md").write_text(card(model, progress, qualities, corpus / "report.json"), encoding="utf-8")
    checksums.write(out)
    for name, quality in qualities.items():
        print(name)
        print_table(quality)
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size / 1e6:6.1f} MB  {path.name}")
