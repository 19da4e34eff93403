"""When a fill ends, and how far a draft goes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from engine.backends.memory import Rows
from engine.contract import FillRequest
from engine.decoding.draft_verify import _likely, _trusted
from engine.decoding.limits import Limits, Written, goes_round
from engine.embedded import WEIGHTS
from engine.retrieval.copy_weights import Evidence, share, trust
from engine.retrieval.copying import Copy, mixed
from engine.tokenizer import EOM, Tokenizer

TOKENIZER = Tokenizer.load(WEIGHTS / "nano" / "tokenizer.json")
NANO = trust("nano")


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


def test_the_likeliest_of_model_and_copier() -> None:
    logits = np.log(np.array([[0.1, 0.6, 0.3]], np.float32)) + 5
    rows = Rows([1], [0.6], logits)
    weak, strong = Evidence(4, 0.1, False, False, True, False), Evidence(60, 1.0, True, True, False, False)
    assert mixed(rows, 0, None) == (1, 0.6)
    assert mixed(rows, 0, Copy(1, weak, NANO)) == (1, share(weak, 0.6, 0.6, NANO))
    assert mixed(rows, 0, Copy(2, weak, NANO)) == (1, pytest.approx((1 - share(weak, 0.3, 0.6, NANO)) * 0.6 / 0.7))
    assert mixed(rows, 0, Copy(2, strong, NANO)) == (2, pytest.approx(share(strong, 0.3, 0.6, NANO)))


def test_a_draft_ends_where_it_is_unlikely_or_over() -> None:
    assert _likely(Written([1, 2, 3], [0.9, 0.9, 0.1]), TOKENIZER.ends) == [1, 2]
    assert _likely(Written([1, EOM, 3], [0.9, 0.9, 0.9]), TOKENIZER.ends) == [1]
    assert _likely(Written([1, 2], [0.1, 0.9]), TOKENIZER.ends) == []


def test_tokens_are_trusted_up_to_the_first_unsure_one() -> None:
    canvas = Written([7, 1, 2, 3], [1.0, 0.9, 0.4, 0.9])
    assert _trusted(canvas, 0.5).tokens == [1]
    assert _trusted(canvas, 0.0).tokens == [1, 2, 3]
    assert _trusted(canvas, 1.0).tokens == []


def nothing_yet() -> Written:
    return Written()


def test_a_fill_that_nobody_will_believe_in_ends_early() -> None:
    limits, decoded = Limits(FillRequest(prefix="", min_confidence=0.5), TOKENIZER, threading.Event()), nothing_yet()
    assert limits.commit(decoded, Written([300, 301], [0.8, 0.8]))
    assert decoded.confidence == pytest.approx(0.8)
    assert not limits.commit(decoded, Written([302], [0.3]))
    assert decoded.confidence < 0.5
    assert not decoded.ended


def test_the_lines_before_the_doubt_stay() -> None:
    limits, decoded = Limits(FillRequest(prefix="", min_confidence=0.5), TOKENIZER, threading.Event()), nothing_yet()
    lines = [TOKENIZER.encode(text) for text in ("x = 1", "\n    y = 2", "\n    z")]
    for line in lines[:2]:
        assert limits.commit(decoded, Written(line, [0.99] * len(line)))
    assert not limits.commit(decoded, Written(lines[2], [0.1] * len(lines[2])))
    assert TOKENIZER.decode(decoded.tokens) == "x = 1\n    y = 2"
    assert decoded.confidence > 0.9
