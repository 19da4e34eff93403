"""Plays a policy on notes of what could be shown: what is shown by its gate and right is accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.places import Place
from engine.evaluation.typist import acceptable, counted, next_key
from lsp_server.gate import FEATURES, Gate

TRIED = FEATURES.index("tried")
TRIES = 4  # more are as many
Odds: TypeAlias = NDArray[np.float64]


class KeyNote(NamedTuple):
    """What could be shown at a key: texts with their features (texts, FEATURES), and whether they are right."""

    at: int  # characters of the place before it
    texts: list[str]
    features: NDArray[np.float64]
    right: NDArray[np.bool_]


class Typed(NamedTuple):
    package: str
    place: Place
    keys: list[KeyNote]


class Played(NamedTuple):
    """A policy's figures, as in engine.evaluation.savings; `visited` are the keys that were pressed, `judged` the best
    text of each of them: the chance that it is right, and whether it is.
    """

    ratio: float
    precision: float
    shown: float
    wrong: float
    visited: list[KeyNote]
    judged: list[tuple[float, bool]]


def odds_of(notes: Sequence[Typed], gate: Gate) -> list[list[Odds]]:
    """Of each key of each place: the log-odds of its texts after 0, 1, … suggestions on the line (TRIES, texts)."""
    rows = np.concatenate([key.features for typed in notes for key in typed.keys])
    odds = np.empty((TRIES, len(rows)))
    for tried in range(TRIES):
        rows[:, TRIED] = tried
        odds[tried] = gate.log_odds(rows)
    ends = iter(np.cumsum([len(key.texts) for typed in notes for key in typed.keys]))
    return [[odds[:, (end := next(ends)) - len(key.texts) : end] for key in typed.keys] for typed in notes]


def play(notes: Sequence[Typed], odds: Sequence[Sequence[Odds]], price: float) -> Played:
    """A typist's session behind a gate."""
    accepted = characters = lines = shown = right = 0
    visited: list[KeyNote] = []
    judged: list[tuple[float, bool]] = []
    for typed, its_odds in zip(notes, odds, strict=True):
        todo, at, seen, tried = typed.place.todo, 0, set[str](), Counter[int]()
        keys = {key.at: (key, each) for key, each in zip(typed.keys, its_odds, strict=True)}
        characters, lines = characters + counted(todo), lines + todo.count("\n") + 1
        while at < len(todo):
            taken = ""
            if at in keys:
                (key, each), row = keys[at], todo.count("\n", 0, at)
                known = key.features.copy()
                known[:, TRIED] = tried[row]
                visited.append(key._replace(features=known))
                chances = 1 / (1 + np.exp(-each[min(tried[row], TRIES - 1)]))
                benefits = chances * [len(text.strip()) for text in key.texts] - (1 - chances) * price
                best = int(benefits.argmax())
                judged.append((float(chances[best]), bool(key.right[best])))
                if benefits[best] > 0:
                    text = key.texts[best]
                    if todo[:at] + text not in seen:
                        seen.add(todo[:at] + text)
                        shown, right = shown + 1, right + int(key.right[best])
                        tried[row] += 1
                    taken = acceptable(text, todo[at:])
                    tried[row] -= taken == text
                    accepted += counted(taken)
            at += len(taken or next_key(todo[at:]))
    wrong = shown - right
    return Played(accepted / characters, right / max(1, shown), shown / lines, wrong / lines, visited, judged)
