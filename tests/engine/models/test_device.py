"""What a GPU needs, proven without one: everything stays on the model's device, and passes compile without breaks."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import tiny_checkpoints as tiny
import torch

from engine.decoding import sampling
from engine.decoding.canvas import Question
from engine.decoding.sampling import Sampling
from engine.models import checkpoint, registry
from engine.models.transformer import Transformer

FAMILIES = ["dream", "sdar-yarn", "diffugpt", "mdlm", "fast-dllm-v2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_and_its_guess_stay_on_the_device(family: str, tmp_path: Path) -> None:
    """On the device `meta` an operation with a tensor of the CPU fails, as it would on a GPU."""
    folder, _ = tiny.FAMILIES[family](tmp_path)
    shape = registry.plan(checkpoint.read_config(str(folder)), str(folder)).shape
    with torch.device("meta"):
        model = Transformer(shape)
    with torch.inference_mode():
        tokens = torch.zeros(1, 26, dtype=torch.long, device="meta")
        logits = model(tokens, model.memory(64), start=6, total=60, wanted=slice(2, 12))
        assert logits.shape == (1, 10, shape.vocab)
        question = Question([1], [0] * 10, [], banned=[3], forced=(0, [1, 2]))
        for picks in (Sampling(), Sampling(0.5, 0.9)):
            assert sampling.summary(logits[0], question, picks, None).device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):
        model(torch.zeros(1, 26, dtype=torch.long), model.memory(64))


@pytest.mark.parametrize("family", FAMILIES)
def test_passes_compile_whole_and_once_for_all_lengths(family: str, tmp_path: Path) -> None:
    folder, _ = tiny.FAMILIES[family](tmp_path)
    name = str(folder)
    model = checkpoint.load(name, checkpoint.read_config(name), torch.device("cpu"), torch.float32).model
    ids = torch.randint(4, 300, (1, 40), generator=torch.Generator().manual_seed(2))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)  # a break raises
    with torch.inference_mode():
        memory = model.memory(64)
        whole = model(ids, memory)
        for begin, end in ((16, 33), (17, 35), (3, 37), (9, 40)):
            assert torch.allclose(compiled(ids[:, begin:end], memory, begin, 40), whole[:, begin:end], atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_weights_are_read_in_the_type_asked_for(tmp_path: Path) -> None:
    folder, _ = tiny.FAMILIES["dream"](tmp_path)
    name = str(folder)
    model = checkpoint.load(name, checkpoint.read_config(name), torch.device("cpu"), torch.bfloat16).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.memory(8).dtype == torch.bfloat16
    assert msgspec.structs.asdict(model.shape)["vocab"] == tiny.VOCAB
