"""Tiny-A2D: Qwen2, Qwen3 or Llama made into a diffusion model, unshifted; bidirectional, or in blocks where its name
says so. The tokenizer names the mask (ZHZisZZ/dllm, dllm/core/samplers).
"""

from __future__ import annotations

from engine.models.family import BLOCKS, BOTH_SIDES, ENDED, PROBED, Config, Family, Infill, Plan
from engine.models.llama import plan

KINDS = {"a2d-qwen2": {"qkv_bias": True}, "a2d-qwen3": {"qk_norm": True}, "a2d-llama": {}}
BLOCK = 32  # ZHZisZZ/dllm, dllm/core/trainers/bd3lm.py


def _read(config: Config) -> Plan:
    return plan(config, Infill(mask=config.get("mask_token_id")), **KINDS[config["model_type"]])


def _read_blocks(config: Config) -> Plan:
    infill = Infill(mask=config.get("mask_token_id"), suffix=False)
    return plan(config, infill, block=config.get("block_size", BLOCK), **KINDS[config["model_type"]])


FAMILIES = (
    Family(
        "Tiny-A2D in blocks",
        f"{BLOCKS}, {ENDED}",
        lambda config, name: config.get("model_type") in KINDS and "bd3lm" in name.lower(),
        _read_blocks,
    ),
    Family("Tiny-A2D", f"{BOTH_SIDES}, {PROBED}", lambda config, _: config.get("model_type") in KINDS, _read),
)
