"""What is exported computes what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from engine.models.nano import NanoConfig, NanoModel
from engine.nano import WEIGHTS
from engine.training.export import INPUTS, OUTPUTS, Step, example, export_onnx, quantise


@pytest.fixture(scope="module")
def shipped() -> NanoModel:
    weights = load_file(WEIGHTS / "nano" / "model.safetensors")
    model = NanoModel(NanoConfig(ngram_buckets=len(weights["ngrams.weight"])))
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return model.eval()


@pytest.fixture(scope="module")
def exported(shipped: NanoModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    export_onnx(shipped, folder / "model.onnx")
    quantise(folder / "model.onnx", folder / "model.int8.onnx")
    return folder


def outputs(path: Path, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    feed = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)}
    return session.run(list(OUTPUTS), feed)


@pytest.mark.parametrize(("cached", "rows"), [(0, 1), (0, 40), (1, 1), (300, 9), (300, 70)])
def test_onnx_float32_equals_torch(shipped: NanoModel, exported: Path, cached: int, rows: int) -> None:
    torch.manual_seed(cached + rows)
    inputs = example(shipped, cached=cached, n=rows, m=min(3, rows))
    with torch.no_grad():
        expected = Step(shipped)(*inputs)
    for name, got, want in zip(OUTPUTS, outputs(exported / "model.onnx", inputs), expected, strict=True):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-4, rtol=1e-4, err_msg=name)


def test_int8_stays_near_float32(shipped: NanoModel, exported: Path) -> None:
    inputs = example(shipped, cached=0, n=60, m=60)
    exact, coarse = (
        dict(zip(OUTPUTS, outputs(exported / name, inputs), strict=True)) for name in ("model.onnx", "model.int8.onnx")
    )
    agreement = float((exact["token"] == coarse["token"]).mean())
    print(f"int8 chooses the token of float32 at {agreement:.0%} of 60 random rows")
    assert agreement > 0.8


def test_all_that_ships_is_at_most_30_megabytes() -> None:
    sizes = {path.name: path.stat().st_size / 1e6 for path in (WEIGHTS / "nano").iterdir()}
    print(sizes)
    assert sum(sizes.values()) <= 30
    assert {"model.int8.onnx", "model.safetensors", "tokenizer.json", "config.json", "README.md"} <= sizes.keys()
