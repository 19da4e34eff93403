"""What a family of public checkpoints says of itself: how config.json is read, where weights are, how a gap is put.

A family's `read` turns a checkpoint's config.json into a `Plan`: the shape of the transformer, where each of its
weights is found in the checkpoint, and how a gap is put to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import torch
from torch import Tensor

from engine.models.transformer import Shape

Config = Mapping[str, Any]


class CheckpointSource(msgspec.Struct, frozen=True):
    """A weight of ours, from tensors of a checkpoint.

    A name may give alternatives, "a|b": the first that exists is taken, and all that exist must be equal.
    """

    names: tuple[str, ...]
    combine: Callable[[list[Tensor]], Tensor] = torch.cat


class InfillFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How a gap is put to the model, in token ids. None where the tokenizer's own special token counts.

    shift     logits of row i are of token i + 1
    expand    a token that stands for two masks; delete: one that stands for nothing (None: the model has none)
    mark      how the tokenizer spells `expand` where config.json does not name it
    bos, eos  whether the window begins and ends with them; None: as the tokenizer begins a text
    suffix    whether the canvas sees the text after it in its place; where not, it goes before the canvas
    lead      whether the first token of a block is written before the block is denoised
    causal    whether it writes token after token, from left to right, and knows no mask
    """

    mask: int | None = None
    shift: bool = False
    expand: int | None = None
    delete: int | None = None
    mark: str | None = None
    bos: bool | None = False
    eos: bool = False
    suffix: bool = True
    lead: bool = False
    causal: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    shape: Shape
    sources: dict[str, CheckpointSource]
    infill: InfillFormat
    tokenizer: str | None = None  # hub id, where checkpoints of the family come without one


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is its name on the command line. `how` says what of the text the model sees around a gap, and how the
    length of a fill is found.

    `kinds` are the model types, in lower case, that it is stored as. Where several families share one, `certain` says
    whether config.json alone tells that it is this one; a hub id of `published` tells too, the name of a folder never.
    `built` are options and the values that the transformer has: a checkpoint that asks for another is refused.
    """

    key: str
    name: str
    how: str
    kinds: tuple[str, ...]
    read: Callable[[Config], Plan]
    built: Mapping[str, tuple[object, ...]]
    certain: Callable[[Config], bool] = lambda config: True
    published: tuple[str, ...] = ()


BOTH_SIDES, BLOCKS = "sees both sides in place", "the text after the gap stands before it"
LEARNED, PROBED, ENDED = "length by expanding and deleting", "length by a probe of four", "ends by itself"


def layered(
    shape: Shape, at: str, parts: Mapping[str, tuple[str, ...]], combine: Any = torch.cat
) -> dict[str, CheckpointSource]:
    """Where the weights of each block are: ours to theirs, below `at`, in which {} is the layer's number."""
    return {
        f"blocks.{i}.{ours}": CheckpointSource(tuple(f"{at.format(i)}.{name}" for name in theirs), combine)
        for i in range(shape.layers)
        for ours, theirs in parts.items()
    }


def architectures(config: Config) -> str:
    """The names that a config gives to its classes, in lower case."""
    remote, classes = config.get("auto_map"), config.get("architectures")
    named = [*(classes if isinstance(classes, list) else ()), *(remote.values() if isinstance(remote, dict) else ())]
    return " ".join(map(str, named)).lower()
