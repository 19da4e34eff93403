"""Each way a checkpoint can be bad is one sentence that says what to do, before anything large is read."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine import public
from engine.contract import EngineError, FillRequest
from engine.models import checkpoint
from engine.models.family import InfillFormat
from engine.models.transformer import LEAST_CONTEXT
from engine.models.validation import LARGEST_BLOCK
from engine.models.vocabulary import Vocabulary

CPU = torch.device("cpu")


@pytest.fixture
def sdar(tmp_path: Path) -> Path:
    return tiny.FAMILIES["sdar"](tmp_path)[0]


def load(name: str | Path, family: str | None = None) -> checkpoint.Checkpoint:
    return checkpoint.load(str(name), checkpoint.read_config(str(name)), CPU, torch.float32, family)


def said(name: str | Path, family: str | None = None) -> str:
    with pytest.raises(EngineError) as failure:
        load(name, family)
    message = str(failure.value)
    assert "\n" not in message
    return message


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def change_weight(folder: Path, name: str, change: Callable[[Tensor], Tensor]) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name] = change(weights[name]).contiguous()
    save_file(weights, folder / "model.safetensors")


def test_no_such_model() -> None:
    assert "no model 'qwen'" in said("qwen")


def test_a_folder_without_config(tmp_path: Path) -> None:
    assert "has no config.json" in said(tmp_path)


def test_a_damaged_config(sdar: Path) -> None:
    (sdar / "config.json").write_text("{")
    assert "is damaged" in said(sdar)


def test_an_unknown_architecture_says_what_is_known(sdar: Path) -> None:
    (sdar / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    message = said(sdar)
    assert "'mamba'" in message
    assert "DreamOn" in message and "LLaDA" in message


def test_a_config_that_several_families_share_asks_which(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, _ = tiny.llama(tmp_path / "diffullama", {"mask_token_id": tiny.MASK})
    message = said(folder)
    assert "--family diffullama (DiffuLLaMA)" in message
    assert "--family stable-diffcoder" in message
    with caplog.at_level("INFO", "engine"):
        load(folder, "diffullama")
    assert "is DiffuLLaMA: every row sees every row" in caplog.text
    assert "possible are: stable-diffcoder, diffullama" in said(folder, "dream")


@pytest.mark.parametrize("name", ["m1", "bd3lm", "mdlm"])
def test_the_config_decides_the_mask_whatever_the_folder_is_called(name: str, tmp_path: Path) -> None:
    folder, _ = tiny.qwen3(tmp_path / name, {"model_type": "a2d-qwen3", "block_size": 8})
    assert load(folder).plan.shape.block == 8
    folder, _ = tiny.qwen3(tmp_path / name, {"model_type": "a2d-qwen3"})
    assert "--family tiny-a2d-blocks" in said(folder)
    assert load(folder, "tiny-a2d").plan.shape.block == 0
    assert load(folder, "tiny-a2d-blocks").plan.shape.block == 32


def test_a_tokenizer_that_expands_makes_a_dream_a_dreamon(tmp_path: Path) -> None:
    folder, _ = tiny.qwen2(tmp_path / "m1", tiny.DREAM)
    assert load(folder).plan.infill.expand == tiny.EXPAND
    (folder / "tokenizer.json").write_text(tiny.tokenizer_json(False).replace("<|expand|>", "<|other|>"))
    assert load(folder).plan.infill.expand is None


def test_a_config_that_lacks_something(sdar: Path) -> None:
    config = json.loads((sdar / "config.json").read_text())
    del config["hidden_size"]
    (sdar / "config.json").write_text(json.dumps(config))
    assert "lacks 'hidden_size'" in said(sdar)


def test_positions_scaled_in_an_unknown_way(sdar: Path) -> None:
    change_config(sdar, rope_parameters={"rope_type": "longrope"})
    assert "'longrope'" in said(sdar)
    change_config(sdar, rope_parameters={**tiny.LINEAR, "mscale": 2.0})
    assert "'linear' with mscale" in said(sdar)
    change_config(sdar, rope_parameters={"partial_rotary_factor": 0.5})
    assert "'default' with partial_rotary_factor" in said(sdar)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": "32"},
        {"num_attention_heads": 0},
        {"num_key_value_heads": 3},
        {"vocab_size": -1},
        {"block_size": 0},
        {"block_size": 10**6},
        {"block_size": "8"},
        {"head_dim": 15},
        {"rms_norm_eps": None},
        {"rms_norm_eps": math.nan},
        {"rope_parameters": [1]},
        {"tie_word_embeddings": "yes"},
        {"mask_token_id": "3"},
        {"mask_token_id": 3.5},
        {"mask_token_id": True},
        {"hidden_size": 10**12},
        {"vocab_size": 10**18},
        {"num_attention_heads": 10**9, "num_key_value_heads": 10**9},
        {"num_hidden_layers": 2 * 10**6},
        {"max_position_embeddings": 4},
        {"max_position_embeddings": 10**12},
        {"max_position_embeddings": 128, "block_size": 128},
    ],
)
def test_a_config_that_makes_no_sense(sdar: Path, change: dict[str, object]) -> None:
    change_config(sdar, **change)
    assert "describes no SDAR model" in said(sdar)


@pytest.mark.parametrize("option", ["mask_token_id", "expand_token_id", "delete_token_id"])
@pytest.mark.parametrize("token", ["3", 3.5, [3], {}])
def test_a_token_id_that_is_none(option: str, token: object, tmp_path: Path) -> None:
    folder = tiny.FAMILIES["dreamon"](tmp_path)[0]
    change_config(folder, **{option: token})
    assert "Expected `int | null`, got" in said(folder)


@pytest.mark.parametrize("layers", [("sdar", "num_hidden_layers"), ("llada", "n_layers"), ("mdlm", "n_blocks")])
def test_more_layers_than_can_be_named(layers: tuple[str, str], tmp_path: Path) -> None:
    family, option = layers
    folder = tiny.FAMILIES[family](tmp_path)[0]
    change_config(folder, **{option: 10**9})
    assert "1000000000 layers" in said(folder)


@pytest.mark.parametrize("change", [{"mask_token_id": tiny.EOS}, {"expand_token_id": tiny.MASK}])
def test_a_mask_that_is_another_mark_too(change: dict[str, object], tmp_path: Path) -> None:
    folder = tiny.FAMILIES["dreamon"](tmp_path)[0]
    change_config(folder, **change)
    assert "as its mask, and to end a text" in said(folder)


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("dreamon", {"max_position_embeddings": LEAST_CONTEXT}),
        ("llada", {"max_sequence_length": LEAST_CONTEXT}),
        ("sdar", {"max_position_embeddings": LEAST_CONTEXT, "block_size": LEAST_CONTEXT // 2}),
        ("sdar", {"max_position_embeddings": 2 * LARGEST_BLOCK, "block_size": LARGEST_BLOCK}),
    ],
)
def test_the_least_context_is_enough_to_fill(family: str, change: dict[str, object], tmp_path: Path) -> None:
    folder = tiny.FAMILIES[family](tmp_path)[0]
    change_config(folder, **change)
    read = load(folder)
    request = FillRequest(prefix=tiny.TEXT * 9, suffix=tiny.TEXT, max_tokens=12, copies=False)
    assert public.make_backend(read, public.make_runner(read)).fill(request, threading.Event()).tokens > 0


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("sdar", {"hidden_act": "gelu"}),
        ("dream", {"attention_bias": True}),
        ("open-dcoder", {"use_sliding_window": True}),
        ("sdar", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("diffugpt", {"activation_function": "relu"}),
        ("diffugpt", {"scale_attn_by_inverse_layer_idx": True}),
        ("llada", {"block_type": "sequential"}),
        ("llada", {"attention_layer_norm": True}),
        ("llada", {"layer_norm_type": "default"}),
        ("llada", {"scale_logits": True}),
        ("llada", {"include_bias": True}),
        ("llada", {"clip_qkv": 8.0}),
        ("mdlm", {"time_conditioning": True}),
        ("bd3lm", {"causal": True}),
        ("stable-diffcoder", {"mlp_bias": True}),
    ],
)
def test_what_the_transformer_does_not_do_is_not_ignored(
    family: str, change: dict[str, object], tmp_path: Path
) -> None:
    folder = tiny.FAMILIES[family](tmp_path)[0]
    change_config(folder, **change)
    assert next(iter(change)) in said(folder)


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


def test_a_weight_that_is_a_single_number_names_it(sdar: Path) -> None:
    change_weight(sdar, "model.embed_tokens.weight", lambda weight: weight[0, 0].clone())
    assert "model.embed_tokens.weight and its companions" in said(sdar)


def test_too_little_memory_is_found_before_weights_are_looked_for(sdar: Path) -> None:
    config = json.loads((sdar / "config.json").read_text()) | {"hidden_size": 65536, "intermediate_size": 262144}
    (sdar / "config.json").write_text(json.dumps(config))
    (sdar / "model.safetensors").unlink()
    assert "GB are free" in said(sdar)


@pytest.mark.parametrize(
    "index", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"model.norm.weight": "../model.safetensors"}}']
)
def test_an_index_that_is_none(sdar: Path, index: str) -> None:
    tiny.shard(sdar)
    (sdar / "model.safetensors.index.json").write_text(index)
    assert "is damaged" in said(sdar)


def test_an_index_that_promises_too_much(sdar: Path) -> None:
    tiny.shard(sdar)
    path = sdar / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    files = {"model-00001-of-00002.safetensors": 2, "model-00002-of-00002.safetensors": 1}
    swapped = {name: f"model-0000{files[file]}-of-00002.safetensors" for name, file in index["weight_map"].items()}
    path.write_text(json.dumps({"weight_map": swapped}))
    assert "has no model." in said(sdar)


def test_weights_that_nothing_uses(sdar: Path) -> None:
    weights = load_file(sdar / "model.safetensors")
    save_file({**weights, "model.layers.0.self_attn.q_proj.bias": torch.zeros(4)}, sdar / "model.safetensors")
    assert "does not mean: model.layers.0.self_attn.q_proj.bias" in said(sdar)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.int32])
def test_weights_of_a_type_that_means_something_else(sdar: Path, kind: torch.dtype) -> None:
    change_weight(sdar, "model.layers.0.mlp.down_proj.weight", lambda weight: weight.to(kind))
    message = said(sdar)
    assert "model.layers.0.mlp.down_proj.weight" in message
    assert "stored as" in message or "without a scale" in message


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers(sdar: Path, value: float) -> None:
    change_weight(sdar, "model.layers.1.mlp.up_proj.weight", lambda weight: weight.masked_fill(weight > 0.5, value))
    assert "no numbers" in said(sdar)


def test_weights_that_config_ties_and_the_file_does_not(tmp_path: Path) -> None:
    folder = tiny.FAMILIES["open-dcoder"](tmp_path)[0]
    weights = load_file(folder / "model.safetensors")
    embed = weights["model.embed_tokens.weight"]
    save_file({**weights, "lm_head.weight": embed.clone()}, folder / "model.safetensors")
    assert load(folder).plan.shape.tied
    save_file({**weights, "lm_head.weight": embed.flip(0)}, folder / "model.safetensors")
    assert "lm_head.weight of" in said(folder) and "differ" in said(folder)


@pytest.mark.parametrize("family", ["sdar", "llada", "mdlm"])
def test_token_ids_without_an_embedding(family: str, tmp_path: Path) -> None:
    folder = tiny.FAMILIES[family](tmp_path)[0]
    change_config(folder, mask_token_id=tiny.VOCAB + 7)
    assert f"{tiny.VOCAB} embeddings and a token of id {tiny.VOCAB + 7}" in said(folder)
    change_config(folder, mask_token_id=-1)
    assert "embeddings and a token" in said(folder)


@pytest.mark.parametrize("family", ["sdar", "dream", "tiny-a2d-qwen2"])
def test_a_vocabulary_smaller_than_the_tokenizers(family: str, tmp_path: Path) -> None:
    folder = tiny.FAMILIES[family](tmp_path)[0]
    change_config(folder, vocab_size=tiny.VOCAB // 2)
    assert f"{tiny.VOCAB // 2} embeddings and a token of id" in said(folder)


@pytest.mark.parametrize(
    "how",
    [
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "bitsandbytes"},
        {"quant_method": "fp8"},
        {"quant_method": "fp8", "weight_block_size": [16]},
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": {"0": {}}},
        "int8",
    ],
)
def test_a_quantisation_that_is_not_read(sdar: Path, how: object) -> None:
    change_config(sdar, quantization_config=how)
    assert "quantised in a way that Inpaint does not read" in said(sdar)


def test_no_tokenizer(sdar: Path) -> None:
    (sdar / "tokenizer.json").unlink()
    with pytest.raises(EngineError, match="neither tokenizer"):
        Vocabulary.load(sdar, InfillFormat(mask=tiny.MASK))


def test_no_mask_token(sdar: Path) -> None:
    (sdar / "tokenizer_config.json").write_text("{}")
    with pytest.raises(EngineError, match="names no mask token"):
        Vocabulary.load(sdar, InfillFormat())
