"""Weights that a checkpoint stores in few bits, as the numbers they stand for.

Read are float8 with a scale a block (DeepSeek's way, quant_method "fp8"), and of compressed-tensors float8 with a scale
a row or a tensor, and whole numbers of four or eight bits with a scale a group, symmetric, packed into int32. All else
is refused: taken as they are, such weights would be noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.contract import EngineError

PACKED = "_packed"
READABLE = "FP8 with block scales, and compressed-tensors' FP8 and symmetric int4 and int8"


def block(config: Mapping[str, Any], name: str) -> list[int] | None:
    """Rows and columns that share a scale, where they do.

    Raises EngineError where config.json says that the weights are stored in a way that is not read.
    """
    how = config.get("quantization_config") or config.get("compression_config")
    if how is not None and not (isinstance(how, dict) and (_is_fp8(how) or _is_compressed(how))):
        method = how.get("quant_method", "unknown") if isinstance(how, dict) else "unknown"
        raise EngineError(
            f"the weights of {name} are quantised in a way that Inpaint does not read ({method!r}); it reads "
            f"{READABLE}; take the checkpoint that is not quantised"
        )
    found: list[int] | None = how["weight_block_size"] if how is not None and _is_fp8(how) else None
    return found


def _is_fp8(how: Mapping[str, Any]) -> bool:
    size = how.get("weight_block_size")
    return (
        how.get("quant_method") == "fp8"
        and how.get("fmt", "e4m3") == "e4m3"
        and isinstance(size, list)
        and len(size) == 2
        and all(isinstance(each, int) and each > 0 for each in size)
    )


def _is_compressed(how: Mapping[str, Any]) -> bool:
    groups = how.get("config_groups")
    if how.get("quant_method") != "compressed-tensors" or not isinstance(groups, dict) or how.get("transform_config"):
        return False
    known = {("pack-quantized", "int", 4), ("pack-quantized", "int", 8), ("float-quantized", "float", 8)}
    return all(
        isinstance(group, dict)
        and isinstance(weights := group.get("weights"), dict)
        and (group.get("format") or how.get("format"), weights.get("type"), weights.get("num_bits")) in known
        and weights.get("symmetric", True)
        for group in groups.values()
    )


def read(stored: Callable[[str], Tensor | None], name: str, block: list[int] | None) -> Tensor | None:
    """The weight `name`, or what stands for it in float32; None where nothing does.

    `stored` gives a tensor of the checkpoint by name; `block` are rows and columns that share a scale. Raises
    ValueError where the parts of a weight do not fit together.
    """
    packed = stored(name + PACKED)
    if packed is not None:
        return _unpacked(packed, stored, name)
    weight = stored(name)
    if weight is None or weight.dtype != torch.float8_e4m3fn:
        return weight
    scale = stored(f"{name}_scale_inv")
    if scale is not None and block is not None:
        return _blocks(weight.float(), scale.float(), block)
    scale = stored(f"{name}_scale")
    if scale is None or scale.numel() not in (1, len(weight)):
        raise ValueError("float8 without a scale")
    return weight.float() * scale.float().reshape(-1, 1)


def _blocks(weight: Tensor, scale: Tensor, block: list[int]) -> Tensor:
    """A scale for each block of rows and columns; the last ones may be cut short."""
    rows, columns = weight.shape
    if list(scale.shape) != [-(-rows // block[0]), -(-columns // block[1])]:
        raise ValueError(f"scales of shape {list(scale.shape)}")
    return weight * scale.repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]


def _unpacked(packed: Tensor, stored: Callable[[str], Tensor | None], name: str) -> Tensor:
    """Eight or four whole numbers in an int32, the first lowest, each with half of its range added; a scale for each
    group of columns, which `g_idx` may assign in another order.
    """
    scale, size = stored(f"{name}_scale"), stored(f"{name}_shape")
    if scale is None or size is None:
        raise ValueError("packed without scale or shape")
    rows, columns = size.tolist()
    bits = 4 if packed.shape[1] == -(-columns // 8) else 8
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    whole = (packed[..., None] >> shifts & (1 << bits) - 1).flatten(1)[:, :columns] - (1 << bits - 1)
    order = stored(f"{name}_g_idx")
    if order is None or bool((order < 0).any()):
        order = torch.arange(columns) // -(-columns // scale.shape[1])
    if whole.shape != (rows, columns) or len(scale) != rows:
        raise ValueError(f"packed as {list(packed.shape)}, scales of shape {list(scale.shape)}")
    return whole.float() * scale.float()[:, order.long()]
