"""What is chosen for a device of a given memory, and what int8 weights cost in accuracy."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import tiny_checkpoints as tiny
import torch
from torch import nn

from engine.contract import EngineError
from engine.models import checkpoint, memory_plan, registry
from engine.models.int8 import Int8Linear, quantise
from engine.models.memory_plan import MemoryPlan
from engine.models.transformer import Shape

CUDA = torch.device("cuda")
DREAM_7B = Shape(
    vocab=152064, dim=3584, layers=28, heads=28, kv_heads=4, head_dim=128, mlp=18944, context=32768, qkv_bias=True
)
HALF_B = Shape(
    vocab=151936, dim=896, layers=24, heads=14, kv_heads=2, head_dim=64, mlp=4864, context=32768, qkv_bias=True,
    tied=True,
)  # fmt: skip


def chosen(shape: Shape, gigabytes: float) -> MemoryPlan:
    free = int(gigabytes * 1e9)
    found = memory_plan.fit(shape, torch.bfloat16, free, "some/model", CUDA)
    assert found.taken <= free
    return found


def test_a_large_card_gets_all_and_a_small_one_what_fits() -> None:
    large = chosen(DREAM_7B, 80)
    assert (large.int8, large.slots) == (False, memory_plan.SLOTS)
    assert large == chosen(DREAM_7B, 1000)
    assert chosen(DREAM_7B, 17).slots < memory_plan.SLOTS
    small = chosen(DREAM_7B, 12)
    assert small.int8
    assert small.weights < 0.6 * large.weights
    with pytest.raises(EngineError, match=r"some/model needs \d+\.\d GB on cuda, where 6.0 GB are free") as refused:
        chosen(DREAM_7B, 6)
    assert "no part of it is offloaded to the CPU or to disk" in str(refused.value)
    assert "--device cuda:0,cuda:1" in str(refused.value)


def test_two_cards_share_what_one_does_not_hold() -> None:
    """Each has half of the weights, in full."""
    shared = msgspec.structs.replace(DREAM_7B, ranks=2)
    found = chosen(shared, 12)
    assert not found.int8
    assert found.weights == chosen(DREAM_7B, 80).weights // 2
    assert chosen(DREAM_7B, 12).int8


def test_weights_are_counted_as_published() -> None:
    assert 15.2e9 < chosen(DREAM_7B, 80).weights < 15.3e9  # 7.6B parameters
    assert 0.98e9 < chosen(HALF_B, 80).weights < 1.0e9


def test_the_window_is_what_the_memory_and_the_model_hold() -> None:
    """A bidirectional model passes it in every request, a block-causal one only what is new."""
    in_blocks = msgspec.structs.replace(DREAM_7B, block=4)
    assert chosen(HALF_B, 80).window == chosen(DREAM_7B, 80).window == 2048
    assert chosen(in_blocks, 80).window == 8192
    assert chosen(in_blocks, 18).window < 8192
    assert memory_plan.fit(in_blocks, torch.float32, 10**12, "some/model", torch.device("cpu")).window == 2048
    short = chosen(msgspec.structs.replace(in_blocks, context=1024), 80)
    assert short.window + memory_plan.CANVAS == 1024
    assert short.capacity >= 1024


def test_dreamon_sees_no_more_than_it_was_trained_on() -> None:
    config = {**tiny.LLAMA_LIKE, **tiny.DREAM, "max_position_embeddings": 131072}
    marks = {"expand_token_id": tiny.EXPAND}, {"delete_token_id": tiny.EOS}
    for mark, context in ((marks[0], 2048), (marks[1], 2048), ({}, 131072)):
        shape = registry.plan({**config, **mark}, "some/model")[1].shape
        found = chosen(shape, 80)
        assert shape.context == context
        assert found.capacity <= context + 8


def test_what_was_chosen_is_a_sentence() -> None:
    assert str(chosen(HALF_B, 80)).startswith("0.99 GB of full weights, a window of 2048 tokens, 4 sequences at once: ")


def test_no_weight_in_int8_is_off_by_more_than_half_a_step_of_its_row() -> None:
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 40)[:, None]
    whole, scale = quantise(weight)
    assert whole.dtype == torch.int8
    off = (whole * scale[:, None] - weight).abs()
    assert bool((off <= weight.abs().amax(1, keepdim=True) / 254 * 1.001).all())
    assert bool((quantise(torch.zeros(2, 4))[0] == 0).all())


def test_an_int8_product_is_that_of_the_weights_it_stands_for() -> None:
    wide = nn.Linear(16, 8)
    narrow = Int8Linear(wide)
    whole, scale = quantise(wide.weight.detach())
    narrow.weight.data.copy_(whole)
    narrow.scale.copy_(scale)
    x = torch.randn(3, 16)
    expected = x @ (whole * scale[:, None]).T + wide.bias
    assert torch.allclose(narrow(x), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["dream", "llada", "diffugpt", "sdar"])
def test_a_checkpoint_in_int8_says_nearly_the_same(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reference = tiny.FAMILIES[family](tmp_path)
    config = checkpoint.read_config(str(folder))
    plain = checkpoint.load(str(folder), config, torch.device("cpu"), torch.float32)
    int8 = msgspec.structs.replace(plain.memory, int8=True)
    monkeypatch.setattr(memory_plan, "fit", lambda *_: int8)
    read = checkpoint.load(str(folder), config, torch.device("cpu"), torch.float32)
    assert any(isinstance(module, Int8Linear) for module in read.model.modules())
    ids = torch.randint(4, tiny.VOCAB, (1, 26), generator=torch.Generator().manual_seed(0))
    ours, theirs = tiny.passed(read.model, ids, read.model.memory(32)).softmax(-1), reference(ids).softmax(-1)
    off = (ours - theirs).abs().sum(-1).mean() / 2  # total variation of a row
    assert 0 < off < 0.03
