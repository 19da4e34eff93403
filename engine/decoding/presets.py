"""How many denoising passes a canvas gets: by name, or as many as the deadline leaves time for."""

from __future__ import annotations

PASSES = {"quality": 30, "balanced": 12, "fast": 4}
AUTO = 1  # a request that asks for one step leaves it to the engine


def affordable(deadline_ms: float | None, first: float, each: float) -> int:
    """The most of PASSES that end within the deadline, from what the first pass and each later one took last time, in
    seconds. Load shows in that time, so that a busy device gets fewer.
    """
    if deadline_ms is None or not each:
        return PASSES["quality"]
    left = (deadline_ms / 1000 - first) / each + 1
    return next((passes for passes in PASSES.values() if passes <= left), PASSES["fast"])
