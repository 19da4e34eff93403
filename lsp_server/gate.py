"""Whether a fill is shown, and how much of it: by what it is expected to save.

A suggestion that is right saves its characters, a wrong one costs attention, at a price in characters that the dial
sets. So of each beginning of a fill that ends where a word does, the chance that it is right is estimated, and the one
of the most benefit is shown, if it has any:

    benefit = chance · characters - (1 - chance) · price

The chance is said by small gradient-boosted trees (Friedman 2001) from what is at hand anyway: the probabilities of the
tokens, whether they were copied and for how long a match, how many names stand nowhere else (a small model invents
some), the kind of place, how much was typed of the fill already.
They are fitted by `python -m lsp_server.learning`, for each model a file of gates/. In a session their log-odds
shift with what the user accepts, by at most MOST_SHIFT.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine import Fill
from lsp_server.cursor import CursorContext, is_word, opens_block
from lsp_server.feedback import Feedback
from lsp_server.postprocess import LIKELIER, NAME, apply_rules, closed, postprocess
from lsp_server.settings import Dial, Settings

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_SHIFT, MEMORY = 0.7, 20  # log-odds; completions that weigh as much as what is learned offline
RECENT = 40  # completions
COMMENTS = {"python": "#"}  # "//" elsewhere
SCRIPTS = ("javascript", "javascriptreact", "typescript", "typescriptreact")
LEAST = 1e-6  # probability
DOCSTRING = 4_000  # characters in which one begins
OF_CUTS = (
    "sum", "least", "first", "mean", "last", "next", "characters", "tokens", "lines", "whole", "left out", "copied",
    "most copied", "first copied", "closes", "letters", "new names", "new last", "far names", "names",
)  # fmt: skip
OF_PLACES = (
    "typed", "head", "indentation", "inside word", "after blank", "after dot", "after bracket", "after quote",
    "line start", "block", "comment", "docstring", "python", "line goes on", "tried", "script", "go", "rust",
)  # fmt: skip
FEATURES = OF_CUTS + OF_PLACES
NEAR = 2_000  # characters above the cursor's line


class CutPoint(NamedTuple):
    """A beginning of a fill."""

    end: int
    features: list[float]


class NearbyNames(NamedTuple):
    """That stand around the cursor, and above it nearby; `begun` is the beginning of one that the cursor stands in."""

    known: tuple[frozenset[str], ...]
    near: tuple[frozenset[str], ...]
    begun: str


class GateDecision(NamedTuple):
    """What of a fill is shown, and the chance that it is right."""

    text: str
    chance: float


class BoostedTrees(msgspec.Struct):
    """Boosted trees: the log-odds are `start` and a leaf's value of each tree.

    All arrays are (trees, nodes): a node that splits goes to its `left` where the feature is at most the `threshold`,
    else to its `right`; a leaf goes to itself. `prices` are the dial's, in characters.
    """

    features: list[str]
    start: float
    depth: int
    feature: list[list[int]]
    threshold: list[list[float]]
    left: list[list[int]]
    right: list[list[int]]
    value: list[list[float]]
    prices: dict[Dial, float]

    @classmethod
    def load(cls, model: str) -> Self:
        """Of another model than ours, small's."""
        learned = files("lsp_server") / "gates"
        path = learned / f"{model}.json"
        data = (path if path.is_file() else learned / "small.json").read_bytes()
        return msgspec.json.decode(data, type=cls)


