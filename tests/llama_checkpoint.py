"""small as a hub would have it: the same weights as a Llama checkpoint, for transformers to read."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.backends.torch_runner import read_model
from engine.models.trunk import Trunk, TrunkConfig
from engine.tokenizer import BOS, EOM, SPECIALS


def write(model: Path, out: Path) -> None:
    """From the folder of an exported model."""
    trunk = read_model(model / "model.safetensors")
    theirs = LlamaForCausalLM(config(trunk.config)).bfloat16()
    theirs.load_state_dict(weights(trunk))
    theirs.save_pretrained(out)
    ends = {"bos_token": SPECIALS[BOS], "eos_token": SPECIALS[EOM]}
    PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"), **ends).save_pretrained(out)


def config(ours: TrunkConfig) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=ours.vocab,
        hidden_size=ours.dim,
        num_hidden_layers=ours.layers,
        num_attention_heads=ours.heads,
        num_key_value_heads=ours.kv_heads,
        head_dim=ours.head_dim,
        intermediate_size=ours.mlp,
        rms_norm_eps=ours.eps,
        rope_parameters={"rope_type": "default", "rope_theta": ours.rope_base},
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOM,
    )


def weights(trunk: Trunk) -> dict[str, Tensor]:
    """By transformers' names."""
    ours = trunk.state_dict()
    found = {"model.embed_tokens.weight": ours["embed.weight"], "model.norm.weight": ours["norm.weight"]}
    found["lm_head.weight"] = ours["embed.weight"]
    for layer, block in enumerate(trunk.blocks):
        mine, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        qkv = zip("qkv", ours[f"{mine}.qkv.weight"].split(block.widths), strict=True)
        gate_up = zip(("gate", "up"), ours[f"{mine}.up.weight"].chunk(2), strict=True)
        found |= {f"{theirs}.self_attn.{part}_proj.weight": weight for part, weight in qkv}
        found |= {f"{theirs}.mlp.{part}_proj.weight": weight for part, weight in gate_up}
        found |= {
            f"{theirs}.input_layernorm.weight": ours[f"{mine}.norm.weight"],
            f"{theirs}.self_attn.o_proj.weight": ours[f"{mine}.out.weight"],
            f"{theirs}.post_attention_layernorm.weight": ours[f"{mine}.mlp_norm.weight"],
            f"{theirs}.mlp.down_proj.weight": ours[f"{mine}.down.weight"],
        }
    return found
