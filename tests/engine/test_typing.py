"""The typist types what it should, however it types."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from engine.evaluation import typist as typing
from engine.evaluation.typist import Typist

TEXT = Path(__file__).with_name("sample.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("slip", "accept"), [(0.0, 0.0), (0.06, 0.0), (0.03, 0.6)])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_typed_is_the_file_again(
    monkeypatch: pytest.MonkeyPatch, slip: float, accept: float, seed: int
) -> None:
    monkeypatch.setattr(typing, "SLIP", slip)
    monkeypatch.setattr(typing, "ACCEPT", accept)
    typist, keys = Typist(TEXT, seed, lines=200), 0
    for _ in typist.pressed():
        written = typist.before + typist.after
        assert set(TEXT) | set("abcdefghijklmnopqrstuvwxyz") >= set(written)
        if not typist.todo:
            break
        typist.suggestion = typist.todo[:9]  # always right
        keys += 1
    assert keys > 20
    assert without_closers(written) == without_closers(TEXT)


def test_one_place_comes_after_another() -> None:
    typist, places = Typist(TEXT, lines=2), set()
    for _ in islice(typist.pressed(), 400):
        if typist.todo.count("\n") == 1 and typist.before.endswith("\n"):
            places.add(typist.todo)
    assert len(places) > 2


def without_closers(text: str) -> str:
    """A quote or bracket that a typist's editor closed too early stays behind, as it does in life."""
    return "".join(character for character in text if character not in ")]}\"'")


def test_what_is_closed_already_is_typed_over() -> None:
    typist = Typist("f(x)", seed=1, lines=1)
    seen = [typist.before + "|" + typist.after for _ in islice(typist.pressed(), 5)]
    assert seen == ["|", "f|", "f(|)", "f(x|)", "f(x)|"]
