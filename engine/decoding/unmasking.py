"""Which masks of a canvas are unmasked after a pass, and which tokens are masked again.

A *rule* has one signature: (predictions, open rows, quota) -> rows, where the quota is the least number that keeps
within the passes, a *share* of the open rows. A public family has its own; the options of the samplers' authors choose
others, by the names that they gave (see `contract.Sampling`). An option that has no effect is refused: who asks for it
would take what comes for what it makes.

Sources: Fast-dLLM (arXiv 2505.22618: a threshold), EB (arXiv 2505.24857: an entropy bound), Dream (generation_utils.py:
origin, maskgit_plus, topk_margin, entropy, and its falling shares), LLaDA (generate.py: low_confidence, random, equal
shares), Open-dLLM (generation_utils.py: p2, arXiv 2502.03540).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np

from engine.contract import Refusal, Sampling
from engine.decoding.runner import CanvasPredictions

THRESHOLD = 0.9  # NVlabs/Fast-dLLM, llada/eval.md; defaults elsewhere: SDAR 0.85, Stable-DiffCoder 0.95
BOUND = 0.1  # nats; DiffusionGemma's default
EARLIEST = 1e-3  # time at which Dream's noise is taken to be gone
SCORES: dict[str, Callable[[CanvasPredictions, int], float]] = {
    "origin": lambda predictions, row: 0.0,
    "random": lambda predictions, row: 0.0,
    "low_confidence": lambda predictions, row: predictions.probabilities[row],
    "maskgit_plus": lambda predictions, row: predictions.sampling_probabilities[row],
    "p2": lambda predictions, row: predictions.sampling_probabilities[row],
    "topk_margin": lambda predictions, row: predictions.margins[row],
    "entropy": lambda predictions, row: -predictions.entropies[row],
}
RANKING = SCORES.keys() - {"origin"}
EQUAL = ("low_confidence", "random")

Rule: TypeAlias = Callable[[CanvasPredictions, list[int], float], list[int]]


# ---------------------------------------------------------------- how many


def even(rows: int, step: int, steps: int) -> float:
    """The same number in every pass, or one more."""
    return math.ceil(rows / max(1, steps - step))


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


# ---------------------------------------------------------------- which


def left_to_right(predictions: CanvasPredictions, open_rows: list[int], quota: float) -> list[int]:
    """Autoregression."""
    return open_rows[:1]


def above(threshold: float = THRESHOLD) -> Rule:
    """Each prediction surer than a threshold (Fast-dLLM), and the surest others to make the quota."""

    def choose(predictions: CanvasPredictions, open_rows: list[int], quota: float) -> list[int]:
        surest = sorted(open_rows, key=lambda row: -predictions.probabilities[row])
        sure = sum(predictions.probabilities[row] > threshold for row in open_rows)
        return surest[: max(sure, int(quota))]

    return choose


def within(bound: float = BOUND) -> Rule:
    """Guesses from the least uncertain on while what they may get wrong together stays small (EB), and more of them to
    make the quota.

    The error of unmasking rows at once, as if they were independent, is at most the sum of their entropies less the
    largest.
    """

    def choose(predictions: CanvasPredictions, open_rows: list[int], quota: float) -> list[int]:
        calmest = sorted(open_rows, key=lambda row: predictions.entropies[row])
        taken, spent = 0, 0.0
        while taken < len(calmest) and spent <= bound:  # spent: of all taken, without the next, which is the largest
            spent += predictions.entropies[calmest[taken]]
            taken += 1
        return calmest[: max(taken, int(quota))]

    return choose


def ranked(sampling: Sampling, ends: frozenset[int]) -> Rule:
    """As many of the highest score as the quota is; drawn, where there is chance in it."""
    score, random = SCORES[sampling.alg or ""], np.random.default_rng(sampling.seed or 0)
    temperature = 1.0 if sampling.alg == "random" else sampling.alg_temp or 0.0

    def choose(predictions: CanvasPredictions, open_rows: list[int], quota: float) -> list[int]:
        if sampling.alg == "origin":
            return [row for row in open_rows if random.random() < quota / len(open_rows)]
        scores = {row: score(predictions, row) for row in open_rows}
        if temperature:  # Gumbel's way to draw several without replacement
            scores = {row: value / temperature + random.gumbel() for row, value in scores.items()}
        if sampling.confidence_eos_eot_inf:
            scores |= {row: -math.inf for row in open_rows if predictions.tokens[row] in ends}
        return sorted(open_rows, key=lambda row: -scores[row])[: int(quota)]

    return choose


# ---------------------------------------------------------------- masked again


def least_sure(predictions: CanvasPredictions, share: float) -> set[int]:
    """The rows whose predicted are the least sure, a share of all, rounded down; counted in float32, as torch does."""
    count = int(np.float32(len(predictions.tokens)) * np.float32(share))
    return set(sorted(range(len(predictions.tokens)), key=lambda row: predictions.sampling_probabilities[row])[:count])


# ---------------------------------------------------------------- policies


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How canvases are unmasked.

    `passes` are those of a canvas, or of so many rows in blocks (denoise.ROWS); of `span` rows the leftmost that has
    an open one is considered (0: all rows), and passes are shared out to spans. `share` of (open rows, passes before,
    passes) is the quota. With `remask`, the rows that the model is least sure of are masked whatever they were, and all
    others unmasked (P2). With `lead`, the first pass unmasks the first row alone.
    """

    rule: Rule
    passes: int
    span: int = 0
    share: Callable[[int, int, int], float] = even
    remask: bool = False
    lead: bool = False

    def quota(self, length: int, considered: list[int], step: int) -> float:
        """After so many passes, in those that are for the rows considered."""
        if not self.span:
            return self.share(len(considered), step, self.passes)
        each = max(1, self.passes // math.ceil(length / self.span))
        return self.share(len(considered), step - considered[0] // self.span * each, each)

    def considered(self, open_rows: list[int]) -> list[int]:
        if not self.span:
            return open_rows
        end = (open_rows[0] // self.span + 1) * self.span
        return [row for row in open_rows if row < end]


def chosen(sampling: Sampling, usual: Policy, ends: frozenset[int], one_each: bool) -> Policy:
    """The usual policy with what is asked for; `one_each` where a canvas changes its length, so that shares of it mean
    nothing.
    """
    policy = msgspec.structs.replace(usual, span=sampling.block_length or usual.span)
    if sampling.alg is None and sampling.threshold is None:
        return policy
    if sampling.alg in (None, "confidence_threshold"):
        rule = above(THRESHOLD if sampling.threshold is None else sampling.threshold)
        return msgspec.structs.replace(policy, rule=rule, share=even if sampling.alg is None else one)
    share = one if one_each else even if sampling.alg in EQUAL else falling
    return msgspec.structs.replace(policy, rule=ranked(sampling, ends), share=share, remask=sampling.alg == "p2")


# ---------------------------------------------------------------- options that have no effect


class Case(NamedTuple):
    """`block` is that of the model, 0 where every row sees every row; `expands` whether it has marks for lengths."""

    alg: str | None
    drafts: bool
    block: int
    expands: bool


class Need(NamedTuple):
    """What options of the samplers need to have an effect."""

    options: tuple[str, ...]
    what: str
    met: Callable[[Case], bool]


CHOSEN = ("alg", "alg_temp", "threshold", "confidence_eos_eot_inf")
NEEDS = (
    Need(("left_pad",), "a model in blocks of several tokens", lambda case: case.block > 1),
    Need(("pad_eos_to_right",), "a model that expands and deletes", lambda case: case.expands),
    Need(("cache",), "a model that sees both sides in place", lambda case: not case.block),
    Need(CHOSEN, "a model with canvases of several tokens", lambda case: case.block != 1),
    Need(CHOSEN, "drafts", lambda case: case.drafts),
    Need(("alg_temp",), "an alg that ranks by a score", lambda case: case.alg in RANKING - {"random"}),
    Need(("confidence_eos_eot_inf",), "an alg that ranks", lambda case: case.alg in RANKING),
    Need(("threshold",), "confidence_threshold as alg", lambda case: case.alg in (None, "confidence_threshold")),
)


def require(asked: Sampling, usual: Sampling, case: Case) -> None:
    """Raises Refusal for the first of the options `asked` for that has no effect. One that is 0 or False, or as is
    `usual` for all models, changes nothing.
    """
    said, default = msgspec.structs.asdict(asked), msgspec.structs.asdict(usual)
    for need in NEEDS:
        for option in need.options:
            if said[option] and said[option] != default[option] and not need.met(case):
                raise Refusal(f"{option} has no effect here, for it needs {need.what}: leave it out")
