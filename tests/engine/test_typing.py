"""The typist types what it should, however it types; a replay counts what it did."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import Engine
from engine.evaluation.typing import SCENARIOS, Key, Scenario, Screen, Typist, replay

TEXT = Path(__file__).with_name("sample.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_typed_is_the_file_again(scenario: Scenario, seed: int) -> None:
    typist, keys = Typist(scenario, TEXT, seed), 0
    for key in typist.pressed():
        if key is None:
            continue
        typist.screen.press(key)
        keys += 1
        typist.suggestion = typist.screen.todo[:9]  # always right
        written = typist.screen.before + typist.screen.after
        assert set(TEXT) | set("abcdefghijklmnopqrstuvwxyz") >= set(written)
    assert keys > 20
    assert typist.screen.todo == ""
    assert without_closers(typist.screen.before + typist.screen.after) == without_closers(TEXT)


def without_closers(text: str) -> str:
    """A quote or bracket that a typist's editor closed too early stays behind, as it does in life."""
    return "".join(character for character in text if character not in ")]}\"'")


def test_keys_do_what_they_say() -> None:
    screen = Screen("f", "", "\n")
    screen.press(Key(1, left="(", right=")"))
    assert (screen.before, screen.after) == ("f(", ")\n")
    screen.press(Key(1, over=1))
    screen.press(Key(1, take=2, left="x"))
    assert (screen.before, screen.after) == ("fx", "\n")


def test_a_replay_counts_its_keys() -> None:
    engine = Engine.load("nano")
    result = replay(
        engine, Scenario(name="short", key_ms=(5000, 5000), pause=0), "\n".join(TEXT.split("\n")[:13]), "a.py"
    )
    assert result.keys > 100
    assert result.cancelled == 0
    assert len(result.histogram) == result.keys + 1
    assert result.encoded < 40 < result.reused
