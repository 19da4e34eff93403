"""What is told of a fill while it is made: what stays never goes again, and the canvas shows what is still masked."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import msgspec
import pytest
import tiny_checkpoints as tiny

from engine import Engine, Fill, FillRequest
from engine.contract import Progress
from engine.embedded import Embedded
from engine.public import load

REQUEST = FillRequest(prefix="import os\n\n\ndef names(folder):\n    for name in os.", suffix="\n", max_tokens=24)


def watched(engine: Engine, **options: object) -> tuple[Fill, list[Progress]]:
    told: list[Progress] = []
    return engine.fill(msgspec.structs.replace(REQUEST, **options), threading.Event(), told.append), told


@pytest.mark.parametrize("options", [{}, {"max_lines": 2}, {"max_lines": 1, "trust": 0.0}])
def test_what_is_told_grows_to_the_fill(small: Embedded, options: dict[str, object]) -> None:
    fill, told = watched(Engine(small), **options)
    texts = [progress.text for progress in told]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert fill.text.startswith(texts[-1])
    assert fill.text.strip() == texts[-1].strip()
    assert [piece.end for piece in told[0].pieces] == [piece.end for piece in fill.pieces[: len(told[0].pieces)]]
    assert fill.text == Engine(small).fill(msgspec.structs.replace(REQUEST, **options), threading.Event()).text


def test_line_ends_are_those_of_the_text(small: Embedded) -> None:
    fill, told = watched(Engine(small), prefix="def f(x):\r\n    if x:\r\n", suffix="\r\n", max_lines=3)
    assert all("\n" not in progress.text.replace("\r\n", "") for progress in told)
    assert fill.text.strip() == told[-1].text.strip()


@pytest.mark.parametrize("family", ["sdar", "dreamon", "mdlm"])
def test_public_models_tell_too(family: str, tmp_path: Path) -> None:
    engine = Engine(load(str(tiny.FAMILIES[family](tmp_path)[0]), "cpu"))
    fill, told = watched(engine, steps=4)
    texts = [progress.text for progress in told]
    assert len(told) > 1
    assert all(fill.text.startswith(text) for text in texts)
    assert any(progress.canvas for progress in told)
