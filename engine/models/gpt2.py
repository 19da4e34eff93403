"""DiffuGPT: GPT-2 with its causal mask opened, shift kept."""

from __future__ import annotations

from torch import Tensor

from engine.models.family import BOTH_SIDES, PROBED, CheckpointSource, Config, Family, InfillFormat, Plan, layered
from engine.models.transformer import Shape

# HKUNLP/DiffuLLaMA, LLaMA-Factory/src/llamafactory/model/loader.py: the small model reads a word as its mask, the
# medium one a token after GPT-2's; inputs begin with BOS (inf_diffugpt.py)
SMALL_MASK, MEDIUM_MASK = 10541, 50257
SMALL_LAYERS = 12
TOKENIZER = "openai-community/gpt2"
BUILT: dict[str, tuple[object, ...]] = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


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
    mask = SMALL_MASK if config["n_layer"] == SMALL_LAYERS else MEDIUM_MASK
    infill = InfillFormat(mask=config.get("mask_token_id", mask), shift=True, bos=True)
    return Plan(shape=shape, sources=_sources(shape), infill=infill, tokenizer=TOKENIZER)


def _sources(shape: Shape) -> dict[str, CheckpointSource]:
    root = "denoise_model"
    found = {
        "embed.weight": CheckpointSource(
            ("embed_tokens.weight|lm_head.weight",)
        ),  # shared, so only one of the two is stored
        "positions.weight": CheckpointSource((f"{root}.wpe.weight",)),
        "norm.weight": CheckpointSource((f"{root}.ln_f.weight",)),
        "norm.bias": CheckpointSource((f"{root}.ln_f.bias",)),
    }
    parts = {
        "attn_norm": "ln_1",
        "qkv": "attn.c_attn",
        "out": "attn.c_proj",
        "mlp_norm": "ln_2",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
    }
    at = root + ".h.{}"
    matrices = {f"{ours}.weight": (f"{theirs}.weight",) for ours, theirs in parts.items() if "norm" not in ours}
    rest = {f"{ours}.bias": (f"{theirs}.bias",) for ours, theirs in parts.items()}
    rest |= {f"{ours}.weight": (f"{parts[ours]}.weight",) for ours in ("attn_norm", "mlp_norm")}
    return found | layered(shape, at, matrices, _transposed) | layered(shape, at, rest)


FAMILIES = (
    Family(
        key="diffugpt",
        name="DiffuGPT",
        how=f"{BOTH_SIDES}, {PROBED}",
        kinds=("gpt2",),
        read=_read,
        built=BUILT,
        certain=lambda config: "mask_token_id" in config,
        published=("diffusionfamily/diffugpt-s", "diffusionfamily/diffugpt-m"),
    ),
)
