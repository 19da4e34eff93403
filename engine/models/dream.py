"""Diffusion models made from Qwen2 with its shift kept (the logits of row i are of token i + 1): Dream, Dream-Coder,
DiffuCoder and DreamOn; Open-dCoder; Fast-dLLM v2.
"""

from __future__ import annotations

from engine.models.family import (
    BLOCKS,
    BOTH_SIDES,
    ENDED,
    LEARNED,
    PROBED,
    Config,
    Family,
    Infill,
    Plan,
    architectures,
)
from engine.models.llama import plan

DREAM_MASK = 151666  # NVlabs/Fast-dLLM, dream/model/configuration_dream.py
DREAMON_EXPAND = 151667  # DreamLM/DreamOn, eval/evaluate.py; BOS before, EOS after: demo/quickstart.py
FAST_DLLM_MASK = 151665  # FAST_DLLM_MASK_ID in NVlabs/Fast-dLLM, v2/generation_functions.py
FAST_DLLM_BLOCK = 32


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
    """Its tokenizer names the mask and puts nothing around a text (pengzhangzhi/Open-dLLM, tasks/train_torch.py and
    eval/eval_infill/eval_infill.py).
    """
    return plan(config, Infill(mask=config.get("mask_token_id"), shift=True), qkv_bias=True)


def _fast_dllm(config: Config) -> Plan:
    infill = Infill(mask=config.get("mask_token_id", FAST_DLLM_MASK), shift=True, suffix=False)
    return plan(config, infill, qkv_bias=True, block=config.get("bd_size", FAST_DLLM_BLOCK))


def _kind(config: Config) -> str:
    return str(config.get("model_type", "")).lower()


FAMILIES = (
    Family(
        "DreamOn",
        f"{BOTH_SIDES}, {LEARNED}",
        lambda config, name: _kind(config) == "dream" and ("dreamon" in name.lower() or "expand_token_id" in config),
        _dreamon,
    ),
    Family(
        "Dream, Dream-Coder, DiffuCoder",
        f"{BOTH_SIDES}, {PROBED}",
        lambda config, _: _kind(config) == "dream",
        _dream,
    ),
    Family("Fast-dLLM v2", f"{BLOCKS}, {ENDED}", lambda config, _: _kind(config) == "fast_dllm_qwen", _fast_dllm),
    Family(
        "Open-dCoder",
        f"{BOTH_SIDES}, {PROBED}",
        lambda config, name: (
            _kind(config) == "qwen2"
            and ("dcoder" in name.lower() or "mask_token_id" in config or "diffusion" in architectures(config))
        ),
        _open_dcoder,
    ),
)
