"""The losses of a run as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from engine.contract import EngineError
from engine.training.objective import KINDS

SMOOTHING = 0.97  # of the training curves, a step


def plot_losses(state: Path) -> Path:
    """Write losses.png beside the log. Raises EngineError where there is no log."""
    try:
        with (state / "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise EngineError(f"no training log in {state} ({error.strerror}); give the --state of a run") from None
    mpl.use("Agg")
    figure, axes = plt.subplots(figsize=(8, 5))
    for number, kind in enumerate(KINDS):
        colour = f"C{number}"
        millions = [int(row["tokens"]) / 1e6 for row in rows]
        axes.plot(millions, smooth([float(row[kind]) for row in rows]), colour, label=kind)
        held_out = [
            (x, float(row[f"validation_{kind}"]))
            for x, row in zip(millions, rows, strict=True)
            if row[f"validation_{kind}"]
        ]
        axes.plot(
            *zip(*held_out, strict=True) if held_out else ((), ()), colour + "--o", label=f"{kind}, reserved packages"
        )
    axes.set(xlabel="million context tokens", ylabel="cross-entropy, nats a token", ylim=(1, 7))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(state / "losses.png", dpi=110, bbox_inches="tight")
    return state / "losses.png"


def smooth(values: list[float]) -> list[float]:
    smoothed, mean = [], values[0] if values else 0.0
    for value in values:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        smoothed.append(mean)
    return smoothed
