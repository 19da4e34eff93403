"""What the approximate cache of models that see both sides changes, and saves: the same lines with it and without.

Nothing is copied, so that each token is the model's.
"""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import get_args

import msgspec
from tqdm import tqdm

from engine.contract import Backend, Cache, Fill, Sampling
from engine.evaluation.lines import places, share

CACHES: tuple[Cache, ...] = get_args(Cache)


class Way(msgspec.Struct):
    """Of fills with one cache: shares in [0, 1] of lines that are right and of a line's characters before the first
    wrong one, passes a fill, and the median of milliseconds.
    """

    right: float
    begun: float
    passes: float
    ms: float


class Report(msgspec.Struct):
    """`same` is the share of places at which all caches write the same."""

    places: int
    same: float
    ways: dict[str, Way]


def compare(filler: Backend, folder: Path, count: int, steps: int, language: str) -> Report:
    """Raises EngineError as `lines.places` does, and where the model has no cache to choose."""
    cancel, targets = threading.Event(), list[str]()
    made: dict[Cache, list[Fill]] = {cache: [] for cache in CACHES}
    same = 0
    with tqdm(places(folder, count, language=language), total=count, unit="place") as bar:
        for _, place in bar:
            request = msgspec.structs.replace(place.request, copies=False, steps=steps)
            for cache, fills in made.items():
                asked = msgspec.structs.replace(request, sampling=Sampling(cache=cache))
                fills.append(filler.fill(asked, cancel))
            targets.append(place.target)
            same += len({fills[-1].text for fills in made.values()}) == 1
            bar.set_postfix_str(f"the same at {same}")
    return Report(count, same / count, {cache: _way(targets, fills) for cache, fills in made.items()})


def _way(targets: list[str], fills: list[Fill]) -> Way:
    pairs = list(zip(targets, fills, strict=True))
    return Way(
        right=share(fill.text == target for target, fill in pairs),
        begun=sum(_begun(target, fill.text) / len(target) for target, fill in pairs) / len(pairs),
        passes=sum(fill.passes for fill in fills) / len(fills),
        ms=sorted(fill.encode_ms + fill.decode_ms for fill in fills)[len(fills) // 2],
    )


def _begun(target: str, text: str) -> int:
    """Characters that are right before the first that is not."""
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(target, text, strict=False))))


def print_table(report: Report) -> None:
    print(f"{report.places} places, the same text at {report.same:.0%}")
    print("cache    right   begun  passes  median ms")
    for cache, way in report.ways.items():
        print(f"{cache:6} {way.right:7.1%} {way.begun:7.1%} {way.passes:7.2f} {way.ms:10.0f}")
