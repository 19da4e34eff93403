"""How good fills are at natural cursor places of packages that are never trained on.

Reported are exact match of the line, tokens a draft that the causal role accepted, tokens a pass, and how the
confidence of a fill goes with its being right. The same lines are filled in several ways where these are to be
compared: by `--cache exact` and `fast`, with which nothing is copied, so that each token is the model's.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.contract import Backend, Fill, FillRequest
from engine.evaluation.places import STARTS, Place, cursors
from engine.evaluation.report import share


class Hit(NamedTuple):
    """What was filled at a place, and the milliseconds that it took."""

    place: Place
    fill: Fill
    ms: float

    @property
    def right(self) -> bool:
        return self.fill.text == self.place.todo


class Quality(msgspec.Struct):
    """Shares in [0, 1]; `by_confidence` maps the lower end of a tenth of confidence to (places, share exact)."""

    places: int
    exact: float
    exact_by_start: dict[str, float]
    tokens_a_pass: float
    median_decode_ms: float
    by_confidence: dict[str, tuple[int, float]]


def hit(filler: Backend, place: Place, request: FillRequest) -> Hit:
    started = time.perf_counter()
    fill = filler.fill(request, threading.Event())
    return Hit(place, fill, 1000 * (time.perf_counter() - started))


def evaluate(filler: Backend, folder: Path, count: int, copies: bool = True, language: str = "python") -> Quality:
    """How a loaded model fills `count` places of a corpus folder. Raises EngineError as `cursors` does."""
    hits = [
        hit(filler, place, msgspec.structs.replace(place.request, copies=copies))
        for place in cursors(folder, count, language=language)
    ]
    return Quality(
        places=count,
        exact=share(each.right for each in hits),
        exact_by_start={start: share(each.right for each in hits if each.place.start == start) for start in STARTS},
        tokens_a_pass=sum(each.fill.tokens + each.fill.complete for each in hits) / passes(hits),
        median_decode_ms=median_ms(hits),
        by_confidence=_calibration(hits),
    )


def passes(hits: Iterable[Hit]) -> int:
    return sum(each.fill.passes for each in hits)


def median_ms(hits: list[Hit]) -> float:
    return sorted(each.fill.encode_ms + each.fill.decode_ms for each in hits)[len(hits) // 2]


def _calibration(hits: list[Hit]) -> dict[str, tuple[int, float]]:
    tenths = defaultdict[int, list[bool]](list)
    for each in hits:
        tenths[min(9, int(each.fill.confidence * 10))].append(each.right)
    return {f"{tenth / 10:.1f}": (len(rights), share(rights)) for tenth, rights in sorted(tenths.items())}
