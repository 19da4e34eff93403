"""Writes an exported model's trunk as the folder that a hub would give, for whatever reads Llama checkpoints.

A trunk that is shaped as a Llama computes what a Llama does, left to right. The marks around a gap get names that
readers of fill-in-the-middle checkpoints know (Seed-Coder's, who has the suffix first too); what is ours alone, the
mark of the line's rest, stays behind.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from safetensors.torch import save_file
from torch import Tensor

from engine.backends.kv_cache import ModelShape
from engine.backends.torch_runner import read_model
from engine.contract import EngineError
from engine.models.trunk import Trunk, TrunkConfig
from engine.models.vocabulary import SUFFIX_FIRST
from engine.tokenizer import BOS, EOM, MID, PRE, SPECIALS, SUF

MARKS = dict(zip((SPECIALS[mark] for mark in (SUF, PRE, MID)), SUFFIX_FIRST, strict=True))


def write(model: Path, out: Path) -> None:
    """From the folder of an exported model. Raises EngineError where its trunk is shaped otherwise than a Llama."""
    trunk = read_model(model / "model.safetensors")
    shape = msgspec.json.decode((model / "config.json").read_bytes(), type=ModelShape)
    config = trunk.config
    if config.qkv_bias:
        raise EngineError(f"{model} is not shaped as a Llama; small is, and what is trained from its base")
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights(trunk), out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(llama(config, shape.context), indent=2))
    tokenizer = (model / "tokenizer.json").read_text(encoding="utf-8")
    for ours, theirs in MARKS.items():
        tokenizer = tokenizer.replace(json.dumps(ours), json.dumps(theirs))
    (out / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    special = {"bos_token": SPECIALS[BOS], "eos_token": SPECIALS[EOM], "tokenizer_class": "PreTrainedTokenizerFast"}
    (out / "tokenizer_config.json").write_text(json.dumps(special, indent=2))


def llama(config: TrunkConfig, context: int) -> dict[str, object]:
    """The config.json of the same model, by transformers' names."""
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": config.vocab,
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.mlp,
        "hidden_act": "silu",
        "rms_norm_eps": config.eps,
        "rope_theta": config.rope_base,
        "max_position_embeddings": context,
        "tie_word_embeddings": True,
        "bos_token_id": BOS,
        "eos_token_id": EOM,
    }


def weights(trunk: Trunk) -> dict[str, Tensor]:
    """All weights in bfloat16, by transformers' names."""
    ours, widths = trunk.state_dict(), trunk.blocks[0].widths
    found = {"model.embed_tokens.weight": ours["embed.weight"], "model.norm.weight": ours["norm.weight"]}
    for layer in range(trunk.config.layers):
        block, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        parts = zip("qkv", ours[f"{block}.qkv.weight"].split(widths), strict=True)
        found |= {f"{theirs}.self_attn.{part}_proj.weight": weight for part, weight in parts}
        found |= {
            f"{theirs}.input_layernorm.weight": ours[f"{block}.norm.weight"],
            f"{theirs}.self_attn.o_proj.weight": ours[f"{block}.out.weight"],
            f"{theirs}.post_attention_layernorm.weight": ours[f"{block}.mlp_norm.weight"],
            f"{theirs}.mlp.down_proj.weight": ours[f"{block}.down.weight"],
        }
        gate_up = zip(("gate", "up"), ours[f"{block}.up.weight"].chunk(2), strict=True)
        found |= {f"{theirs}.mlp.{part}_proj.weight": weight for part, weight in gate_up}
    return {name: weight.bfloat16().contiguous() for name, weight in found.items()}
