"""What is exported computes what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engine.backends.torch_passes import read_model
from engine.embedded import WEIGHTS
from engine.models.trunk import Trunk
from engine.ngrams import hashed_ngrams
from engine.tokenizer import PAD, Tokenizer
from engine.training.graph import build


@pytest.fixture(scope="module")
def shipped() -> Trunk:
    return read_model(WEIGHTS / "nano" / "model.safetensors")


@pytest.fixture(scope="module")
def exported(shipped: Trunk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    onnx.save(build(shipped, 512, int8=False), folder / "model.onnx")
    onnx.save(build(shipped, 512, int8=True), folder / "model.int8.onnx")
    return folder


def example(model: Trunk, cached: int, n: int, m: int) -> tuple[torch.Tensor, ...]:
    """Arguments of Trunk.step: random tokens over a random memory."""
    config = model.config
    torch.manual_seed(cached + n)
    tokens, ngrams = torch.randint(config.vocab, (n,)), torch.randint(config.ngram_buckets, (n, 2))
    memory = (torch.randn(config.layers, config.heads, cached, config.head_dim) for _ in range(2))
    bias = torch.full((n, cached + n), -1e4).triu(cached + 1)
    return (tokens, ngrams, torch.arange(cached, cached + n), *memory, bias, torch.arange(n - m, n))


def outputs(path: Path, inputs: tuple[torch.Tensor, ...]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    tokens, ngrams, positions, keys, values, bias, rows = (value.numpy() for value in inputs)
    feed = {"tokens": tokens, "ngrams": ngrams, "positions": positions, "bias": bias, "rows": rows}
    feed["lengths"] = np.array([keys.shape[2], len(tokens)])
    feed |= {f"keys.{layer}": part for layer, part in enumerate(keys)}
    feed |= {f"values.{layer}": part for layer, part in enumerate(values)}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize(("cached", "rows"), [(0, 1), (0, 40), (1, 1), (300, 9), (300, 70)])
def test_onnx_float32_equals_torch(shipped: Trunk, exported: Path, cached: int, rows: int) -> None:
    inputs = example(shipped, cached, rows, min(3, rows))
    got = outputs(exported / "model.onnx", inputs)
    with torch.no_grad():
        logits, keys, values = shipped.step(*inputs)
    expected = {"logits": logits, "probability": logits.softmax(-1).amax(-1)}
    expected |= {f"new_keys.{layer}": part for layer, part in enumerate(keys)}
    expected |= {f"new_values.{layer}": part for layer, part in enumerate(values)}
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value.numpy(), atol=1e-4, rtol=1e-4, err_msg=name)
    assert got["token"].tolist() == logits.argmax(-1).tolist()


def test_int8_stays_near_float32(shipped: Trunk, exported: Path) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    tokens = Tokenizer.load(WEIGHTS / "nano" / "tokenizer.json").encode(text)[:300]
    previous = np.array([PAD, PAD, *tokens])
    ngrams = hashed_ngrams(previous[2:], previous[1:-1], previous[:-2], shipped.config.ngram_buckets)
    inputs = list(example(shipped, 0, len(tokens), len(tokens)))
    inputs[:2] = torch.tensor(tokens), torch.from_numpy(ngrams)
    exact, coarse = (outputs(exported / name, tuple(inputs))["token"] for name in ("model.onnx", "model.int8.onnx"))
    agreement = float((exact == coarse).mean())
    print(f"int8 chooses the token of float32 at {agreement:.1%} of {len(tokens)} places of a source file")
    assert agreement > 0.95


def test_a_row_does_not_depend_on_the_rows_beside_it(shipped: Trunk, exported: Path) -> None:
    tokens, ngrams, positions, keys, values, _, _ = example(shipped, 20, 9, 9)
    alone = torch.zeros(1, 21)
    beside = torch.full((9, 29), -1e4)
    beside[:, :20] = 0
    beside[range(9), range(20, 29)] = 0
    whole = outputs(exported / "model.int8.onnx", (tokens, ngrams, positions, keys, values, beside, torch.arange(9)))
    for i in range(9):
        row = tokens[i : i + 1], ngrams[i : i + 1], positions[i : i + 1], keys, values, alone, torch.arange(1)
        one = outputs(exported / "model.int8.onnx", row)
        error = np.abs(one["logits"][0] - whole["logits"][i]).max()
        assert error < 0.1 * whole["logits"][i].std()  # one activation rounded the other way, and no more


def test_all_that_ships_is_at_most_30_megabytes() -> None:
    sizes = {path.name: path.stat().st_size / 1e6 for path in (WEIGHTS / "nano").iterdir()}
    print(sizes)
    assert sum(sizes.values()) <= 30
    assert {"model.int8.onnx", "model.safetensors", "tokenizer.json", "config.json", "README.md"} <= sizes.keys()
