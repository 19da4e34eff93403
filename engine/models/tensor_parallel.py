"""A model whose products are shared out among devices: tensor parallelism (Megatron-LM, arXiv 1909.08053), by torch's
own column-wise and row-wise parallel modules over a mesh of devices.

Each device computes some heads and some rows of the MLP, and the results of both halves of a block are summed up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from engine.contract import EngineError
from engine.models.transformer import Shape, Transformer


def require_even(shape: Shape, ranks: int, name: str) -> None:
    """Raises EngineError where a device would have more of the model than another."""
    sizes = {"heads": shape.heads, "heads of keys and values": shape.kv_heads, "rows of the MLP": shape.mlp}
    uneven = [f"{size} {what}" for what, size in sizes.items() if size % ranks]
    if uneven:
        raise EngineError(f"{name} has {', '.join(uneven)}, which {ranks} devices cannot share evenly; give fewer")


def share(model: Transformer, mesh: DeviceMesh) -> None:
    """Make the parameters of a model without weights (on the device meta) those of this rank."""
    first, second = ColwiseParallel(), RowwiseParallel()
    plan: dict[str, Any] = {
        "embed": RowwiseParallel(input_layouts=Replicate()),
        "blocks.*.qkv": first,
        "blocks.*.out": second,
        "blocks.*.up": first,
        "blocks.*.down": second,
        "head": ColwiseParallel(output_layouts=Replicate()),
    }
    parallelize_module(model, mesh, plan)


def fused(shape: Shape, name: str) -> list[int]:
    """The rows of each matrix that a parameter is made of, where it is of several."""
    if ".qkv." in name:
        return [shape.heads * shape.head_dim, *[shape.kv_heads * shape.head_dim] * 2]
    return [shape.mlp] * 2 if ".up." in name and shape.gated else []


def own(parameter: Tensor, found: Tensor, parts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """This rank's part of a parameter, and of the tensor that belongs there, made of `parts` rows of several."""
    if not isinstance(parameter, DTensor):
        return parameter, found
    ranks, rank = parameter.device_mesh.size(), parameter.device_mesh.get_local_rank()
    local, [placement] = parameter.to_local(), parameter.placements
    if not isinstance(placement, Shard):
        return local, found
    if parts:  # of the first matrix a part, then of the second: as blocks split what they make
        return local, torch.cat([part.chunk(ranks)[rank] for part in found.split(list(parts))])
    return local, found.chunk(ranks, placement.dim)[rank]
