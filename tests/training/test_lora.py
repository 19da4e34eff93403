"""An adapter begins as no change, trains alone, and what `engine get` merges is what was trained."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.get import Change
from engine.models.trunk import Trunk, TrunkConfig
from engine.training.lora import Adapter

LLAMA = TrunkConfig(vocab=64, dim=32, layers=2, heads=4, shared=2, head_dim=8, mlp=48, qkv_bias=True)


def made() -> Trunk:
    torch.manual_seed(0)
    trunk = Trunk(LLAMA)
    for weight in trunk.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return trunk.eval()


def hidden(trunk: Trunk) -> torch.Tensor:
    tokens = torch.arange(2, 40)[None]
    mask = torch.ones(1, 1, 8, 38, dtype=torch.bool)
    return trunk(tokens, torch.arange(38)[None], mask)


def test_what_is_merged_is_what_was_trained(tmp_path: Path) -> None:
    plain, trunk = made(), made()
    before = {name: weight.detach().clone() for name, weight in plain.named_parameters()}
    adapter = Adapter(trunk, rank=4)
    assert torch.equal(hidden(trunk), hidden(plain))
    learning = {name for name, weight in trunk.named_parameters() if weight.requires_grad}
    assert len(learning) == len(list(adapter.parameters()))
    assert all(".update." in name or name.endswith("special") for name in learning)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    adapter.save(tmp_path / "adapter.safetensors")
    change = Change.load(tmp_path / "adapter.safetensors")
    with torch.no_grad():
        for name, weight in plain.named_parameters():
            found = before[name].numpy()
            merged = change.embedding(found) if name == "embed.weight" else change.of(name, found)
            weight.copy_(torch.from_numpy(merged))
        assert torch.allclose(hidden(trunk), hidden(plain), atol=2e-2)
        assert not torch.allclose(hidden(trunk), hidden(made()), atol=2e-2)
    again = Adapter(made(), rank=4)
    again.load(tmp_path / "adapter.safetensors")
    for mine, theirs in zip(again.parameters(), adapter.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-3)
