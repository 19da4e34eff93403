"""When a fill ends, and how far a draft goes."""

from __future__ import annotations

import pytest

from engine.backends.onnx import Rows
from engine.decoding.draft_verify import _agreed, _likely, goes_round
from engine.tokenizer import EOM


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
    assert _likely(Rows([7, 1, 2, 3], [1.0, 0.9, 0.9, 0.1])).tokens == [1, 2]
    assert _likely(Rows([7, 1, EOM, 3], [1.0, 0.9, 0.9, 0.9])).tokens == [1]
    assert _likely(Rows([7, 1, 2], [1.0, 0.1, 0.9])).tokens == []
