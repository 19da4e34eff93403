"""Diffusion models made from Qwen3, which norms queries and keys: SDAR (block-causal) and Tiny-A2D (bidirectional, or
blocks of 32).
"""

from __future__ import annotations

from engine.models.llama import plan
from engine.models.registry import Config, Family, Infill, Plan

SDAR_MASK = 151669
SDAR_BLOCK = 4
TINY_A2D_BLOCK = 32


def _sdar(config: Config) -> Plan:
    infill = Infill(mask=config.get("mask_token_id", SDAR_MASK), suffix=False)
    return plan(config, infill, qk_norm=True, block=config.get("block_size", SDAR_BLOCK))


def _tiny_a2d(config: Config) -> Plan:
    return plan(config, Infill(mask=config.get("mask_token_id")), qk_norm=True)


def _tiny_a2d_blocks(config: Config) -> Plan:
    infill = Infill(mask=config.get("mask_token_id"), suffix=False)
    return plan(config, infill, qk_norm=True, block=config.get("block_size", TINY_A2D_BLOCK))


FAMILIES = (
    Family("SDAR", lambda config, _: config.get("model_type") == "sdar", _sdar),
    Family(
        "Tiny-A2D (Qwen3, blocks)",
        lambda config, name: config.get("model_type") == "a2d-qwen3" and "bd3lm" in name.lower(),
        _tiny_a2d_blocks,
    ),
    Family("Tiny-A2D (Qwen3)", lambda config, _: config.get("model_type") == "a2d-qwen3", _tiny_a2d),
)
