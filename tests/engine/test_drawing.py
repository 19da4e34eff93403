"""Tokens drawn at a temperature: from the right distribution, and whatever the drafts were."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Engine, EngineError, FillRequest
from engine.backends.kv_cache import LogitPredictions
from engine.contract import Sampling
from engine.decoding.draft_verify import decode
from engine.decoding.limits import Limits
from engine.decoding.runner import ForwardInput, Gap
from engine.decoding.sampling import TokenSampler
from engine.embedded import WEIGHTS, Embedded
from engine.retrieval.copy_weights import Evidence, share, trust
from engine.retrieval.copying import Copier, Copy
from engine.tokenizer import MASK, SPECIALS, Tokenizer

TOKENIZER = Tokenizer.load(WEIGHTS / "small" / "tokenizer.json")
CHANCES = np.array([0.1, 0.5, 0.3, 0.1])
DRAWS = 4000
LIKELY = 11.0  # more in the logit of a token, four times as likely then as all others of a vocabulary


def rows(chances: NDArray[np.float64] = CHANCES) -> LogitPredictions:
    token = int(chances.argmax())
    return LogitPredictions([token], [float(chances[token])], np.log(chances[None].astype(np.float32)) + 3)


def shares(draw: TokenSampler, copy: Copy | None = None) -> list[float]:
    """How often each token is drawn."""
    counts = Counter(draw(rows(), 0, copy)[0] for _ in range(DRAWS))
    return [counts[token] / DRAWS for token in range(len(CHANCES))]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_temperature_shapes_what_is_drawn(temperature: float) -> None:
    expected = CHANCES ** (1 / temperature)
    assert shares(TokenSampler(Sampling(temperature=temperature))) == pytest.approx(expected / expected.sum(), abs=0.03)


@pytest.mark.parametrize(("top_p", "kept"), [(1e-6, {1}), (0.49, {1}), (0.6, {1, 2}), (0.95, {0, 1, 2, 3})])
def test_the_nucleus_is_what_together_has_top_p(top_p: float, kept: set[int]) -> None:
    found = shares(TokenSampler(Sampling(temperature=1.0, top_p=top_p)))
    assert {token for token, count in enumerate(found) if count} == kept


def test_a_copy_has_its_share_and_the_model_the_rest() -> None:
    evidence = Evidence(4, 0.1, False, False, True, False)
    weights = trust("small")
    part = share(evidence, 0.3, float(max(CHANCES)), weights)
    expected = CHANCES * (1 - part) / 0.7
    expected[2] = part
    assert shares(TokenSampler(Sampling(temperature=1.0)), Copy(2, evidence, weights)) == pytest.approx(
        expected, abs=0.03
    )


def test_probabilities_are_those_before_the_temperature() -> None:
    draw = TokenSampler(Sampling(temperature=2.0))
    for _ in range(20):
        token, probability = draw(rows(), 0, None)
        assert probability == pytest.approx(CHANCES[token], rel=1e-5)


def test_what_is_forbidden_is_never_drawn_and_the_first_is_one_of_the_given() -> None:
    draw = TokenSampler(Sampling(temperature=2.0), never=[1], first=np.array([0, 3]))
    assert draw(rows(), 0, None)[0] in (0, 3)
    found = shares(draw)
    assert found[1] == 0
    assert found[2] > 0.2


COPIED = "    total = first_value + second_value * third_value\n"
FOLLOWS = dict(pairwise(TOKENIZER.encode(COPIED)))


class Scripted:
    """Logits that depend on the last two tokens, whatever the pass: what follows in COPIED is the likeliest by far."""

    capacity = 10_000

    def __init__(self) -> None:
        self.passes = 0

    def predict(self, questions: list[ForwardInput]) -> Sequence[LogitPredictions]:
        [question] = questions
        self.passes += 1
        assert question.read is not None
        texts = [[*question.before, *question.canvas[:count]][-2:] for count in range(question.read + 1)]
        logits = np.array([self.logits(*text) for text in texts])
        tokens = [int(token) for token in logits.argmax(1)]
        return [LogitPredictions(tokens, [0.5] * len(tokens), logits)]

    def logits(self, second: int, last: int) -> NDArray[np.float32]:
        logits = np.random.default_rng((second, last)).normal(size=TOKENIZER.vocab).astype(np.float32)
        if last in FOLLOWS:
            logits[FOLLOWS[last]] += LIKELY
        return logits


def test_the_text_is_the_same_with_and_without_drafts() -> None:
    texts: dict[bool, list[list[int]]] = {True: [], False: []}
    passes = Counter[bool]()
    for drafts, seed in itertools.product((True, False), range(8)):
        request = FillRequest(
            prefix=f"{COPIED}    print(total)\n    total = first", max_lines=1, drafts=drafts, max_tokens=24
        )
        model, limits = Scripted(), Limits(request, TOKENIZER, threading.Event())
        draw = TokenSampler(Sampling(temperature=1.2, seed=seed), range(len(SPECIALS)))
        gap = Gap(TOKENIZER.encode(request.prefix), [])
        written = decode(model, gap, MASK, limits, Copier(request, TOKENIZER), choose=draw)
        texts[drafts].append(written.tokens)
        passes[drafts] += model.passes
    assert texts[True] == texts[False]
    assert len(set(map(tuple, texts[True]))) > 2
    assert passes[True] < passes[False]


GAP = FillRequest(prefix="import os\n\n\ndef names(folder):\n    for name in ", suffix="\n", max_tokens=12)


def test_the_embedded_model_draws_by_its_seed(small: Embedded) -> None:
    engine = Engine(small)

    def text(**sampling: float) -> str:
        drawn = msgspec.structs.replace(GAP, sampling=Sampling(**sampling))
        return engine.fill(drawn, threading.Event()).text

    greedy = text()
    assert greedy == text() == text(temperature=0.0, seed=3) == text(temperature=1.0, top_p=1e-6, seed=3)
    texts = [text(temperature=1.5, seed=seed) for seed in range(5)]
    assert texts == [text(temperature=1.5, seed=seed) for seed in range(5)]
    assert len({greedy, *texts}) > 3


def test_other_options_are_refused_by_their_name(small: Embedded) -> None:
    engine = Engine(small)
    with pytest.raises(EngineError, match=r"option alg.*temperature, top_p, seed"):
        engine.fill(msgspec.structs.replace(GAP, sampling=Sampling(alg="entropy")), threading.Event())
