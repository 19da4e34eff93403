"""LLaDA-8B and LLaDA-1.5: a bidirectional Llama in OLMo's clothes, unshifted."""

from __future__ import annotations

from engine.contract import EngineError
from engine.models.family import BOTH_SIDES, PROBED, Config, Family, Infill, Plan, Source, layered
from engine.models.transformer import Shape

MASK = 126336  # ML-GSAI/LLaDA, GUIDELINES.md and generate.py


def _read(config: Config) -> Plan:
    if config.get("block_type", "llama") != "llama" or config.get("activation_type", "silu") != "silu":
        raise EngineError(
            f"Inpaint runs LLaDA with Llama blocks and SiLU only, not {config.get('block_type')!r} blocks"
        )
    heads, dim = config["n_heads"], config["d_model"]
    shape = Shape(
        vocab=config.get("embedding_size") or config["vocab_size"],
        dim=dim,
        layers=config["n_layers"],
        heads=heads,
        kv_heads=config.get("n_kv_heads") or heads,
        head_dim=dim // heads,
        mlp=config.get("mlp_hidden_size") or config["mlp_ratio"] * dim,
        context=config["max_sequence_length"],
        eps=config.get("rms_norm_eps", 1e-5),
        rope_base=config.get("rope_theta", 10000.0),
        qkv_bias=bool(config.get("include_qkv_bias") or config.get("include_bias")),
        tied=config.get("weight_tying", True),
    )
    return Plan(shape=shape, sources=_sources(shape), infill=Infill(mask=config.get("mask_token_id", MASK), bos=True))


def _sources(shape: Shape) -> dict[str, Source]:
    root = "model.transformer"
    found = {"embed.weight": Source((f"{root}.wte.weight",)), "norm.weight": Source((f"{root}.ln_f.weight",))}
    if not shape.tied:
        found["head.weight"] = Source((f"{root}.ff_out.weight",))
    parts = {
        "attn_norm.weight": ("attn_norm.weight",),
        "qkv.weight": tuple(f"{part}_proj.weight" for part in "qkv"),
        "out.weight": ("attn_out.weight",),
        "mlp_norm.weight": ("ff_norm.weight",),
        "up.weight": ("ff_proj.weight", "up_proj.weight"),
        "down.weight": ("ff_out.weight",),
    }
    if shape.qkv_bias:
        parts["qkv.bias"] = tuple(f"{part}_proj.bias" for part in "qkv")
    return found | layered(shape, root + ".blocks.{}", parts)


FAMILIES = (Family("LLaDA", f"{BOTH_SIDES}, {PROBED}", lambda config, _: config.get("model_type") == "llada", _read),)
