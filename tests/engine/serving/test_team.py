"""`bench serve` counts what it should."""

from __future__ import annotations

import json

import pytest

from engine.__main__ import main
from engine.evaluation.team import Load


def test_a_team_types_and_every_request_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "serve", "--json", "--typists", "1", "3", "--seconds", "3", "--workers", "1"]
    assert main(command) == 0
    alone, three = json.loads(capsys.readouterr().out)["loads"]
    for load in (alone, three):
        assert (load["refused"], load["failed"]) == (0, 0)
        assert load["answered"] + load["cancelled"] == len(load["latency_ms"]) > 0
        assert len(load["memory_mb"]) > 3
        assert min(load["memory_mb"]) > 0
        assert len(load["overhead_ms"]) == load["answered"]
    assert len(three["latency_ms"]) > len(alone["latency_ms"])


def test_what_is_promised_of_a_team_is_told_from_what_is_not() -> None:
    well = Load(20, 600, [50.0] * 99 + [500.0], answered=100, memory_mb=[100, 300, 310])
    assert [promise.kept for promise in well.promises()] == [True, True, True]
    badly = Load(20, 600, [150.0] * 100, answered=99, failed=1, memory_mb=[100, 200, 300])
    assert [promise.kept for promise in badly.promises()] == [False, False, False]
    elsewhere = Load(20, 600, [50.0], answered=1, memory_mb=[0, 0])
    assert [promise.kept for promise in elsewhere.promises()] == [True, True]


def test_no_server_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "serve", "--url", "http://127.0.0.1:1"]) == 2
    assert "no server answers" in capsys.readouterr().err
