"""`bench serve` counts what it should."""

from __future__ import annotations

import json

import pytest

from engine.__main__ import main


def test_a_team_types_and_every_request_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "serve", "--json", "--typists", "1", "3", "--seconds", "3", "--workers", "1"]
    assert main(command) == 0
    alone, three = json.loads(capsys.readouterr().out)["loads"]
    for load in (alone, three):
        assert (load["refused"], load["failed"]) == (0, 0)
        assert load["answered"] + load["cancelled"] == len(load["latency_ms"]) > 0
        assert load["memory_mb"][1] > 0
    assert len(three["latency_ms"]) > len(alone["latency_ms"])


def test_no_server_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "serve", "--url", "http://127.0.0.1:1"]) == 2
    assert "no server answers" in capsys.readouterr().err
