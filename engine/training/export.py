"""Exports the averaged weights: int8 ONNX for the engine, bfloat16 safetensors for torch, tokenizer, config, card."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import onnx
import torch
from safetensors.torch import save_file

from engine.backends.onnx import ModelShape
from engine.contract import EngineError
from engine.evaluation.cursors import evaluate, print_table
from engine.models.nano import NanoModel
from engine.training.card import card
from engine.training.graph import build
from engine.training.train import Progress, TrainConfig

POSITIONS = 2  # contexts: room in the rotary tables for long fills
PLACES = 500  # of the evaluation in the card


def averaged(state: Path) -> tuple[NanoModel, TrainConfig, Progress]:
    """The averaged weights of a training state. Raises EngineError where there is none."""
    if not (state / "state.pt").exists():
        raise EngineError(f"no training state in {state}: run `python -m engine train run --state {state}` first")
    saved = torch.load(state / "state.pt", weights_only=True)
    config = msgspec.json.decode(saved["config"], type=TrainConfig)
    model = NanoModel(config.model)
    for parameter, weight in zip(model.parameters(), saved["average"], strict=True):
        parameter.data.copy_(weight)
    return model.eval(), config, Progress(**saved["progress"])


def shape_of(model: NanoModel, config: TrainConfig) -> ModelShape:
    return ModelShape(
        layers=model.config.layers,
        heads=model.config.heads,
        head_dim=model.config.head_dim,
        context=config.sampler.context,
        canvas=config.sampler.canvas,
        ngram_buckets=model.config.ngram_buckets,
    )


def run(state: Path, tokenizer: Path, corpus: Path, out: Path) -> None:
    """Write everything the engine and the torch backend load, and a card that says what it is and how good."""
    model, config, progress = averaged(state)
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(build(model, POSITIONS * config.sampler.context, int8=True), out / "model.int8.onnx")
    save_file(
        {name: weight.detach().to(torch.bfloat16).contiguous() for name, weight in model.state_dict().items()},
        out / "model.safetensors",
        metadata={"config": msgspec.json.encode(config.model).decode()},
    )
    shutil.copyfile(tokenizer, out / "tokenizer.json")
    (out / "config.json").write_bytes(msgspec.json.format(msgspec.json.encode(shape_of(model, config)), indent=2))
    quality = evaluate(str(out), corpus / "validation", PLACES)
    (out / "README.md").write_text(card(model, progress, quality, corpus / "report.json"), encoding="utf-8")
    print_table(quality)
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size / 1e6:6.1f} MB  {path.name}")
