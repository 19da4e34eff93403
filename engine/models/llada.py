"""LLaDA-8B and LLaDA-1.5: a bidirectional Llama in OLMo's clothes, unshifted."""

from __future__ import annotations

from engine.models.family import BOTH_SIDES, PROBED, CheckpointSource, Config, Family, InfillFormat, Plan, layered
from engine.models.transformer import Shape

MASK = 126336  # ML-GSAI/LLaDA, GUIDELINES.md and generate.py


# of the options of configuration_llada.py those that change what is computed
BUILT: dict[str, tuple[object, ...]] = {
    "block_type": ("llama",),
    "block_group_size": (1,),
    "activation_type": ("silu",),
    "layer_norm_type": ("rms",),
    "layer_norm_with_affine": (True,),
    "attention_layer_norm": (False,),
    "input_emb_norm": (False,),
    "include_bias": (False,),
    "bias_for_layer_norm": (False,),
    "scale_logits": (False,),
    "rope": (True,),
    "alibi": (False,),
    "clip_qkv": (),
}


def _read(config: Config) -> Plan:
    heads, dim = config["n_heads"], config["d_model"]
    shape = Shape(
        vocab=config.get("embedding_size") or config["vocab_size"],
        dim=dim,
        layers=config["n_layers"],
        heads=heads,
        kv_heads=config.get("n_kv_heads") or (1 if config.get("multi_query_attention") else heads),
        head_dim=dim // heads,
        mlp=config.get("mlp_hidden_size") or config["mlp_ratio"] * dim,
        context=config["max_sequence_length"],
        eps=config.get("rms_norm_eps", 1e-5),
        rope_base=config.get("rope_theta", 10000.0),
        qkv_bias=bool(config.get("include_qkv_bias")),
        tied=config.get("weight_tying", True),
    )
    return Plan(
        shape=shape, sources=_sources(shape), infill=InfillFormat(mask=config.get("mask_token_id", MASK), bos=True)
    )


def _sources(shape: Shape) -> dict[str, CheckpointSource]:
    root = "model.transformer"
    embed, head = f"{root}.wte.weight", f"{root}.ff_out.weight"
    found = {"embed.weight": CheckpointSource((f"{embed}|{head}" if shape.tied else embed,))}
    found["norm.weight"] = CheckpointSource((f"{root}.ln_f.weight",))
    if not shape.tied:
        found["head.weight"] = CheckpointSource((head,))
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


FAMILIES = (
    Family(key="llada", name="LLaDA", how=f"{BOTH_SIDES}, {PROBED}", kinds=("llada",), read=_read, built=BUILT),
)
