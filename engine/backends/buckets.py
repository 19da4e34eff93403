"""Passes of few shapes, for everything that torch runs: rows are padded to a bucket, and the memory has one size.

All numbers of a pass go to the device in one copy from pinned memory. A pass of each shape is captured as a CUDA graph
when it is first needed and replayed from then on, so that its hundreds of kernels are one launch. It is captured by
hand, because torch.compile's own graphs belong to the thread that made them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeAlias

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SIZES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)

Run: TypeAlias = Callable[[], Tensor]


def bucket(size: int) -> int:
    """The least bucket of a size."""
    return next((each for each in SIZES if each >= size), size)


class Bucket(msgspec.Struct):
    """A pass of one shape: `numbers` lie at the same place in every pass, `host` is where they are written."""

    host: Tensor
    numbers: Tensor
    run: Run

    def __call__(self) -> Tensor:
        """The pass with what is written to `host`."""
        self.numbers.copy_(self.host, non_blocking=True)
        return self.run()


class Buckets(dict[Hashable, Bucket]):
    """Those of a device by kind, made when they are first needed."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.pinned = device, device.type == "cuda" and torch.cuda.is_available()
        self.capture = partial(captured, torch.cuda.graph_pool_handle()) if self.pinned else None

    def of(self, kind: Hashable, numbers: NDArray[np.int64], run: Callable[[Tensor], Tensor]) -> Bucket:
        """That of a kind; where it is new, `run` is captured with these numbers."""
        if kind not in self:
            host = torch.empty(numbers.shape, dtype=torch.int64, pin_memory=self.pinned)
            host.numpy()[:] = numbers
            place = host.to(self.device)
            ready = partial(run, place)
            self[kind] = Bucket(host, place, ready if self.capture is None else self.capture(ready))
        return self[kind]


def captured(pool: Any, run: Run) -> Run:
    """A pass as a CUDA graph: what it returns lies at the same place after every replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):  # what is compiled, allocated or chosen at first must not be captured
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
        found = run()

    def replay() -> Tensor:
        graph.replay()
        return found

    return replay
