"""Checkpoints stored in few bits are what their formats' own libraries make of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch
from compressed_tensors.compressors.naive_quantized import FloatQuantizationCompressor
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from engine.contract import EngineError
from engine.models import checkpoint

CPU = torch.device("cpu")
Parts = dict[str, Tensor]


def fp8_in_blocks(weight: Tensor) -> tuple[Parts, Tensor]:
    rows, columns = weight.shape
    scale = weight.view(rows // 16, 16, columns // 16, 16).abs().amax((1, 3)) / 448
    stored = (weight / scale.repeat_interleave(16, 0).repeat_interleave(16, 1)).to(torch.float8_e4m3fn)
    means = Fp8Dequantize(None)._dequantize_one(stored, scale, torch.float32)
    return {"weight": stored, "weight_scale_inv": scale}, means


def packed(bits: int, group: int | None) -> Callable[[Tensor], tuple[Parts, Tensor]]:
    def made(weight: Tensor) -> tuple[Parts, Tensor]:
        strategy = "group" if group else "channel"
        args = QuantizationArgs(num_bits=bits, type="int", symmetric=True, strategy=strategy, group_size=group)
        scheme = QuantizationScheme(targets=["Linear"], weights=args)
        grouped = weight.view(len(weight), -1, group or weight.shape[1])
        scale = grouped.abs().amax(2) / (2 ** (bits - 1) - 1)
        stored = PackedQuantizationCompressor.compress({"weight": weight, "weight_scale": scale}, scheme)
        return stored, PackedQuantizationCompressor.decompress(stored, scheme)["weight"]

    return made


def fp8_by_row(weight: Tensor) -> tuple[Parts, Tensor]:
    args = QuantizationArgs(num_bits=8, type="float", symmetric=True, strategy="channel")
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    scale = weight.abs().amax(1, keepdim=True) / 448
    stored = FloatQuantizationCompressor.compress({"weight": weight, "weight_scale": scale}, scheme)
    return stored, FloatQuantizationCompressor.decompress(stored, scheme)["weight"]


def compressed(kind: str, bits: int, form: str) -> dict[str, object]:
    groups = {"group_0": {"weights": {"type": kind, "num_bits": bits, "symmetric": True}, "targets": ["Linear"]}}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": groups}


FORMATS: dict[str, tuple[Callable[[Tensor], tuple[Parts, Tensor]], dict[str, object]]] = {
    "fp8 in blocks": (fp8_in_blocks, {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [16, 16]}),
    "fp8 by row": (fp8_by_row, compressed("float", 8, "float-quantized")),
    "int4 in groups": (packed(4, 8), compressed("int", 4, "pack-quantized")),
    "int4 by row": (packed(4, None), compressed("int", 4, "pack-quantized")),
    "int8 in groups": (packed(8, 16), compressed("int", 8, "pack-quantized")),
}


def rewritten(folder: Path, form: str) -> dict[str, Tensor]:
    """The checkpoint's products in a format; what the format's library reads there."""
    quantise, how = FORMATS[form]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": how}))
    stored, means = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if "_proj" in name and name.endswith("weight"):
            parts, means[name] = quantise(weight)
            stored |= {name.removesuffix("weight") + part: tensor.contiguous() for part, tensor in parts.items()}
        else:
            stored[name] = means[name] = weight
    save_file(stored, folder / "model.safetensors")
    return means


def load(folder: Path) -> checkpoint.Checkpoint:
    return checkpoint.load(str(folder), checkpoint.read_config(str(folder)), CPU, torch.float32)


@pytest.mark.parametrize("form", FORMATS)
def test_weights_are_those_that_the_formats_library_reads(form: str, tmp_path: Path) -> None:
    folder = tiny.FAMILIES["dream"](tmp_path)[0]
    plain = load_file(folder / "model.safetensors")
    means = rewritten(folder, form)
    read = load(folder)
    for name, source in read.plan.sources.items():
        expected = torch.cat([means[each] for each in source.names])
        assert torch.allclose(read.model.get_parameter(name), expected, rtol=1e-6, atol=1e-7), name
    change = max(float((plain[name] - means[name]).norm() / plain[name].norm()) for name in plain)
    assert 0 < change < 0.2  # in few bits, and still the same weights


@pytest.mark.parametrize("part", ["weight_scale_inv", "weight_scale", "weight_shape"])
def test_a_part_that_is_missing_is_a_sentence(part: str, tmp_path: Path) -> None:
    folder = tiny.FAMILIES["dream"](tmp_path)[0]
    form = {"weight_scale_inv": "fp8 in blocks", "weight_scale": "fp8 by row", "weight_shape": "int4 in groups"}[part]
    rewritten(folder, form)
    weights = load_file(folder / "model.safetensors")
    del weights[f"model.layers.0.mlp.up_proj.{part}"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(EngineError, match=r"model.layers.0.mlp.up_proj.weight of .* cannot be read \(.* without"):
        load(folder)


@pytest.mark.parametrize(
    ("form", "part", "instead", "why"),
    [
        ("fp8 in blocks", "weight_scale_inv", torch.ones(5, 1), r"scales of shape \[5, 1\]"),
        ("fp8 by row", "weight", torch.tensor(1.0).to(torch.float8_e4m3fn), "0-d"),
        ("int4 in groups", "weight_g_idx", torch.full((32,), 99), "out of"),
        ("int4 in groups", "weight_scale", torch.ones(48, 0), "zero"),
        ("int4 in groups", "weight_shape", torch.tensor(32), "int"),
    ],
)
def test_parts_that_do_not_fit_together_are_a_sentence(
    form: str, part: str, instead: Tensor, why: str, tmp_path: Path
) -> None:
    folder = tiny.FAMILIES["dream"](tmp_path)[0]
    rewritten(folder, form)
    weights = load_file(folder / "model.safetensors")
    weights[f"model.layers.0.mlp.up_proj.{part}"] = instead
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(EngineError, match=rf"cannot be read \(.*{why}"):
        load(folder)
