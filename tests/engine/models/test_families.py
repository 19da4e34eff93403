"""Every family's logits equal an independent implementation's, with and without cached keys and values."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch
from torch import Tensor

from engine.models import checkpoint

CPU = torch.device("cpu")
TOLERANCE = 1e-4
IDS = torch.randint(4, tiny.VOCAB, (1, 26), generator=torch.Generator().manual_seed(0))


def load(folder: Path) -> checkpoint.Checkpoint:
    return checkpoint.load(str(folder), checkpoint.read_config(str(folder)), CPU, torch.float32)


def close(ours: Tensor, theirs: Tensor) -> None:
    assert (ours - theirs).abs().max() < TOLERANCE
    assert theirs.std() > 0.1  # the comparison is of something


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_logits_equal_an_independent_implementation(family: str, tmp_path: Path) -> None:
    folder, reference = tiny.FAMILIES[family](tmp_path)
    model = load(folder).model
    close(tiny.passed(model, IDS, model.memory(IDS.shape[1])), reference(IDS))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_rows_over_cached_neighbours_equal_the_whole_pass(family: str, tmp_path: Path) -> None:
    """Prefix and suffix cached (or, where later blocks are hidden, the prefix only), the rows between them passed
    again.
    """
    folder, reference = tiny.FAMILIES[family](tmp_path)
    model = load(folder).model
    memory = model.memory(40)
    tiny.passed(model, IDS, memory)
    close(tiny.passed(model, IDS[:, 8:16], memory, start=8, total=26), reference(IDS)[:, 8:16])
    close(tiny.passed(model, IDS[:, 8:], memory, start=8), reference(IDS)[:, 8:])


@pytest.mark.parametrize("family", ["sdar", "bd3lm", "stable-diffcoder", "fast-dllm-v2", "tiny-a2d-blocks"])
def test_a_prefix_of_whole_blocks_is_cached_exactly_whatever_follows(family: str, tmp_path: Path) -> None:
    folder, reference = tiny.FAMILIES[family](tmp_path)
    model = load(folder).model
    memory = model.memory(40)
    tiny.passed(model, torch.cat((IDS[:, :16], IDS.flip(1)[:, :8]), dim=1), memory)
    close(tiny.passed(model, IDS[:, 16:24], memory, start=16), reference(IDS[:, :24])[:, 16:])


def test_sharded_weights_in_another_type_are_the_same(tmp_path: Path) -> None:
    folder, reference = tiny.FAMILIES["sdar"](tmp_path)
    tiny.shard(folder)
    model = load(folder).model
    close(tiny.passed(model, IDS, model.memory(26)), reference(IDS))
    half = checkpoint.load(str(folder), checkpoint.read_config(str(folder)), CPU, torch.bfloat16).model
    logits = tiny.passed(half, IDS, half.memory(26))
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - reference(IDS)).abs().mean() < 0.2 * reference(IDS).abs().mean()


def test_the_plans_say_what_the_families_need(tmp_path: Path) -> None:
    plans = {name: load(make(tmp_path / name)[0]).plan for name, make in tiny.FAMILIES.items()}
    shifted = {name for name, plan in plans.items() if plan.infill.shift}
    assert shifted == {"dream", "dreamon", "open-dcoder", "fast-dllm-v2", "diffullama", "diffugpt", *tiny.CAUSAL}
    blocks = {name: plan.shape.block for name, plan in plans.items() if plan.shape.block}
    assert blocks == {
        **dict.fromkeys(tiny.CAUSAL, 1),
        "fast-dllm-v2": 8,
        "tiny-a2d-blocks": 8,
        "sdar": 4,
        "stable-diffcoder": 4,
        "bd3lm": 4,
    }
    assert {name for name, plan in plans.items() if not plan.infill.suffix} == set(blocks)
    assert plans["dreamon"].infill.expand == tiny.EXPAND
    assert plans["mdlm"].infill.mask == tiny.VOCAB - 1
