"""When a fill ends, and how far a draft goes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from engine.backends.kv_cache import LogitPredictions
from engine.contract import FillRequest
from engine.decoding.limits import DecodedTokens, Limits, goes_round
from engine.embedded import WEIGHTS
from engine.retrieval.copy_weights import Evidence, share, trust
from engine.retrieval.copying import Copy, mixed
from engine.tokenizer import Tokenizer

TOKENIZER = Tokenizer.load(WEIGHTS / "small" / "tokenizer.json")
SMALL = trust("small")


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
    rows = LogitPredictions([1], [0.6], logits)
    weak, strong = Evidence(4, 0.1, False, False, True, False), Evidence(60, 1.0, True, True, False, False)
    assert mixed(rows, 0, None) == (1, 0.6)
    assert mixed(rows, 0, Copy(1, weak, SMALL)) == (1, share(weak, 0.6, 0.6, SMALL))
    assert mixed(rows, 0, Copy(2, weak, SMALL)) == (1, pytest.approx((1 - share(weak, 0.3, 0.6, SMALL)) * 0.6 / 0.7))
    assert mixed(rows, 0, Copy(2, strong, SMALL)) == (2, pytest.approx(share(strong, 0.3, 0.6, SMALL)))


def nothing_yet() -> DecodedTokens:
    return DecodedTokens()


def test_a_fill_that_nobody_will_believe_in_ends_early() -> None:
    limits, decoded = Limits(FillRequest(prefix="", min_confidence=0.5), TOKENIZER, threading.Event()), nothing_yet()
    assert limits.commit(decoded, DecodedTokens([300, 301], [0.8, 0.8]))
    assert decoded.confidence == pytest.approx(0.8)
    assert not limits.commit(decoded, DecodedTokens([302], [0.3]))
    assert decoded.confidence < 0.5
    assert not decoded.ended


def test_the_lines_before_the_doubt_stay() -> None:
    limits, decoded = Limits(FillRequest(prefix="", min_confidence=0.5), TOKENIZER, threading.Event()), nothing_yet()
    lines = [TOKENIZER.encode(text) for text in ("x = 1", "\n    y = 2", "\n    z")]
    for line in lines[:2]:
        assert limits.commit(decoded, DecodedTokens(line, [0.99] * len(line)))
    assert not limits.commit(decoded, DecodedTokens(lines[2], [0.1] * len(lines[2])))
    assert TOKENIZER.decode(decoded.tokens) == "x = 1\n    y = 2"
    assert decoded.confidence > 0.9
