"""What decoding asks of a model, whatever it is and whatever runs it: passes over a text with a canvas in it.

Everything here is plain lists, read from the device once a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray


class Gap(msgspec.Struct, frozen=True):
    """A gap in tokens. `taken` is text before the cursor that the fill must spell again, `spelled` how tokens do. Of a
    model in blocks, these lie as if `pad` tokens stood before.
    """

    before: list[int]
    after: list[int]
    taken: str = ""
    spelled: str = ""
    pad: int = 0


class ForwardInput(msgspec.Struct, frozen=True):
    """A canvas between what is before and after it.

    No row may be one of `suppressed`, one to nine. `allowed` is a row and the tokens that it must be one of. The first
    `read` rows are a draft to be verified: a causal model reads them as text and predicted each of them, and the row
    after them, from what is on its left; a canvas of which nothing is read (None) is denoised as a whole. `pad` is the
    gap's.
    """

    before: list[int]
    canvas: list[int]
    after: list[int] = []
    suppressed: list[int] = []
    allowed: tuple[int, list[int] | NDArray[np.int64]] | None = None
    read: int | None = None
    pad: int = 0


class Predictions(Protocol):
    """Of each row: the likeliest token and its probability."""

    @property
    def tokens(self) -> list[int]: ...

    @property
    def probabilities(self) -> list[float]: ...

    def probability(self, row: int, token: int) -> float:
        """Of any token; 0 where the backend has told only of the likeliest and of what stands there."""

    def chances(self, row: int) -> NDArray[np.float64]:
        """Of all tokens (vocab,), where the logits of what was read are at hand."""


P = TypeVar("P", bound=Predictions, covariant=True)


class ModelRunner(Protocol[P]):
    """`capacity` is the most positions of a text."""

    @property
    def capacity(self) -> int: ...

    def predict(self, inputs: list[ForwardInput]) -> Sequence[P]:
        """One pass for all of the inputs, which are alternatives to one another."""


class CanvasPredictions(msgspec.Struct):
    """`Predictions` of a canvas, of which the rest of the logits stayed on the device: of each row the entropy in nats
    too, and the probability of the token that stands there, in `canvas`. Where tokens are drawn from a shaped
    distribution, entropies are that one's, `sampling_probabilities` what it gives to the tokens, `margins` what it
    gives to its likeliest less what it gives to the second.

    `agrees` tells that the row of which some tokens are allowed would have been one of them anyway.
    """

    tokens: list[int]
    probabilities: list[float]
    entropies: list[float]
    canvas_probabilities: list[float]
    sampling_probabilities: list[float] = []
    margins: list[float] = []
    agrees: bool = True
    canvas: list[int] = []

    def probability(self, row: int, token: int) -> float:
        """See Predictions.probability."""
        if token == self.tokens[row]:
            return self.probabilities[row]
        return self.canvas_probabilities[row] if self.canvas[row : row + 1] == [token] else 0.0

    def chances(self, row: int) -> NDArray[np.float64]:
        """See Predictions.chances: they are not; what is drawn is drawn on the device."""
        raise NotImplementedError


CanvasRunner: TypeAlias = ModelRunner[CanvasPredictions]
