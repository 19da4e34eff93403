"""Which rows of a canvas keep their token, by the names that the samplers' authors gave (see `contract.Sampling`).

Sources: Dream (generation_utils.py: origin, maskgit_plus, topk_margin, entropy, and its falling shares), LLaDA
(generate.py: low_confidence, random, equal shares), Fast-dLLM (arXiv 2505.22618: a threshold), Open-dLLM
(generation_utils.py: p2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np

from engine.contract import Sampling
from engine.decoding import confidence
from engine.decoding.denoise import Policy, Rule, even
from engine.decoding.passes import Guess

EARLIEST = 1e-3  # time at which Dream's noise is taken to be gone
SCORES: dict[str, Callable[[Guess, int], float]] = {
    "origin": lambda guess, row: 0.0,
    "random": lambda guess, row: 0.0,
    "low_confidence": lambda guess, row: guess.probabilities[row],
    "maskgit_plus": lambda guess, row: guess.sure[row],
    "p2": lambda guess, row: guess.sure[row],
    "topk_margin": lambda guess, row: guess.margins[row],
    "entropy": lambda guess, row: -guess.entropies[row],
}
EQUAL = ("low_confidence", "random")


def chosen(sampling: Sampling, usual: Policy, ends: frozenset[int], one_each: bool) -> Policy:
    """The usual policy with what is asked for; `one_each` where a canvas changes its length, so that shares of it mean
    nothing.
    """
    policy = msgspec.structs.replace(usual, span=sampling.block_length or usual.span)
    if sampling.alg is None and sampling.threshold is None:
        return policy
    policy = msgspec.structs.replace(policy, revoke=0.0)
    if sampling.alg in (None, "confidence_threshold"):
        rule = confidence.above(confidence.THRESHOLD if sampling.threshold is None else sampling.threshold)
        return msgspec.structs.replace(policy, rule=rule, share=even if sampling.alg is None else one)
    share = one if one_each else even if sampling.alg in EQUAL else falling
    return msgspec.structs.replace(policy, rule=_ranked(sampling, ends), share=share, remask=sampling.alg == "p2")


def one(rows: int, step: int, steps: int) -> float:
    return 1


def falling(rows: int, step: int, steps: int) -> float:
    """Dream's share of the open rows: 1 - s / t of times that fall from 1 to EARLIEST, all at last; in float32, as
    torch.linspace counts.
    """
    if step >= steps - 1:
        return rows
    t, s = np.float32(_time(step, steps)), np.float32(_time(step + 1, steps))
    return float(np.float32(rows) * (np.float32(1) - s / t))


def _time(step: int, steps: int) -> float:
    first, last = np.float32(1), np.float32(EARLIEST)
    width = np.float32((last - first) / np.float32(steps))
    time = first + width * np.float32(step) if 2 * step < steps + 1 else last - width * np.float32(steps - step)
    return float(time)


def _ranked(sampling: Sampling, ends: frozenset[int]) -> Rule:
    """As many of the highest score as the quota is; drawn, where there is chance in it."""
    score, random = SCORES[sampling.alg or ""], np.random.default_rng(sampling.seed or 0)
    heat = 1.0 if sampling.alg == "random" else sampling.alg_temp or 0.0

    def choose(guess: Guess, open_rows: list[int], quota: float) -> list[int]:
        if sampling.alg == "origin":
            return [row for row in open_rows if random.random() < quota / len(open_rows)]
        scores = {row: score(guess, row) for row in open_rows}
        if heat:  # Gumbel's way to draw several without replacement
            scores = {row: value / heat + random.gumbel() for row, value in scores.items()}
        if sampling.confidence_eos_eot_inf:
            scores |= {row: -math.inf for row in open_rows if guess.tokens[row] in ends}
        return sorted(open_rows, key=lambda row: -scores[row])[: int(quota)]

    return choose
