"""How good fills are at natural cursor places of packages that are never trained on: exact match of the line, tokens a
pass, and what a cold request takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.contract import Backend, Fill, FillRequest
from engine.evaluation.latency import timed
from engine.evaluation.places import STARTS, Place, cursors
from engine.evaluation.report import Times, share, times


class Hit(NamedTuple):
    """What was filled at a place, and the milliseconds that it took."""

    place: Place
    fill: Fill
    ms: float

    @property
    def right(self) -> bool:
        return self.fill.text == self.place.todo


class Quality(msgspec.Struct):
    """Shares of lines that are exactly right, in all and by the cursor's kind; milliseconds of a cold request."""

    places: int
    exact: float
    exact_by_start: dict[str, float]
    tokens_a_pass: float
    ms: Times


def evaluate(filler: Backend, folder: Path, count: int, copies: bool = True, language: str = "python") -> Quality:
    """How a loaded model fills `count` places of a corpus folder. Raises EngineError as `cursors` does."""
    places = cursors(folder, count, language=language)
    return quality([hit(filler, place, msgspec.structs.replace(place.request, copies=copies)) for place in places])


def hit(filler: Backend, place: Place, request: FillRequest) -> Hit:
    ms, fill = timed(filler, request)
    return Hit(place, fill, ms)


def quality(hits: Sequence[Hit]) -> Quality:
    fills = [each.fill for each in hits]
    return Quality(
        places=len(hits),
        exact=share(each.right for each in hits),
        exact_by_start={start: share(each.right for each in hits if each.place.start == start) for start in STARTS},
        tokens_a_pass=sum(fill.tokens + fill.complete for fill in fills) / sum(fill.passes for fill in fills),
        ms=times(each.ms for each in hits),
    )
