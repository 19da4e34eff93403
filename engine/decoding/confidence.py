"""Keep each guess surer than a threshold (Fast-dLLM, arXiv 2505.22618), and the surest others to make the quota."""

from __future__ import annotations

from engine.decoding.denoise import Rule
from engine.decoding.passes import Guess

THRESHOLD = 0.9  # NVlabs/Fast-dLLM, llada/eval.md; defaults elsewhere: SDAR 0.85, Stable-DiffCoder 0.95


def above(threshold: float = THRESHOLD) -> Rule:
    def choose(guess: Guess, open_rows: list[int], quota: float) -> list[int]:
        surest = sorted(open_rows, key=lambda row: -guess.probabilities[row])
        sure = sum(guess.probabilities[row] > threshold for row in open_rows)
        return surest[: max(sure, int(quota))]

    return choose
