"""Keep guesses from the least uncertain on while what they may get wrong together stays small (EB, arXiv 2505.24857).

The error of revealing rows at once, as if they were independent, is at most the sum of their entropies less the
largest. Rows are taken while that stays within the bound, and more of them to make the quota.
"""

from __future__ import annotations

from engine.decoding.denoise import Rule
from engine.decoding.passes import Guess

BOUND = 0.1  # nats; DiffusionGemma's default


def within(bound: float = BOUND) -> Rule:
    def choose(guess: Guess, open_rows: list[int], quota: float) -> list[int]:
        calmest = sorted(open_rows, key=lambda row: guess.entropies[row])
        taken, spent = 0, 0.0
        while taken < len(calmest) and spent <= bound:  # spent: of all taken, without the next, which is the largest
            spent += guess.entropies[calmest[taken]]
            taken += 1
        return calmest[: max(taken, int(quota))]

    return choose
