"""MDLM and BD3-LM: a diffusion transformer (DiT) whose clock stands still.

A DiT shifts and scales its norms and gates its branches by functions of the time. These checkpoints were trained
without a clock: time is always zero, so that the functions are constants. Folded into the norms and projections at
load, they leave a plain LayerNorm transformer.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from engine.models.family import BLOCKS, BOTH_SIDES, ENDED, PROBED, CheckpointSource, Config, Family, InfillFormat, Plan
from engine.models.transformer import Shape

TOKENIZER = "openai-community/gpt2"
CLOCK = tuple(f"backbone.sigma_map.mlp.{part}" for part in ("0.weight", "0.bias", "2.weight", "2.bias"))
BUILT: dict[str, tuple[object, ...]] = {"time_conditioning": (False,), "causal": (False,)}
SHIFT_ATTN, SCALE_ATTN, GATE_ATTN, SHIFT_MLP, SCALE_MLP, GATE_MLP = range(6)
SHIFT_HEAD, SCALE_HEAD = range(2)


def _constant(index: int, parts: int, clock: list[Tensor]) -> Tensor:
    """One of the shifts, scales and gates at time zero, (dim,), from the weights of clock and modulation."""
    first, first_bias, second, second_bias, weight, bias = clock
    half = first.shape[1] // 2
    time = torch.cat((torch.ones(half), torch.zeros(half))).to(first)  # cosines and sines of zero
    hidden = F.linear(F.silu(F.linear(time, first, first_bias)), second, second_bias)
    return F.linear(F.silu(hidden), weight, bias).chunk(parts)[index]


def _scaled(index: int, parts: int, tensors: list[Tensor]) -> Tensor:
    return tensors[0] * (1 + _constant(index, parts, tensors[1:]))


def _gated(index: int, tensors: list[Tensor]) -> Tensor:
    """A projection's rows, or its bias, times the gate of its branch."""
    gate = _constant(index, 6, tensors[1:])
    return tensors[0] * (gate[:, None] if tensors[0].dim() == 2 else gate)


def _read(config: Config) -> Plan:
    in_blocks = config["model_type"].lower() == "bd3lm" and config.get("cross_attn", True)
    dim, heads = config["hidden_dim"], config["n_heads"]
    shape = Shape(
        vocab=config["vocab_size"],
        dim=dim,
        layers=config["n_blocks"],
        heads=heads,
        kv_heads=heads,
        head_dim=dim // heads,
        mlp=4 * dim,
        context=config["model_length"],
        layer_norm=True,
        norm_bias=config.get("adaln", True),
        eps=1e-5,
        mlp_bias=True,
        head_bias=True,
        gated=False,
        block=config["block_size"] if in_blocks else 0,
    )
    # kuleshov-group/bd3lms: the mask comes after GPT-2's tokens (diffusion.py), texts begin with BOS (dataloader.py)
    mask = config.get("mask_token_id", config["vocab_size"] - 1)
    infill = InfillFormat(mask=mask, bos=True, suffix=not in_blocks)
    return Plan(shape=shape, sources=_sources(shape, config.get("adaln", True)), infill=infill, tokenizer=TOKENIZER)


def _sources(shape: Shape, timed: bool) -> dict[str, CheckpointSource]:
    final = "backbone.output_layer"
    found = {
        "embed.weight": CheckpointSource(("backbone.vocab_embed.embedding",)),
        "head.weight": CheckpointSource((f"{final}.linear.weight",)),
        "head.bias": CheckpointSource((f"{final}.linear.bias",)),
        **_norm("norm", f"{final}.norm_final", f"{final}.adaLN_modulation", SHIFT_HEAD, SCALE_HEAD, 2, timed),
    }
    for i in range(shape.layers):
        ours, theirs = f"blocks.{i}", f"backbone.blocks.{i}"
        time = f"{theirs}.adaLN_modulation"
        found |= {
            **_norm(f"{ours}.attn_norm", f"{theirs}.norm1", time, SHIFT_ATTN, SCALE_ATTN, 6, timed),
            **_norm(f"{ours}.mlp_norm", f"{theirs}.norm2", time, SHIFT_MLP, SCALE_MLP, 6, timed),
            f"{ours}.qkv.weight": CheckpointSource((f"{theirs}.attn_qkv.weight",)),
            f"{ours}.out.weight": _branch(f"{theirs}.attn_out.weight", time, GATE_ATTN, timed),
            f"{ours}.up.weight": CheckpointSource((f"{theirs}.mlp.0.weight",)),
            f"{ours}.up.bias": CheckpointSource((f"{theirs}.mlp.0.bias",)),
            f"{ours}.down.weight": _branch(f"{theirs}.mlp.2.weight", time, GATE_MLP, timed),
            f"{ours}.down.bias": _branch(f"{theirs}.mlp.2.bias", time, GATE_MLP, timed),
        }
    return found


def _norm(
    ours: str, theirs: str, time: str, shift: int, scale: int, parts: int, timed: bool
) -> dict[str, CheckpointSource]:
    if not timed:
        return {f"{ours}.weight": CheckpointSource((f"{theirs}.weight",))}
    clock = (*CLOCK, f"{time}.weight", f"{time}.bias")
    return {
        f"{ours}.weight": CheckpointSource((f"{theirs}.weight", *clock), partial(_scaled, scale, parts)),
        f"{ours}.bias": CheckpointSource(clock, partial(_constant, shift, parts)),
    }


def _branch(theirs: str, time: str, gate: int, timed: bool) -> CheckpointSource:
    if not timed:
        return CheckpointSource((theirs,))
    return CheckpointSource((theirs, *CLOCK, f"{time}.weight", f"{time}.bias"), partial(_gated, gate))


FAMILIES = (
    Family(key="mdlm", name="MDLM", how=f"{BOTH_SIDES}, {PROBED}", kinds=("mdlm",), read=_read, built=BUILT),
    Family(key="bd3lm", name="BD3-LM", how=f"{BLOCKS}, {ENDED}", kinds=("bd3lm",), read=_read, built=BUILT),
)
