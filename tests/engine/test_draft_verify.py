"""When a fill ends, and how far a draft goes."""

from __future__ import annotations

import pytest

from engine.backends.onnx import Rows
from engine.contract import FillRequest
from engine.decoding.draft_verify import Decoded, Limits, _agreed, _likely, _trusted, goes_round
from engine.decoding.lookup import continuation
from engine.nano import WEIGHTS
from engine.tokenizer import EOM, Tokenizer


@pytest.mark.parametrize(
    ("tokens", "round_"),
    [
        ([5] * 12, True),
        ([5] * 11, False),
        ([1, 2, 3] * 4, True),
        ([9, 9, *[1, 2, 3, 4] * 4], True),
        ([1, 2, 3] * 3 + [4], False),
        ([*range(40)], False),
        ([*[1, 2] * 6, 7], False),
        ([], False),
    ],
)
def test_circles_are_seen(tokens: list[int], round_: bool) -> None:
    assert goes_round(tokens) is round_


def test_a_draft_counts_up_to_the_first_disagreement() -> None:
    assert _agreed([], [3]) == 0
    assert _agreed([1, 2, 3], [1, 2, 3, 9]) == 3
    assert _agreed([1, 2, 3], [1, 5, 3, 9]) == 1


def test_a_draft_ends_where_it_is_unlikely_or_over() -> None:
    assert _likely(Rows([1, 2, 3], [0.9, 0.9, 0.1])) == [1, 2]
    assert _likely(Rows([1, EOM, 3], [0.9, 0.9, 0.9])) == [1]
    assert _likely(Rows([1, 2], [0.1, 0.9])) == []


def test_tokens_are_trusted_up_to_the_first_unsure_one() -> None:
    canvas = Rows([7, 1, 2, 3], [1.0, 0.9, 0.4, 0.9])
    assert _trusted(canvas, 0.5).tokens == [1]
    assert _trusted(canvas, 0.0).tokens == [1, 2, 3]
    assert _trusted(canvas, 1.0).tokens == []


def test_drafts_are_looked_up_half_as_long_as_the_match() -> None:
    assert continuation([1, 2, 3, 4, 9, 9, 1, 2]) == [3]
    assert continuation([1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4]) == [5, 6]
    assert continuation([1, 2, 3, 1, 2, 4, 1, 2]) == [4]  # the latest
    assert continuation([5, 1, 2, 3, 8, 1, 2, 4, 5, 1, 2]) == [3]  # the longest
    assert continuation([1, 2, 3, 3]) == []  # one token is no match to go by
    assert continuation([1]) == continuation([]) == []


def test_a_fill_that_nobody_will_believe_in_ends_early() -> None:
    limits = Limits(FillRequest(prefix="", min_confidence=0.5), Tokenizer.load(WEIGHTS / "nano" / "tokenizer.json"))
    decoded = Decoded(tokens=[], probabilities=[], passes=0, decode_seconds=0.0, ended=False)
    assert limits.commit(decoded, [300], [0.04])  # four sure ones more would do
    assert limits.commit(decoded, [301, 302], [0.9, 0.9])
    assert not limits.commit(decoded, [303], [0.01])
    assert not decoded.ended
