"""How far copies are believed is learned from copies that were followed."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from engine.retrieval.copy_weights import COPY_WEIGHTS, CopyWeights, Evidence
from engine.training.copy_weights import Sample, learn, run

PACKAGE = "".join(f"def shape_{n}(width, height):\n    return area_of(width, height, {n})\n\n\n" for n in range(20))


def drawn(count: int, dice: random.Random) -> list[Sample]:
    """Copies with a longer match, and those that the model finds likelier, are right more often; where it is sure of
    another token, they are less often.
    """
    made = []
    for number in range(count):
        length, probability = dice.choice((4, 40)), dice.choice((0.1, 0.9))
        likeliest = dice.choice((probability, 0.9))
        better, worse = 0.4 * (length == 40) + 0.2 * (probability == 0.9), 0.2 * (likeliest > probability)
        right = dice.random() < 0.3 + better - worse
        evidence = Evidence(length, dice.random(), dice.random() < 0.5, False, False, False)
        made.append(Sample(f"p{number % 3}", evidence, probability, likeliest, right))
    return made


def test_what_makes_copies_right_is_learned() -> None:
    prior, beside, without, with_model = learn(drawn(3000, random.Random(0)))
    assert prior.length > 0.3
    assert prior.agreement == pytest.approx(0, abs=0.3)
    assert prior.model == 0
    assert beside.model > 0.1
    assert beside.doubt < -0.1
    assert with_model < without < 0.69


def test_from_packages_to_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shapes.py").write_text(PACKAGE)
        (tmp_path / name / "again.py").write_text(PACKAGE)
    run("small", [tmp_path / "one", tmp_path / "two"], 3, tmp_path / "copy_weights.json")
    learned = msgspec.json.decode((tmp_path / "copy_weights.json").read_bytes(), type=CopyWeights)
    assert learned.prior != COPY_WEIGHTS.prior
    assert learned.with_model["small"] != COPY_WEIGHTS.with_model["small"]
    assert "tokens: log loss" in capsys.readouterr().out
