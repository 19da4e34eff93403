"""What is exported computes what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from trunk_pass import step

from engine.backends.memory import ModelShape
from engine.backends.onnx import OnnxPasses, session
from engine.backends.torch_passes import read_model
from engine.embedded import WEIGHTS
from engine.models.trunk import Trunk, TrunkConfig
from engine.ngrams import hashed_ngrams
from engine.tokenizer import PAD, Tokenizer
from engine.training.export import packed
from engine.training.graph import build


@pytest.fixture(scope="module")
def shipped() -> Trunk:
    return read_model(WEIGHTS / "nano" / "model.safetensors")


SHAPE = {"vocab": 500, "dim": 96, "layers": 2, "heads": 6, "shared": 3, "head_dim": 16, "mlp": 128}
KIND = {"gated": True, "weighted_norms": True, "qk_norm": False, "embed_norm": False, "tied": True, "ngram_buckets": 0}
LLAMA = TrunkConfig(**SHAPE, **KIND)  # shaped as small is


@pytest.fixture(scope="module")
def llama() -> Trunk:
    torch.manual_seed(1)
    model = Trunk(LLAMA)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model.eval()


def exact(model: Trunk) -> onnxruntime.InferenceSession:
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    return session(build(model.config, 512, weights).SerializeToString(), weights, threads=1)


def coarse(model: Trunk) -> onnxruntime.InferenceSession:
    weights = {name: packed(weight.detach().numpy(), 8) for name, weight in model.named_parameters()}
    return session(build(model.config, 512, weights).SerializeToString(), weights, threads=1)


def example(model: Trunk, cached: int, n: int, m: int) -> tuple[torch.Tensor, ...]:
    """Arguments of `step`: random tokens over a random memory."""
    config = model.config
    torch.manual_seed(cached + n)
    tokens, ngrams = torch.randint(config.vocab, (n,)), torch.randint(max(1, config.ngram_buckets), (n, 2))
    memory = (torch.randn(config.layers, config.kv_heads, cached, config.head_dim) for _ in range(2))
    bias = torch.full((n, cached + n), -1e4).triu(cached + 1)
    return (tokens, ngrams, torch.arange(cached, cached + n), *memory, bias, torch.arange(n - m, n))


def outputs(session: onnxruntime.InferenceSession, inputs: tuple[torch.Tensor, ...]) -> dict[str, np.ndarray]:
    tokens, ngrams, positions, keys, values, bias, rows = (value.numpy() for value in inputs)
    feed = {"tokens": tokens, "ngrams": ngrams, "positions": positions, "bias": bias, "rows": rows}
    feed["lengths"] = np.array([keys.shape[2], len(tokens)])
    feed |= {f"keys.{layer}": part for layer, part in enumerate(keys)}
    feed |= {f"values.{layer}": part for layer, part in enumerate(values)}
    feed = {each.name: feed[each.name] for each in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def test_a_trunk_without_canvases_writes_into_the_memory_it_reads(llama: Trunk) -> None:
    weights = {name: weight.detach().numpy() for name, weight in llama.named_parameters()}
    graph = build(llama.config, 512, weights, canvases=False).SerializeToString()
    passes = OnnxPasses(session(graph, weights, threads=1), ModelShape(context=256, canvas=0, ngram_buckets=0))
    inputs = example(llama, 0, 90, 90)
    tokens = inputs[0].tolist()
    logits = step(llama, *inputs)[0]
    ways = [(40, 1), (1, 1), (9, 9), (30, 3)]  # tokens of a pass, and rows that are asked for
    for count, results in ways:
        start = len(passes.sequence)
        rows = passes.forward(tokens[start : start + count], [], results)
        end = start + count
        np.testing.assert_allclose(rows.logits, logits[end - results : end].numpy(), atol=1e-4, rtol=1e-4)
        assert rows.tokens == logits[end - results : end].argmax(-1).tolist()
    passes.forget(50)  # and what was there is written over
    again = passes.forward(tokens[50:60], [], 2)
    np.testing.assert_allclose(again.logits, logits[58:60].numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("cached", "rows"), [(0, 1), (0, 40), (1, 1), (300, 9), (300, 70)])
@pytest.mark.parametrize("name", ["shipped", "llama"])
def test_onnx_float32_equals_torch(name: str, cached: int, rows: int, request: pytest.FixtureRequest) -> None:
    model: Trunk = request.getfixturevalue(name)
    inputs = example(model, cached, rows, min(3, rows))
    got = outputs(exact(model), inputs)
    logits, keys, values = step(model, *inputs)
    expected = {"logits": logits, "probability": logits.softmax(-1).amax(-1)}
    expected |= {f"new_keys.{layer}": part for layer, part in enumerate(keys)}
    expected |= {f"new_values.{layer}": part for layer, part in enumerate(values)}
    for output, value in expected.items():
        np.testing.assert_allclose(got[output], value.numpy(), atol=1e-4, rtol=1e-4, err_msg=output)
    assert got["token"].tolist() == logits.argmax(-1).tolist()


def test_int8_stays_near_float32(shipped: Trunk) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    tokens = Tokenizer.load(WEIGHTS / "nano" / "tokenizer.json").encode(text)[:300]
    previous = np.array([PAD, PAD, *tokens])
    ngrams = hashed_ngrams(previous[2:], previous[1:-1], previous[:-2], shipped.config.ngram_buckets)
    inputs = list(example(shipped, 0, len(tokens), len(tokens)))
    inputs[:2] = torch.tensor(tokens), torch.from_numpy(ngrams)
    right, near = (outputs(made(shipped), tuple(inputs))["token"] for made in (exact, coarse))
    agreement = float((right == near).mean())
    print(f"int8 chooses the token of float32 at {agreement:.1%} of {len(tokens)} places of a source file")
    assert agreement > 0.95


def test_a_row_does_not_depend_on_the_rows_beside_it(shipped: Trunk) -> None:
    tokens, ngrams, positions, keys, values, _, _ = example(shipped, 20, 9, 9)
    alone = torch.zeros(1, 21)
    beside = torch.full((9, 29), -1e4)
    beside[:, :20] = 0
    beside[range(9), range(20, 29)] = 0
    loaded = coarse(shipped)
    whole = outputs(loaded, (tokens, ngrams, positions, keys, values, beside, torch.arange(9)))
    for i in range(9):
        row = tokens[i : i + 1], ngrams[i : i + 1], positions[i : i + 1], keys, values, alone, torch.arange(1)
        one = outputs(loaded, row)
        error = np.abs(one["logits"][0] - whole["logits"][i]).max()
        assert error < 0.1 * whole["logits"][i].std()  # one activation rounded the other way, and no more


def test_all_that_ships_is_at_most_30_megabytes() -> None:
    sizes = {path.name: path.stat().st_size / 1e6 for path in (WEIGHTS / "nano").iterdir()}
    print(sizes)
    assert sum(sizes.values()) <= 30
    assert {"graph.onnx", "model.safetensors", "tokenizer.json", "config.json", "README.md"} <= sizes.keys()
