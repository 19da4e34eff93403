"""What every checkpoint must pass before it answers: options that the transformer has, sizes that make sense, token ids
that have an embedding. (`tensors` looks at the weights while they are read.)

One step for all families: a family says what it has by data (`Family.built`, `Shape`'s types), never by a guard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.contract import EngineError
from engine.models.transformer import Shape

LARGEST_BLOCK = 256  # tokens
FULL = "full_attention"


def options(config: Mapping[str, Any], name: str, built: Mapping[str, tuple[object, ...]]) -> None:
    """Raises EngineError where config.json asks for what the transformer does not do."""
    for option, values in built.items():
        if config.get(option) is not None and config[option] not in values:
            known = " or ".join(map(repr, values)) or "none"
            raise EngineError(f"{name} has {option} {config[option]!r}, and Inpaint runs {known} only")
    kinds = config.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or any(kind != FULL for kind in kinds)):
        raise EngineError(f"{name} has layer_types other than {FULL!r}, and Inpaint runs that only")


def shape(found: Shape, in_blocks: bool) -> None:
    """Raises ValueError where sizes do not fit together."""
    if found.heads % found.kv_heads:
        raise ValueError("heads must be a multiple of those of keys and values")
    if not found.learned_positions and found.head_dim % 2:
        raise ValueError("heads that turn with the position have an even size")
    largest = min(LARGEST_BLOCK, found.context // 2)
    if in_blocks and not 1 <= found.block <= largest:
        raise ValueError(f"blocks of {found.block} tokens; they have 1 to {largest}")


def ids(tokens: Iterable[int], rows: int, name: str) -> None:
    """Raises EngineError where a token has no embedding among `rows`."""
    outside = [token for token in tokens if not 0 <= token < rows]
    if outside:
        raise EngineError(
            f"{name} has {rows} embeddings and a token of id {max(outside)}; "
            "its tokenizer, config.json and weights do not belong together"
        )


def mask(token: int, others: Iterable[int | None], name: str) -> None:
    """Raises EngineError where the mask is one of the tokens that a fill may hold."""
    if token in others:
        raise EngineError(
            f"{name} has the token {token} as its mask, and to end a text, expand or delete as well; "
            "its tokenizer and config.json do not belong together"
        )
