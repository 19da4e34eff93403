"""How often a copied token is right: a logistic function of what speaks for the copy.

Learned offline (`python -m engine train copy-weights`); the weights are in copy_weights.json, what they were
learned on and how well is in copy_weights.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import msgspec

SURE = 1e-6  # probabilities are held so far from 0 and 1


class Evidence(NamedTuple):
    """What speaks for a copied token besides the model; see `candidates.Candidate`.

    `here` tells that it is from the file at hand, `line_start` that nothing of the line is written yet, `begun` that
    tokens of the same copy have been right, `late` that it would go on with what somebody else began: the model, most
    of the time. `opened` and `installed` tell that it is from another open text or from an installed package, and not
    from the index of the workspace; `near`, in [0, 1], how near to the cursor it stands in the file at hand.
    """

    length: int
    agreement: float
    below: bool
    here: bool
    line_start: bool
    begun: bool
    late: bool = False
    opened: bool = False
    installed: bool = False
    near: float = 0.0


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Of the logarithm of the length, the other evidence as it is, the log-odds that the model gives the token, those
    of its own choice, and how many nats likelier that is: a copy is seldom right where the model is sure of another.
    """

    bias: float
    length: float
    agreement: float
    below: float
    here: float
    line_start: float
    begun: float
    late: float
    opened: float = 0.0  # of these three, weights that were learned without them have none
    installed: float = 0.0
    near: float = 0.0
    model: float
    choice: float
    doubt: float


class CopyWeights(msgspec.Struct, frozen=True):
    """For when no model has been asked, and for when one has, by its name."""

    prior: Weights
    with_model: dict[str, Weights]


PUBLIC = "public"  # models that are not ours, of which none was looked at: what held for our smallest of all holds
COPY_WEIGHTS = msgspec.json.decode(Path(__file__).with_name("copy_weights.json").read_bytes(), type=CopyWeights)


def prior(evidence: Evidence) -> float:
    """How often such a token is right."""
    return _share(COPY_WEIGHTS.prior, evidence, 0.5, 0.5)


def trust(model: str) -> Weights:
    """For copies beside this model, or beside PUBLIC ones; another of ours is taken for small."""
    return COPY_WEIGHTS.with_model.get(model, COPY_WEIGHTS.with_model["small"])


def share(evidence: Evidence, probability: float, likeliest: float, weights: Weights) -> float:
    """How often such a token is right that a model gives this probability, and its own choice the other; a probability
    of 0 is not known.
    """
    return _share(weights, evidence, probability, likeliest) if probability else prior(evidence)


def factors(evidence: Evidence, probability: float, likeliest: float) -> tuple[float, ...]:
    """What the weights but the bias are multiplied with."""
    model, choice = (min(max(each, SURE), 1 - SURE) for each in (probability, likeliest))
    return (math.log(evidence.length), *evidence[1:], _odds(model), _odds(choice), max(0.0, math.log(choice / model)))


def _odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _share(weights: Weights, evidence: Evidence, probability: float, likeliest: float) -> float:
    bias, *others = msgspec.structs.astuple(weights)
    known = factors(evidence, probability, likeliest)
    return 1 / (1 + math.exp(-bias - sum(w * x for w, x in zip(others, known, strict=True))))
