"""Fits the trees of a gate by gradient boosting.

The signs by which a beginning of a fill is right are much the same for every model. Where few places were typed with
one, its trees go on from another's, which are kept: what those get wrong is learned.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import GradientBoostingClassifier

from lsp_server.gate import FEATURES, BoostedTrees, Gate
from lsp_server.learning.policy import KeyNote

RATE = 0.1  # at which the trees learn


class Origin(BaseEstimator):  # type: ignore[misc]
    """A gate that boosting begins with."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def fit(self, *_: object, **__: object) -> Origin:
        return self

    def predict_proba(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of being wrong and of being right (rows, 2)."""
        right = 1 / (1 + np.exp(-self.gate.log_odds(rows.astype(np.float64))))
        return np.column_stack((1 - right, right))


def booster(origin: BoostedTrees | None = None) -> GradientBoostingClassifier:
    return GradientBoostingClassifier(
        init=Origin(Gate(origin)) if origin else None,
        n_estimators=160,
        max_depth=3,
        learning_rate=RATE,
        subsample=0.3,
        max_features=0.4,
        random_state=0,
    )


def fit(keys: Sequence[KeyNote], origin: BoostedTrees | None = None) -> BoostedTrees:
    """Without prices, which are to be learned of how these trees do."""
    rows, right = np.concatenate([key.features for key in keys]), np.concatenate([key.right for key in keys])
    weights = np.concatenate([np.full(len(key.right), 1 / len(key.right)) for key in keys])  # a key counts once
    model = booster(origin).fit(rows, right, weights)
    trees = [stage[0].tree_ for stage in model.estimators_]
    size = max(tree.node_count for tree in trees)
    prior = float(np.average(right, weights=weights))

    def padded(values: NDArray[np.float64], digits: int = 6) -> list[float]:
        return [round(float(value), digits) for value in values] + [0.0] * (size - len(values))

    def nodes(children: NDArray[np.int64]) -> list[int]:
        own = [int(child) if child >= 0 else node for node, child in enumerate(children)]
        return own + [0] * (size - len(own))

    fitted = BoostedTrees(
        features=list(FEATURES),
        start=float(np.log(prior / (1 - prior))),
        depth=3,
        feature=[[max(0, int(f)) for f in padded(tree.feature)] for tree in trees],
        threshold=[padded(tree.threshold) for tree in trees],
        left=[nodes(tree.children_left) for tree in trees],
        right=[nodes(tree.children_right) for tree in trees],
        value=[padded(RATE * tree.value[:, 0, 0]) for tree in trees],
        prices={},
    )
    return after(origin, fitted) if origin else fitted


def after(origin: BoostedTrees, fitted: BoostedTrees) -> BoostedTrees:
    """The trees of both, each with as many nodes as the largest has."""
    size = max(len(trees.value[0]) for trees in (origin, fitted))
    joined = {
        name: [tree + [0] * (size - len(tree)) for tree in (*getattr(origin, name), *getattr(fitted, name))]
        for name in ("feature", "threshold", "left", "right", "value")
    }
    return msgspec.structs.replace(fitted, start=origin.start, **joined)
