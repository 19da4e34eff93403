"""Exports the averaged weights: int8 ONNX for the engine, bfloat16 safetensors for torch, tokenizer, config, model
card.

The graph is one forward pass over a KV memory (see backends/onnx.py): inputs are token rows and the memory, outputs
the likeliest token and its probability for chosen rows, and the new rows' keys and values. Matrix products and
embeddings are int8, per channel, with activations quantised as they come (dynamic), so no calibration data is needed.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.backends.onnx import ModelShape
from engine.contract import EngineError
from engine.evaluation.cursors import evaluate, print_table
from engine.models.nano import Block, NanoModel, rms_norm, rotary
from engine.training.card import card
from engine.training.train import Progress, TrainConfig

PLACES = 500  # of the evaluation in the card
INPUTS = ("tokens", "ngrams", "positions", "keys", "values", "bias", "rows")
OUTPUTS = ("token", "probability", "logits", "new_keys", "new_values")


class Step(nn.Module):
    """One pass of one sequence: the graph that is exported, and what the parity test runs in torch."""

    def __init__(self, model: NanoModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: Tensor,
        ngrams: Tensor,
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor,
        rows: Tensor,
    ) -> tuple[Tensor, ...]:
        """tokens, positions (n,), ngrams (n, 2), keys, values (cached, layers, heads, d), bias (n, cached + n),
        rows (m,)
        -> token (m,), probability (m,), logits (m, vocab), new keys, values (n, layers, heads, d).
        """
        x = self.model.embedded(tokens[None], ngrams[None])
        cos, sin = rotary(positions[None], self.model.config)
        new = []
        blocks: list[Block] = list(self.model.blocks)  # type: ignore[arg-type]
        for number, block in enumerate(blocks):
            past = (part[:, number].permute(1, 0, 2)[None] for part in (keys, values))
            x, k, v = block.step(x, cos, sin, *past, bias)
            new.append((k[0].permute(1, 0, 2), v[0].permute(1, 0, 2)))
        logits = self.model.head(rms_norm(x)[0, rows])
        probability, token = logits.softmax(-1).max(-1)
        new_keys, new_values = (torch.stack(parts, dim=1) for parts in zip(*new, strict=True))
        return token, probability, logits, new_keys, new_values


def example(model: NanoModel, cached: int = 5, n: int = 7, m: int = 3) -> tuple[Tensor, ...]:
    """Inputs of Step with random content."""
    config = model.config
    memory = (cached, config.layers, config.heads, config.head_dim)
    return (
        torch.randint(config.vocab, (n,)),
        torch.randint(max(config.ngram_buckets, 1), (n, 2)),
        torch.arange(cached, cached + n),
        torch.randn(memory),
        torch.randn(memory),
        torch.zeros(n, cached + n),
        torch.arange(n - m, n),
    )


def export_onnx(model: NanoModel, path: Path) -> None:
    """float32 ONNX of one pass, every length dynamic."""
    axes = {"tokens": {0: "n"}, "ngrams": {0: "n"}, "positions": {0: "n"}, "rows": {0: "m"}}
    axes |= {name: {0: "cached"} for name in ("keys", "values")}
    axes |= {"bias": {0: "n", 1: "total"}, "new_keys": {0: "n"}, "new_values": {0: "n"}}
    axes |= {name: {0: "m"} for name in OUTPUTS[:3]}
    torch.onnx.export(
        Step(model).eval(), example(model), str(path), input_names=INPUTS, output_names=OUTPUTS, dynamic_axes=axes,
        opset_version=18, dynamo=False,
    )  # fmt: skip


def quantise(source: Path, target: Path) -> None:
    quantize_dynamic(
        source, target, op_types_to_quantize=["MatMul", "Gather"], per_channel=True, weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )  # fmt: skip


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
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, Path(folder) / "model.onnx")
        quantise(Path(folder) / "model.onnx", out / "model.int8.onnx")
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
