"""The report for a bug: what is here, and whether it works."""

from __future__ import annotations

import pytest

from engine import EngineError
from lsp_server.__main__ import main


def test_a_report_of_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--doctor"]) == 0
    out = capsys.readouterr().out
    for part in (
        "Python 3.",
        "onnxruntime ",
        "model small: config.json ",
        "test fill with auto: ",
        "log: ",
    ):
        assert part in out


def test_a_report_of_what_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    def load(model: str, device: str) -> None:
        raise EngineError("it is broken")

    assert main(["--doctor"], load) == 1
    assert "EngineError: it is broken" in capsys.readouterr().out
