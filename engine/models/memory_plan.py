"""What of a model fits a device: weights as they are or in int8, how long a window, how many sequences at once.

Everything is counted from the shape before anything is downloaded, and the best choice that fits is taken.
"""

from __future__ import annotations

import itertools

import msgspec
import torch

from engine.contract import EngineError
from engine.models.int8 import shrink
from engine.models.transformer import Shape, Transformer

SLOTS = 4  # sequences whose keys and values are kept: the alternatives of one request, or concurrent requests
WINDOWS = (8192, 4096, 2048, 1024, 512, 256)  # tokens of context
RECOMPUTED = 2048  # the most where a request passes its whole window: bidirectional models, and the first on a CPU
CANVASES = 512  # positions besides the window: what is filled in, and padding
CANVAS = 64  # rows whose logits a pass makes, mostly
LOGITS = 16  # bytes a logit takes while it is summed up: four tensors of float32
WORK = 0.4e9  # bytes that the device's libraries and the allocator take


class MemoryPlan(msgspec.Struct, frozen=True):
    """`capacity` is positions of a sequence, `taken` bytes of the device's memory."""

    int8: bool
    window: int
    slots: int
    capacity: int
    weights: int  # bytes
    taken: float

    def __str__(self) -> str:
        kind = "int8" if self.int8 else "full"
        return (
            f"{self.weights / 1e9:.2f} GB of {kind} weights, a window of {self.window} tokens, {self.slots} "
            f"sequence{'s' * (self.slots > 1)} at once: {self.taken / 1e9:.2f} GB in all"
        )


def fit(shape: Shape, dtype: torch.dtype, free: int, name: str, device: torch.device) -> MemoryPlan:
    """The best that fits in `free` bytes. Of a model that devices share, what one has. Raises EngineError where nothing
    does.
    """
    most = WINDOWS[0] if shape.block and device.type == "cuda" else RECOMPUTED
    windows = sorted({min(window, max(1, shape.context - CANVAS)) for window in WINDOWS if window <= most})[::-1]
    for int8 in (False, True) if shape.ranks == 1 else (False,):
        weights = weight_bytes(shape, dtype, int8) // shape.ranks
        for window, slots in itertools.product(windows, (SLOTS, 1)):
            plan = _filled_in(shape, dtype.itemsize, MemoryPlan(int8, window, slots, 0, weights, 0.0))
            if plan.taken <= free:
                return plan
    raise too_large(name, plan.taken, free, device)


def too_large(name: str, needed: float, free: float, device: torch.device) -> EngineError:
    why = f"{name} needs {needed / 1e9:.1f} GB on {device}, where {free / 1e9:.1f} GB are free"
    if device.type == "cpu":
        return EngineError(f"{why}; close other programs or choose a smaller model")
    return EngineError(
        f"{why}, and no part of it is offloaded to the CPU or to disk; close other programs, share it among cards "
        "(--device cuda:0,cuda:1), or choose a smaller or quantised model"
    )


def parameters(shape: Shape) -> int:
    """Of the blocks, which each row of a pass goes through."""
    return shape.layers * sum(weight.numel() for weight in _outline(shape).blocks.parameters())


def weight_bytes(shape: Shape, dtype: torch.dtype, int8: bool) -> int:
    model = _outline(shape).to(dtype)
    if int8:
        shrink(model.blocks)
    sizes = {name: weight.numel() * weight.element_size() for name, weight in model.named_parameters()}
    return sum(size * (shape.layers if name.startswith("blocks") else 1) for name, size in sizes.items())


def _outline(shape: Shape) -> Transformer:
    """With one block, for all are alike; without weights."""
    with torch.device("meta"):
        return Transformer(msgspec.structs.replace(shape, layers=1))


def _filled_in(shape: Shape, size: int, asked: MemoryPlan) -> MemoryPlan:
    """With capacity and memory, for numbers of so many bytes."""
    capacity = -(-min(asked.window + CANVASES, shape.context + 1) // 8) * 8
    kept = 2 * shape.layers * shape.kv_heads // shape.ranks * shape.head_dim * capacity * size
    bias = shape.heads // shape.kv_heads * capacity * capacity * size
    rows = capacity * (12 * shape.dim + 3 * shape.mlp) * size + CANVAS * shape.vocab * LOGITS
    taken = asked.weights + asked.slots * (kept + bias + rows) + WORK
    return msgspec.structs.replace(asked, capacity=capacity, taken=taken)