class Gate:
    def __init__(self, trees: BoostedTrees) -> None:
        self.prices, self._start, self._depth = trees.prices, trees.start, trees.depth
        self._feature, self._left, self._right = (np.array(a) for a in (trees.feature, trees.left, trees.right))
        self._threshold, self._value = np.array(trees.threshold), np.array(trees.value)
        self._trees = np.arange(len(self._feature))

    @classmethod
    @lru_cache
    def load(cls, model: str) -> Gate:
        return cls(BoostedTrees.load(model))

    def log_odds(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """That suggestions are right (rows,), from their features (rows, features)."""
        node = np.zeros((len(rows), len(self._trees)), np.int64)
        row = np.arange(len(rows))[:, None]
        for _ in range(self._depth):
            goes_left = rows[row, self._feature[self._trees, node]] <= self._threshold[self._trees, node]
            node = np.where(goes_left, self._left[self._trees, node], self._right[self._trees, node])
        odds: NDArray[np.float64] = self._start + self._value[self._trees, node].sum(1)
        return odds

    def chosen(self, cut_points: Sequence[CutPoint], text: str, price: float, shift: float = 0.0) -> GateDecision:
        """The beginning of the text with the most benefit; an empty one where none has any."""
        chances = 1 / (1 + np.exp(-self.log_odds(np.array([cut.features for cut in cut_points])) - shift))
        sizes = np.array([len(text[: cut.end].strip()) for cut in cut_points])
        benefits = chances * sizes - (1 - chances) * price
        best = int(benefits.argmax())
        return GateDecision(text[: cut_points[best].end] if benefits[best] > 0 else "", float(chances[best]))


def decide(
    fill: Fill, gap: CursorContext, settings: Settings, invoked: bool, feedback: Feedback, line: Hashable
) -> GateDecision:
    """What of a fill is shown on a line: all that is worth it to who asked for it; unasked, by the gate, or by the
    threshold of who set one. Of a model that says nothing of its tokens, what is likelier right than not.
    """
    text = postprocess(fill, gap)
    whole = GateDecision(text, fill.before(len(text)).confidence if text else 0.0)
    if invoked or not text:
        return whole
    if settings.min_confidence is not None or not fill.pieces:
        least = LIKELIER if settings.min_confidence is None else settings.min_confidence
        return whole if fill.confidence >= least else GateDecision("", fill.confidence)
    gate = Gate.load(fill.model)
    tried = list(cut_points(fill, text, gap, feedback.tried(line)))
    best = gate.chosen(tried, text, gate.prices[settings.show], shift(feedback.judged()))
    return GateDecision(apply_rules(best.text, gap), best.chance)


def shift(judged: Sequence[tuple[float, float]]) -> float:
    """How far the log-odds move with what became of the last completions: their chances, and 1 where accepted."""
    recent = judged[-RECENT:]
    if not any(outcome for _, outcome in recent):
        return 0.0  # a client that tells nothing, or a user who has accepted nothing yet
    expected, accepted = (sum(column) for column in zip(*recent, strict=True))
    moved = 2 * math.log((accepted + MEMORY / 2) / (expected + MEMORY / 2))
    return min(MOST_SHIFT, max(-MOST_SHIFT, moved))


def cut_points(fill: Fill, text: str, gap: CursorContext, tried: int = 0) -> Iterator[CutPoint]:
    """The beginnings of the text, a beginning of the fill's, that end where a token and a word do and have no bracket
    open; and all of it.

    `tried` are the suggestions that were shown on the cursor's line and not taken.
    """
    place, names = place_features(fill, gap, tried), names_around(gap)
    logs: list[float] = []
    copied: list[float] = []
    pieces = [piece for piece in fill.pieces if piece.end > 0]
    for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
        logs.append(math.log(max(piece.probability, LEAST)))
        copied.append(piece.copied)
        end = min(piece.end, len(text))
        if following is not None and following.end == piece.end:
            continue  # this one goes with the next, which has no characters
        if following is None or end == len(text) or (ends_word(text, end) and closed(text[:end], gap) == text[:end]):
            next_one = math.log(max(following.probability, LEAST)) if following else 0.0
            yield CutPoint(end, [*cut_features(fill, text[:end], logs, copied, next_one, names), *place])
        if end == len(text):
            return


def ends_word(text: str, end: int) -> bool:
    inside = is_word(text[end - 1 : end]) and is_word(text[end : end + 1])
    return not inside and bool(text[:end].strip()) and not text[end - 1].isspace()


def begun_word(head: str) -> str:
    """What of a word stands at the end of the cursor's line so far."""
    return "".join(reversed([*itertools.takewhile(is_word, reversed(head))]))


def names_around(gap: CursorContext) -> NearbyNames:
    begun = begun_word(gap.head)
    above = gap.prefix.removesuffix(gap.head)
    left = frozenset(NAME.findall(gap.head.removesuffix(begun)))
    return NearbyNames((names_of(above), names_of(gap.suffix), left), (names_of(above[-NEAR:]), left), begun)


@lru_cache(maxsize=6)  # a line is typed between the same texts
def names_of(text: str) -> frozenset[str]:
    return frozenset(NAME.findall(text))


def cut_features(
    fill: Fill, text: str, logs: list[float], copied: list[float], next_one: float, names: NearbyNames
) -> list[float]:
    """In the order of OF_CUTS; `logs` of the probabilities of the tokens, and of the one left out first."""
    written = NAME.findall(names.begun + text)
    new = [not any(name in known for known in names.known) for name in written]
    far = [not any(name in near for near in names.near) for name in written]
    return [
        sum(logs),
        min(logs),
        logs[0],
        sum(logs) / len(logs),
        logs[-1],
        next_one,
        float(len(text)),
        float(len(logs)),
        float(text.count("\n")),
        float(len(text) >= len(fill.text.rstrip()) and fill.complete),
        float(len(fill.text) - len(text)),
        sum(share > 0 for share in copied) / len(copied),
        max(copied),
        copied[0],
        float(text[-1:] in tuple(")]}:;,")),
        sum(map(str.isalpha, text)) / max(1, len(text)),
        float(sum(new)),
        float(bool(new) and new[-1]),
        float(sum(far)),
        float(len(written)),
    ]


def place_features(fill: Fill, gap: CursorContext, tried: int) -> list[float]:
    """In the order of OF_PLACES."""
    head, bare = gap.head, gap.head.lstrip()
    last = head[-1:]
    return [
        float(fill.typed),
        float(len(bare)),
        float(len(head) - len(bare)),
        float(len(begun_word(head))),
        float(last.isspace()),
        float(last == "."),
        float(last in tuple("([{,")),
        float(last in tuple("\"'")),
        float(not bare),
        float(opens_block(gap)),
        float(bare.startswith(COMMENTS.get(gap.language, "//"))),
        float(gap.prefix[-DOCSTRING:].count('"""') % 2),
        float(gap.language == "python"),
        float(bool(gap.rest.strip())),
        float(tried),
        float(gap.language in SCRIPTS),
        float(gap.language == "go"),
        float(gap.language == "rust"),
    ]
