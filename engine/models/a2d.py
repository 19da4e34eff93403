"""Tiny-A2D: Qwen2, Qwen3 or Llama made into a diffusion model, unshifted; bidirectional (MDLM), or in blocks (BD3-LM),
which a config.json tells only where it has a block size. The tokenizer names the mask (ZHZisZZ/dllm,
dllm/core/samplers).
"""

from __future__ import annotations

from engine.models.family import BLOCKS, BOTH_SIDES, ENDED, PROBED, Config, Family, InfillFormat, Plan
from engine.models.llama import BUILT, plan

KINDS: dict[str, dict[str, bool]] = {"a2d-qwen2": {"qkv_bias": True}, "a2d-qwen3": {"qk_norm": True}, "a2d-llama": {}}
HUB = ("dllm-hub/qwen3-0.6b-diffusion-{}-v0.1", "dllm-hub/qwen2.5-coder-0.5b-instruct-diffusion-{}-v0.1")
BLOCK = 32  # ZHZisZZ/dllm, dllm/core/trainers/bd3lm.py


def _read(config: Config) -> Plan:
    return plan(config, InfillFormat(mask=config.get("mask_token_id")), **KINDS[config["model_type"].lower()])


def _read_blocks(config: Config) -> Plan:
    infill = InfillFormat(mask=config.get("mask_token_id"), suffix=False)
    return plan(config, infill, block=config.get("block_size", BLOCK), **KINDS[config["model_type"].lower()])


FAMILIES = (
    Family(
        key="tiny-a2d-blocks",
        name="Tiny-A2D in blocks",
        how=f"{BLOCKS}, {ENDED}",
        kinds=tuple(KINDS),
        read=_read_blocks,
        built=BUILT,
        certain=lambda config: "block_size" in config,
        published=tuple(each.format("bd3lm") for each in HUB),
    ),
    Family(
        key="tiny-a2d",
        name="Tiny-A2D",
        how=f"{BOTH_SIDES}, {PROBED}",
        kinds=tuple(KINDS),
        read=_read,
        built=BUILT,
        certain=lambda config: False,
        published=tuple(each.format("mdlm") for each in HUB),
    ),
)
