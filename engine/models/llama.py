"""Llama-like checkpoints: the layout that Qwen2 and Qwen3 share, Stable-DiffCoder and DiffuLLaMA."""

from __future__ import annotations

from typing import Any

from engine.contract import EngineError
from engine.models.family import (
    BLOCKS,
    BOTH_SIDES,
    ENDED,
    PROBED,
    CheckpointSource,
    Config,
    Family,
    InfillFormat,
    Plan,
    architectures,
    layered,
)
from engine.models.transformer import Shape

DIFFULLAMA_MASK = 811  # HKUNLP/DiffuLLaMA, DiffuLLaMA-training/train.py; its inputs begin with BOS (inf_diffullama.py)
STABLE_DIFFCODER_MASK = 5  # defaults of `generate_block` in the modeling file of ByteDance-Seed/Stable-DiffCoder
STABLE_DIFFCODER_BLOCK = 4
BUILT = {"hidden_act": ("silu",), "attention_bias": (False,), "mlp_bias": (False,), "use_sliding_window": (False,)}
ROTARY = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}


def shape(config: Config, **options: Any) -> Shape:
    """`options` are those of Shape that the family's configs do not say."""
    heads = config["num_attention_heads"]
    return Shape(
        **{
            "vocab": config["vocab_size"],
            "dim": config["hidden_size"],
            "layers": config["num_hidden_layers"],
            "heads": heads,
            "kv_heads": config.get("num_key_value_heads") or heads,
            "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
            "mlp": config["intermediate_size"],
            "context": config["max_position_embeddings"],
            "eps": config.get("rms_norm_eps", 1e-6),
            "tied": config.get("tie_word_embeddings", False),
            **rotary(config),
            **options,
        }
    )


def rotary(config: Config) -> dict[str, Any]:
    """The options of Shape about rotary positions, from either of transformers' two ways of writing them.

    Raises EngineError for what is not built.
    """
    scaling: dict[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    unknown = sorted(set(scaling) - ROTARY - ({"factor"} if kind == "linear" else set()))
    if scaling.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        unknown.append("partial_rotary_factor")
    if kind not in ("default", "linear") or unknown:
        how = " with ".join([repr(kind), *unknown])
        raise EngineError(f"the checkpoint scales its rotary positions by {how}, which Inpaint does not know")
    base = float(scaling.get("rope_theta") or config.get("rope_theta") or 10000.0)
    return {"rope_base": base, "rope_stretch": scaling["factor"] if kind == "linear" else 1.0}


def sources(shape: Shape) -> dict[str, CheckpointSource]:
    """Where transformers' Llama, Qwen2, Qwen3 and StarCoder2 keep each weight."""
    embed, head = "model.embed_tokens.weight", "lm_head.weight"
    found = {"embed.weight": CheckpointSource((f"{embed}|{head}" if shape.tied else embed,))}
    found["norm.weight"] = CheckpointSource(("model.norm.weight",))
    if not shape.tied:
        found["head.weight"] = CheckpointSource((head,))
    parts = {
        "attn_norm": ("input_layernorm",),
        "qkv": tuple(f"self_attn.{part}_proj" for part in "qkv"),
        "out": ("self_attn.o_proj",),
        "mlp_norm": ("post_attention_layernorm",),
        "up": ("mlp.gate_proj", "mlp.up_proj") if shape.gated else ("mlp.c_fc",),
        "down": ("mlp.down_proj" if shape.gated else "mlp.c_proj",),
    }
    if shape.qk_norm:
        parts |= {f"{part}_norm": (f"self_attn.{part}_norm",) for part in "qk"}
    norms, mlp = shape.norm_bias, shape.mlp_bias
    has = {"attn_norm": norms, "mlp_norm": norms, "qkv": shape.qkv_bias, "out": shape.out_bias, "up": mlp, "down": mlp}
    named = {f"{ours}.weight": tuple(f"{name}.weight" for name in theirs) for ours, theirs in parts.items()}
    named |= {f"{ours}.bias": tuple(f"{name}.bias" for name in parts[ours]) for ours, biased in has.items() if biased}
    if norms:
        found["norm.bias"] = CheckpointSource(("model.norm.bias",))
    return found | layered(shape, "model.layers.{}", named)


def plan(config: Config, infill: InfillFormat, **options: Any) -> Plan:
    made = shape(config, **options)
    return Plan(shape=made, sources=sources(made), infill=infill)


def _stable_diffcoder(config: Config) -> Plan:
    """Block-causal with blocks of four, unshifted; block size and mask are written in its generation code only.

    Fill-in-the-middle is Seed-Coder's: suffix first, cut at characters (vocabulary.LAYOUTS).
    """
    infill = InfillFormat(mask=config.get("mask_token_id", STABLE_DIFFCODER_MASK), bos=True, suffix=False)
    return plan(config, infill, block=config.get("block_size", STABLE_DIFFCODER_BLOCK))


def _diffullama(config: Config) -> Plan:
    return plan(config, InfillFormat(mask=config.get("mask_token_id", DIFFULLAMA_MASK), shift=True, bos=True))


FAMILIES = (
    Family(
        key="stable-diffcoder",
        name="Stable-DiffCoder",
        how=f"{BLOCKS}, {ENDED}",
        kinds=("llama",),
        read=_stable_diffcoder,
        built=BUILT,
        certain=lambda config: "diffcoder" in architectures(config),
    ),
    Family(
        key="diffullama",
        name="DiffuLLaMA",
        how=f"{BOTH_SIDES}, {PROBED}",
        kinds=("llama",),
        read=_diffullama,
        built=BUILT,
        certain=lambda config: False,
        published=("diffusionfamily/diffullama",),
    ),
)
