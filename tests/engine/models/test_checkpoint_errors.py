"""Each way a checkpoint can be bad is one sentence that says what to do, before anything large is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch
from safetensors.torch import load_file, save_file

from engine.contract import EngineError
from engine.models import checkpoint
from engine.models.family import Infill
from engine.models.vocabulary import Vocabulary

CPU = torch.device("cpu")


@pytest.fixture
def sdar(tmp_path: Path) -> Path:
    return tiny.FAMILIES["sdar"](tmp_path)[0]


def said(name: str | Path) -> str:
    with pytest.raises(EngineError) as failure:
        checkpoint.load(str(name), checkpoint.read_config(str(name)), CPU, torch.float32)
    message = str(failure.value)
    assert "\n" not in message
    return message


def test_no_such_model() -> None:
    assert "no model 'qwen'" in said("qwen")


def test_a_folder_without_config(tmp_path: Path) -> None:
    assert "has no config.json" in said(tmp_path)


def test_a_damaged_config(sdar: Path) -> None:
    (sdar / "config.json").write_text("{")
    assert "cannot be read" in said(sdar)


def test_an_unknown_architecture_says_what_is_known(sdar: Path) -> None:
    (sdar / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    message = said(sdar)
    assert "'mamba'" in message
    assert "DreamOn" in message and "LLaDA" in message


def test_an_autoregressive_checkpoint_is_not_taken_for_a_diffusion_model(tmp_path: Path) -> None:
    folder, _ = tiny.llama(tmp_path / "Llama-2-7b", {})
    assert "'llama'" in said(folder)


def test_a_config_that_lacks_something(sdar: Path) -> None:
    config = json.loads((sdar / "config.json").read_text())
    del config["hidden_size"]
    (sdar / "config.json").write_text(json.dumps(config))
    assert "lacks 'hidden_size'" in said(sdar)


def test_positions_scaled_in_an_unknown_way(sdar: Path) -> None:
    config = json.loads((sdar / "config.json").read_text()) | {"rope_parameters": {"rope_type": "longrope"}}
    (sdar / "config.json").write_text(json.dumps(config))
    assert "'longrope'" in said(sdar)


@pytest.mark.parametrize(
    "change", [{"hidden_size": "32"}, {"num_attention_heads": 0}, {"num_key_value_heads": 3}, {"vocab_size": -1}]
)
def test_a_config_that_makes_no_sense(sdar: Path, change: dict[str, object]) -> None:
    config = json.loads((sdar / "config.json").read_text()) | change
    (sdar / "config.json").write_text(json.dumps(config))
    assert "describes no SDAR model" in said(sdar)


@pytest.mark.parametrize("change", [{"hidden_act": "gelu"}, {"attention_bias": True}, {"use_sliding_window": True}])
def test_what_the_transformer_does_not_do_is_not_ignored(sdar: Path, change: dict[str, object]) -> None:
    config = json.loads((sdar / "config.json").read_text()) | change
    (sdar / "config.json").write_text(json.dumps(config))
    assert next(iter(change)) in said(sdar)


def test_a_missing_shard(sdar: Path) -> None:
    tiny.shard(sdar)
    (sdar / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in said(sdar)


def test_no_weights_at_all(sdar: Path) -> None:
    (sdar / "model.safetensors").unlink()
    assert "safetensors only" in said(sdar)


def test_damaged_weights(sdar: Path) -> None:
    (sdar / "model.safetensors").write_bytes((sdar / "model.safetensors").read_bytes()[:1000])
    assert "is damaged" in said(sdar)


def test_a_missing_weight(sdar: Path) -> None:
    weights = load_file(sdar / "model.safetensors")
    del weights["model.layers.1.self_attn.q_norm.weight"]
    save_file(weights, sdar / "model.safetensors")
    assert "no weight model.layers.1.self_attn.q_norm.weight" in said(sdar)


@pytest.mark.parametrize(
    "name", ["model.norm.weight", "model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.q_proj.weight"]
)
def test_a_wrong_shape_names_the_weight(sdar: Path, name: str) -> None:
    weights = load_file(sdar / "model.safetensors")
    weights[name] = weights[name][:-1].clone()
    save_file(weights, sdar / "model.safetensors")
    message = said(sdar)
    assert name in message
    assert "shape" in message


def test_too_little_memory_is_found_before_weights_are_looked_for(sdar: Path) -> None:
    config = json.loads((sdar / "config.json").read_text()) | {"hidden_size": 65536, "intermediate_size": 262144}
    (sdar / "config.json").write_text(json.dumps(config))
    (sdar / "model.safetensors").unlink()
    assert "GB are free" in said(sdar)


def test_a_time_conditioned_model(tmp_path: Path) -> None:
    folder, _ = tiny.dit(tmp_path / "mdlm", {"model_type": "mdlm", "time_conditioning": True})
    assert "without time conditioning" in said(folder)


def test_no_tokenizer(sdar: Path) -> None:
    (sdar / "tokenizer.json").unlink()
    with pytest.raises(EngineError, match="neither tokenizer"):
        Vocabulary.load(sdar, Infill(mask=tiny.MASK))


def test_no_mask_token(sdar: Path) -> None:
    (sdar / "tokenizer_config.json").write_text("{}")
    with pytest.raises(EngineError, match="names no mask token"):
        Vocabulary.load(sdar, Infill())
