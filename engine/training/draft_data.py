"""What a drafter learns from: the trunk's features and choices at the rows of training rows.

The trunk is read in torch, with the matrices that are multiplied where it is served but no activations rounded to eight
bits: on a processor with AVX2 alone that is faster than ONNX Runtime's kernels, and what rounding adds is noise that
differs from kernel to kernel. A shard has some training rows: what stands there, what sees what, what the trunk would
write after each token, and the residual streams that a drafter reads, in float16. Shards are made until a budget of
disk is used up, and any number of them can be trained on.

A label is what the trunk would write. Row k of a canvas has one as long as the text before it is what the trunk would
have written, from the anchor on: the text is then as if the trunk had written it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from engine import stored
from engine.backends.torch_runner import read_model
from engine.corpus import Corpus
from engine.models.drafter import Blocks, depths
from engine.models.trunk import Trunk
from engine.stored import Matrix
from engine.tokenizer import PAD, Tokenizer
from engine.training.dataset import MIDDLE, NONE, Batch, Sampler, SamplerConfig

ROWS = 32  # training rows a shard
EARLIEST = 16  # place of an anchor in a context


def served(folder: Path) -> Trunk:
    """An embedded model's, with the matrices that are multiplied where it is served. Raises EngineError where its
    weights are missing or damaged.
    """
    weights = folder / "model.safetensors"
    trunk, state = read_model(weights), dict[str, Tensor]()
    for name, each in stored.read(weights).items():
        if isinstance(each, Matrix):
            state[name] = torch.from_numpy(each.wide().floats()[:, : each.numbers.shape[1]])
    trunk.load_state_dict(state, strict=False)
    return trunk


class Shard(msgspec.Struct):
    """R training rows of S positions, of which the last Q are the tail.

    tokens, positions (R, S) int32; labels (R, S) int32 are the trunk's choices; segments (R, S) int16 number what
    stands together, the context and each branch, NONE where nothing stands; middle (R, S) True where a token of a
    middle stands; seen (R, Q, S) as in `dataset.Batch`; features (R, S, 5 * dim) float16.
    """

    tokens: NDArray[np.int32]
    positions: NDArray[np.int32]
    labels: NDArray[np.int32]
    segments: NDArray[np.int16]
    middle: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    features: NDArray[np.float16]

    def save(self, folder: Path) -> None:
        """Written aside and moved, so that one that is there is whole."""
        aside = folder.with_suffix(".partial")
        aside.mkdir(parents=True, exist_ok=True)
        for name in self.__struct_fields__:
            np.save(aside / f"{name}.npy", getattr(self, name))
        aside.replace(folder)

    @classmethod
    def load(cls, folder: Path) -> Shard:
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in cls.__struct_fields__))


def collect(
    trunk: Trunk, words: Tokenizer, corpus: Path, config: SamplerConfig, out: Path, gigabytes: float
) -> list[Path]:
    """Shards of a corpus, until they take so much disk; those that are there are kept."""
    found, folders = Corpus(corpus), list[Path]()
    with tqdm(total=gigabytes, unit="GB", desc=out.name) as bar:
        while bar.n < gigabytes:
            folder = out / f"{len(folders):05}"
            if not folder.exists():
                sampler = Sampler(found, words, config, seed=1_000 + len(folders))
                sharded(trunk, [sampler.row() for _ in range(ROWS)]).save(folder)
            folders.append(folder)
            bar.update(Shard.load(folder).features.nbytes / 1e9)
    return folders


def sharded(trunk: Trunk, rows: list[Batch]) -> Shard:
    """What the trunk makes of training rows."""
    parts = [_read(trunk, row) for row in rows]
    return Shard(*(np.stack([getattr(part, name) for part in parts]) for name in Shard.__struct_fields__))


@torch.no_grad()
def _read(trunk: Trunk, row: Batch) -> Shard:
    """One training row, without the leading dimension."""
    tokens, positions, mask = (torch.from_numpy(part)[None] for part in (row.tokens, row.positions, row.mask))
    leaving = trunk.leaving(tokens, positions, mask)
    choices = trunk.head(trunk.norm(leaving[-1]))[0].argmax(-1).int().numpy()
    features = torch.cat([leaving[depth] for depth in depths(len(leaving))], -1)[0].half().numpy()
    segments = _segments(row)
    in_middle = (row.kinds == MIDDLE) & (row.targets != NONE)
    in_middle[1:] &= in_middle[:-1]  # the first is a mark's, which the middle follows
    labels = np.where(segments == NONE, np.int32(NONE), choices)
    numbers = row.tokens.astype(np.int32), row.positions.astype(np.int32)
    return Shard(*numbers, labels, segments, in_middle, row.mask[0], features)


def _segments(row: Batch) -> NDArray[np.int16]:
    """A branch begins with a row that sees of the tail itself alone."""
    tail = len(row.mask[0])
    context = len(row.tokens) - tail
    segments = np.full(len(row.tokens), NONE, np.int16)
    segments[:context][row.tokens[:context] != PAD] = 0
    branch = 0
    for at, own in enumerate(row.mask[0][:, context:]):
        if own.any():
            branch += own.sum() == 1
            segments[context + at] = branch
    return segments


class Canvases(msgspec.Struct):
    """Canvases at A anchors of one training row, of B rows each, of which those that are `valid` (A, B) are learned
    from; labels (A, B).
    """

    blocks: Blocks
    labels: Tensor
    valid: Tensor


def canvases(shard: Shard, row: int, anchors: NDArray[np.int64], rows: int, every: bool = False) -> Canvases:
    """Canvases of so many rows at `anchors`, places in the training row. The blocks have the valid rows, or `every`."""
    tokens, labels, segments = (np.asarray(part[row]) for part in (shard.tokens, shard.labels, shard.segments))
    size, tail = len(tokens), shard.seen.shape[1]
    places = anchors[:, None] + np.arange(rows)
    inside = np.minimum(places, size - 1)
    follows = np.ones(places.shape, bool)
    follows[:, 1:] = (tokens[inside[:, 1:]] == labels[inside[:, :-1]]) & (places[:, 1:] < size)
    follows &= segments[inside] == segments[anchors][:, None]
    valid = follows.cumprod(1).astype(bool)
    visible = np.arange(size) < anchors[:, None]
    in_tail = anchors >= size - tail
    visible[in_tail] &= shard.seen[row][anchors[in_tail] - (size - tail)]
    previous = np.concatenate((tokens[anchors][:, None], labels[inside[:, :-1]]), 1)
    previous = np.where(valid, previous, 0)
    canvas, place = np.nonzero(valid | every)
    blocks = Blocks(
        features=torch.from_numpy(shard.features[row].astype(np.float32)),
        positions=_numbers(shard.positions[row]),
        anchors=_numbers(tokens[anchors]),
        starts=_numbers(shard.positions[row][anchors]),
        visible=torch.from_numpy(visible),
        canvas=_numbers(canvas),
        row=_numbers(place),
        previous=_numbers(previous[canvas, place]),
    )
    return Canvases(blocks, _numbers(np.where(valid, labels[inside], 0)), torch.from_numpy(valid))


def _numbers(part: NDArray[np.integer[Any]]) -> Tensor:
    return torch.from_numpy(part.astype(np.int64))


def drawn(shard: Shard, row: int, count: int, middles: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Anchors, so many of them in middles where there are as many; the others anywhere."""
    [inside] = np.nonzero(shard.middle[row])
    [others] = np.nonzero((shard.segments[row] == 0) & (np.arange(shard.tokens.shape[1]) >= EARLIEST))
    chosen = random.permutation(inside)[: round(count * middles)]
    rest = random.permutation(others)[: count - len(chosen)]
    return np.concatenate((chosen, rest)).astype(np.int64)
