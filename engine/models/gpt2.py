"""DiffuGPT: GPT-2 with its causal mask opened, shift kept."""

from __future__ import annotations

from torch import Tensor

from engine.models.registry import Config, Family, Infill, Plan, Source
from engine.models.transformer import Shape

SMALL_MASK = (
    10541  # a word that the small model was trained to read as a mask; the medium one's tokenizer has a mask of its own
)
SMALL_LAYERS = 12
TOKENIZER = "openai-community/gpt2"


def _transposed(tensors: list[Tensor]) -> Tensor:
    """GPT-2 keeps its matrices input first."""
    return tensors[0].t()


def _read(config: Config) -> Plan:
    dim, heads = config["n_embd"], config["n_head"]
    shape = Shape(
        vocab=config["vocab_size"],
        dim=dim,
        layers=config["n_layer"],
        heads=heads,
        kv_heads=heads,
        head_dim=dim // heads,
        mlp=config.get("n_inner") or 4 * dim,
        context=config["n_positions"],
        layer_norm=True,
        norm_bias=True,
        eps=config.get("layer_norm_epsilon", 1e-5),
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        gated=False,
        tied=True,
        learned_positions=True,
    )
    mask = SMALL_MASK if config["n_layer"] == SMALL_LAYERS else None
    infill = Infill(mask=config.get("mask_token_id", mask), shift=True, bos=True)
    return Plan(shape=shape, sources=_sources(shape), infill=infill, tokenizer=TOKENIZER)


def _sources(shape: Shape) -> dict[str, Source]:
    root = "denoise_model"
    found = {
        "embed.weight": Source(("embed_tokens.weight|lm_head.weight",)),  # shared, so only one of the two is stored
        "positions.weight": Source((f"{root}.wpe.weight",)),
        "norm.weight": Source((f"{root}.ln_f.weight",)),
        "norm.bias": Source((f"{root}.ln_f.bias",)),
    }
    parts = {
        "attn_norm": "ln_1",
        "qkv": "attn.c_attn",
        "out": "attn.c_proj",
        "mlp_norm": "ln_2",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
    }
    for i in range(shape.layers):
        for ours, theirs in parts.items():
            weight = (f"{root}.h.{i}.{theirs}.weight",)
            found[f"blocks.{i}.{ours}.weight"] = Source(weight) if "norm" in ours else Source(weight, _transposed)
            found[f"blocks.{i}.{ours}.bias"] = Source((f"{root}.h.{i}.{theirs}.bias",))
    return found


FAMILIES = (
    Family(
        "DiffuGPT",
        lambda config, name: (
            config.get("model_type") == "gpt2"
            and ("diffugpt" in f"{name} {config.get('_name_or_path', '')}".lower() or "mask_token_id" in config)
        ),
        _read,
    ),
)
