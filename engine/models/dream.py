"""Diffusion models made from Qwen2: Dream, Dream-Coder, DiffuCoder and DreamOn; Open-dCoder and Tiny-A2D; Fast-dLLM v2.

All but Tiny-A2D were adapted from an autoregressive model with its shift kept: the logits of row i are of token i + 1.
"""

from __future__ import annotations

from engine.models.llama import plan
from engine.models.registry import Config, Family, Infill, Plan, architectures

DREAM_MASK = 151666
DREAMON_EXPAND = 151667
FAST_DLLM_MASK = 151665
FAST_DLLM_BLOCK = 32
TINY_A2D_BLOCK = 32


def _dream(config: Config) -> Plan:
    return plan(
        config, Infill(mask=config.get("mask_token_id", DREAM_MASK), shift=True, bos=True, eos=True), qkv_bias=True
    )


def _dreamon(config: Config) -> Plan:
    """Dream with two more labels: `expand` is a token of its own, `delete` is the end of text unless the config says
    otherwise.
    """
    infill = Infill(
        mask=config.get("mask_token_id", DREAM_MASK),
        expand=config.get("expand_token_id", DREAMON_EXPAND),
        delete=config.get("delete_token_id"),
        shift=True,
        bos=True,
        eos=True,
    )
    return plan(config, infill, qkv_bias=True)


def _open_dcoder(config: Config) -> Plan:
    return plan(config, Infill(mask=config.get("mask_token_id"), shift=True), qkv_bias=True)


def _fast_dllm(config: Config) -> Plan:
    infill = Infill(mask=config.get("mask_token_id", FAST_DLLM_MASK), shift=True, suffix=False)
    return plan(config, infill, qkv_bias=True, block=config.get("bd_size", FAST_DLLM_BLOCK))


def _tiny_a2d(config: Config) -> Plan:
    return plan(config, Infill(mask=config.get("mask_token_id")), qkv_bias=True)


def _tiny_a2d_blocks(config: Config) -> Plan:
    infill = Infill(mask=config.get("mask_token_id"), suffix=False)
    return plan(config, infill, qkv_bias=True, block=config.get("block_size", TINY_A2D_BLOCK))


def _kind(config: Config) -> str:
    return str(config.get("model_type", "")).lower()


FAMILIES = (
    Family(
        "DreamOn",
        lambda config, name: _kind(config) == "dream" and ("dreamon" in name.lower() or "expand_token_id" in config),
        _dreamon,
    ),
    Family("Dream, Dream-Coder, DiffuCoder", lambda config, _: _kind(config) == "dream", _dream),
    Family("Fast-dLLM v2", lambda config, _: _kind(config) == "fast_dllm_qwen", _fast_dllm),
    Family(
        "Tiny-A2D (Qwen2, blocks)",
        lambda config, name: _kind(config) == "a2d-qwen2" and "bd3lm" in name.lower(),
        _tiny_a2d_blocks,
    ),
    Family("Tiny-A2D (Qwen2)", lambda config, _: _kind(config) == "a2d-qwen2", _tiny_a2d),
    Family(
        "Open-dCoder",
        lambda config, name: (
            _kind(config) == "qwen2"
            and ("dcoder" in name.lower() or "mask_token_id" in config or "diffusion" in architectures(config))
        ),
        _open_dcoder,
    ),
)
