"""Diffusion models made from Qwen2 with its shift kept (the logits of row i are of token i + 1): Dream, Dream-Coder,
DiffuCoder and DreamOn; Open-dCoder; Fast-dLLM v2.
"""

from __future__ import annotations

import msgspec

from engine.models.family import (
    BLOCKS,
    BOTH_SIDES,
    ENDED,
    LEARNED,
    PROBED,
    Config,
    Family,
    InfillFormat,
    Plan,
    architectures,
)
from engine.models.llama import BUILT, plan

DREAM_MASK = 151666  # NVlabs/Fast-dLLM, dream/model/configuration_dream.py
# DreamOn: BOS before, EOS after, <|expand|> 151667 (DreamLM/DreamOn, demo/quickstart.py and eval/evaluate.py)
DREAMON_CONTEXT = 2048  # `max_tokens` of its sampler, whatever config.json says (DreamLM/DreamOn, eval/generator.py)
FAST_DLLM_MASK = 151665  # FAST_DLLM_MASK_ID in NVlabs/Fast-dLLM, v2/generation_functions.py
FAST_DLLM_BLOCK = 32


def _dream(config: Config) -> Plan:
    """DreamOn has two more labels. `expand` is a token of its own, by which its tokenizer tells it from the others;
    `delete` is the end of text unless the config says otherwise.
    """
    infill = InfillFormat(
        mask=config.get("mask_token_id", DREAM_MASK),
        expand=config.get("expand_token_id"),
        delete=config.get("delete_token_id"),
        mark="<|expand|>",
        shift=True,
        bos=True,
        eos=True,
    )
    found = plan(config, infill, qkv_bias=True)
    if infill.expand is None and infill.delete is None:
        return found
    return msgspec.structs.replace(
        found, shape=msgspec.structs.replace(found.shape, context=min(found.shape.context, DREAMON_CONTEXT))
    )


def _open_dcoder(config: Config) -> Plan:
    """Its tokenizer names the mask and puts nothing around a text (pengzhangzhi/Open-dLLM, tasks/train_torch.py and
    eval/eval_infill/eval_infill.py).
    """
    return plan(config, InfillFormat(mask=config.get("mask_token_id"), shift=True), qkv_bias=True)


def _fast_dllm(config: Config) -> Plan:
    """A block begins with what the last row of the one before says (NVlabs/Fast-dLLM, v2/generation_functions.py)."""
    infill = InfillFormat(mask=config.get("mask_token_id", FAST_DLLM_MASK), shift=True, suffix=False, lead=True)
    return plan(config, infill, qkv_bias=True, block=config.get("bd_size", FAST_DLLM_BLOCK))


FAMILIES = (
    Family(
        key="dream",
        name="DreamOn, Dream, Dream-Coder, DiffuCoder",
        how=f"{BOTH_SIDES}, {LEARNED} (DreamOn) or {PROBED.removeprefix('length ')}",
        kinds=("dream",),
        read=_dream,
        built=BUILT,
    ),
    Family(
        key="fast-dllm-v2",
        name="Fast-dLLM v2",
        how=f"{BLOCKS}, {ENDED}",
        kinds=("fast_dllm_qwen",),
        read=_fast_dllm,
        built=BUILT,
    ),
    Family(
        key="open-dcoder",
        name="Open-dCoder",
        how=f"{BOTH_SIDES}, {PROBED}",
        kinds=("qwen2",),
        read=_open_dcoder,
        built=BUILT,
        certain=lambda config: "mask_token_id" in config or "diffusion" in architectures(config),
        published=("fredzzp/open-dcoder-0.5b",),
    ),
)
