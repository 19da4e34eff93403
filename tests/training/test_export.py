"""What is exported computes what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from trunk_pass import step

from engine.backends.kv_cache import ModelShape
from engine.backends.onnx import OnnxRunner, session
from engine.backends.torch_runner import read_model
from engine.embedded import WEIGHTS, Embedded
from engine.models.trunk import Trunk, TrunkConfig
from engine.training.export import packed
from engine.training.graph import build

SHAPE = {"vocab": 500, "dim": 96, "layers": 2, "heads": 6, "shared": 3, "head_dim": 16, "mlp": 128}
LLAMA = TrunkConfig(**SHAPE)


@pytest.fixture(scope="module")
def llama() -> Trunk:
    torch.manual_seed(1)
    model = Trunk(LLAMA)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model.eval()


def example(model: Trunk, cached: int, n: int, m: int) -> tuple[torch.Tensor, ...]:
    """Arguments of `step`: random tokens over a random memory."""
    config = model.config
    torch.manual_seed(cached + n)
    tokens = torch.randint(config.vocab, (n,))
    memory = (torch.randn(config.layers, config.kv_heads, cached, config.head_dim) for _ in range(2))
    bias = torch.full((n, cached + n), -1e4).triu(cached + 1)
    return (tokens, torch.arange(cached, cached + n), *memory, bias, torch.arange(n - m, n))


def test_a_pass_writes_into_the_memory_it_reads(llama: Trunk) -> None:
    weights = {name: weight.detach().numpy() for name, weight in llama.named_parameters()}
    graph = build(llama.config, 512, weights).SerializeToString()
    passes = OnnxRunner(session(graph, weights, threads=1), ModelShape(context=256))
    inputs = example(llama, 0, 90, 90)
    tokens = inputs[0].tolist()
    logits = step(llama, *inputs)[0]
    ways = [(40, 1), (1, 1), (9, 9), (30, 3)]  # tokens of a pass, and rows that are asked for
    for count, results in ways:
        start = len(passes.sequence)
        rows = passes.forward(tokens[start : start + count], results)
        end = start + count
        np.testing.assert_allclose(rows.logits, logits[end - results : end].numpy(), atol=1e-4, rtol=1e-4)
        assert rows.tokens == logits[end - results : end].argmax(-1).tolist()
    passes.truncate(50)  # and what was there is written over
    again = passes.forward(tokens[50:60], 2)
    np.testing.assert_allclose(again.logits, logits[58:60].numpy(), atol=1e-4, rtol=1e-4)


def passes_of(model: Trunk, bits: int) -> OnnxRunner:
    """Matrices of so many bits; 0: of floats."""
    parts = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    weights = {name: packed(weight, bits) if bits else weight for name, weight in parts.items()}
    made = session(build(model.config, 512, weights).SerializeToString(), weights, threads=1)
    return OnnxRunner(made, ModelShape(context=384))


def test_int8_stays_near_float32(small: Embedded) -> None:
    tokens = small._tokenizer.encode(Path(__file__).read_text(encoding="utf-8"))[:300]
    trunk = read_model(WEIGHTS / "small" / "model.safetensors")
    right, near = (passes_of(trunk, bits).forward(tokens, len(tokens)).tokens for bits in (0, 8))
    agreement = float((np.array(right) == near).mean())
    print(f"int8 chooses the token of float32 at {agreement:.1%} of {len(tokens)} places of a source file")
    assert agreement > 0.9


def test_a_row_does_not_depend_on_the_rows_beside_it(llama: Trunk) -> None:
    tokens = torch.randint(LLAMA.vocab, (20,)).tolist()
    together, apart = passes_of(llama, 8), passes_of(llama, 8)
    whole = together.forward(tokens, len(tokens)).logits
    for row, token in enumerate(tokens):
        error = np.abs(apart.forward([token], 1).logits[0] - whole[row]).max()
        assert error < 0.1 * whole[row].std()  # one activation rounded the other way, and no more
