"""Causal code models, which fill a gap by their own tokens for that: Qwen2.5-Coder, Seed-Coder, DeepSeek-Coder,
Granite, StarCoder2, and what else is stored as Llama, Qwen2 or Qwen3 are. A block of one token makes the causal mask.
"""

from __future__ import annotations

from engine.models.family import Config, Family, InfillFormat, Plan
from engine.models.llama import BUILT, plan

INFILL = InfillFormat(shift=True, suffix=False, bos=None, causal=True)
HOW = "writes token after token; copies are verified in one pass"
BIASES = {"attention_bias", "mlp_bias"}


def _llama(config: Config) -> Plan:
    kind, biased = config["model_type"].lower(), bool(config.get("attention_bias"))
    options = {"qkv_bias": biased or kind == "qwen2", "out_bias": biased, "mlp_bias": bool(config.get("mlp_bias"))}
    return plan(config, INFILL, block=1, qk_norm=kind == "qwen3", **options)


def _starcoder2(config: Config) -> Plan:
    """What it sees is bounded by its sliding window, within which it is a plain causal model."""
    biased, most = config.get("use_bias", True), config["max_position_embeddings"]
    options = {f"{part}_bias": biased for part in ("qkv", "out", "mlp")}
    return plan(
        config,
        INFILL,
        block=1,
        context=min(config.get("sliding_window") or most, most),
        layer_norm=True,
        norm_bias=True,
        eps=config.get("norm_epsilon", 1e-5),
        gated=False,
        tied=config.get("tie_word_embeddings", True),
        **options,
    )


FAMILIES = (
    Family(
        key="starcoder2",
        name="StarCoder2",
        how=HOW,
        kinds=("starcoder2",),
        read=_starcoder2,
        built={"hidden_act": ("gelu_pytorch_tanh",), "mlp_type": ("default",), "norm_type": ("layer_norm",)},
    ),
    Family(
        key="autoregressive",
        name="Qwen2.5-Coder, Seed-Coder, DeepSeek-Coder",
        how=HOW,
        kinds=("llama", "qwen2", "qwen3"),
        read=_llama,
        built={option: values for option, values in BUILT.items() if option not in BIASES},
        certain=lambda config: False,
    ),
)
