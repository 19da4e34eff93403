"""SDAR: Qwen3, which norms queries and keys, block after block."""

from __future__ import annotations

from engine.models.family import BLOCKS, ENDED, Config, Family, InfillFormat, Plan
from engine.models.llama import BUILT, plan

MASK = 151669  # JetAstra/SDAR, README.md and evaluation/opencompass/configs/eval_sdar_hf.py
BLOCK = 4


def _read(config: Config) -> Plan:
    infill = InfillFormat(mask=config.get("mask_token_id", MASK), suffix=False)
    return plan(config, infill, qk_norm=True, block=config.get("block_size", BLOCK))


FAMILIES = (Family(key="sdar", name="SDAR", how=f"{BLOCKS}, {ENDED}", kinds=("sdar",), read=_read, built=BUILT),)
