"""Our server against llama.cpp's on this machine: the same team types at one, then at the other, for each size of team.

    python tests/against_llama_cpp.py [--model DIR] [--typists 1 10] [--seconds 20]

llama.cpp runs SmolLM2-135M in 4 bits, 98 MB, on as many threads as there are cores, with a slot for each typist up to
SLOTS. That model fills no gaps, so it goes on after the prefix. A model of ours of the same size is small. Prints what
each server did, and our numbers by llama.cpp's; both get one line a key of the same files, greedily.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import llama_cpp

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.auto import best
from engine.embedded import WEIGHTS
from engine.evaluation import team
from engine.evaluation.latency import SAMPLE
from engine.evaluation.report import table
from engine.remote.address import parse_url
from engine.serving.workers import cores

SLOTS = 8
RATIOS = ("p50 ms", "p95 ms", "fills/s", "fills/s/core")


def megabytes(model: str) -> float:
    folder = WEIGHTS / model if (WEIGHTS / model).is_dir() else Path(model)
    return (folder / "model.safetensors").stat().st_size / 1e6


def compared(model: str, typists: Sequence[int], seconds: float) -> list[tuple[team.Load, team.Load]]:
    """Ours and llama.cpp's, for each number of typists. One server runs at a time."""
    loads = []
    for count in typists:
        pair = []
        for start in (team.started(["--model", model]), llama_cpp.llama_cpp_server(cores(), min(count, SLOTS))):
            with start as (url, pid):
                server = team.Server(parse_url(url).base, team.what_is(url), pid)
                pair.append(asyncio.run(team.load(server, SAMPLE, count, seconds)))
        loads.append((pair[0], pair[1]))
    return loads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=best(), help="an embedded model: shipped, or a folder (default: the best)")
    parser.add_argument("--typists", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    sizes = megabytes(arguments.model), llama_cpp.weights().stat().st_size / 1e6
    print(f"weights: {sizes[0]:.0f} MB of {arguments.model}, {sizes[1]:.0f} MB of llama.cpp's")
    loads = compared(arguments.model, arguments.typists, arguments.seconds)
    rows = [(ours.row(), theirs.row()) for ours, theirs in loads]
    print(
        table([{"server": name, **row} for pair in rows for name, row in zip(("ours", "llama.cpp"), pair, strict=True)])
    )
    if any(2 * load.cancelled > len(load.latency_ms) for pair in loads for load in pair):
        print("\nMost keys of a row came before an answer: its percentiles tell of the typists' pace, not of a server.")
    print("\nours by llama.cpp's:")
    print(table([{"typists": a["typists"], **{name: ratio(a[name], b[name]) for name in RATIOS}} for a, b in rows]))


def ratio(a: float | str, b: float | str) -> float:
    return float(a) / float(b) if float(b) else float("nan")


if __name__ == "__main__":
    main()
