"""`python -m engine fill --jsonl` as scripts use it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import engine
from engine import Engine, EngineError
from engine.__main__ import main
from engine.evaluation import indexing, latency

WEIGHTS = Path(engine.__file__).parent / "weights" / "small"
FIELDS = {"id", "text", "confidence", "model", "passes", "tokens", "encode_ms", "decode_ms"}


def run(*arguments: str, lines: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        input="\n".join(lines or []),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def test_each_line_is_answered_and_a_bad_one_for_itself() -> None:
    lines = [
        json.dumps({"id": "a", "prefix": "import numpy as ", "suffix": "\n", "max_lines": 1}),
        "{not json",
        json.dumps({"id": 7, "prefix": 3, "suffix": ""}),
        "",
        "[" * 100_000 + "]" * 100_000,
        '{"id": "c", "prefix": "", "suffix": "", "more": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"id": 8, "prefix": "", "suffix": "", "max_lines": ' + "9" * 10_000 + "}",
        json.dumps({"id": "b", "prefix": "", "suffix": ""}),
    ]
    done = run("fill", "--jsonl", "--max-lines", "1", lines=lines)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert done.stderr == ""
    assert [answer["id"] for answer in answers] == ["a", None, 7, None, None, 8, "b"]
    assert set(answers[0]) == set(answers[-1]) == FIELDS
    assert all(set(answer) == {"id", "error"} for answer in answers[1:-1])
    assert "\n" not in answers[0]["text"]


def test_an_unknown_model_is_one_sentence_and_code_2() -> None:
    done = run("fill", "--jsonl", "--model", "no-such-model")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no model 'no-such-model'" in done.stderr


def test_a_folder_that_is_called_like_a_model_of_the_hub_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(WEIGHTS, tmp_path / "owner" / "model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match=r"write \./owner/model for the folder"):
        Engine.load("owner/model")
    assert Engine.load("./owner/model").reach == Engine.load(str(tmp_path / "owner" / "model")).reach


def test_nothing_in_nothing_out() -> None:
    done = run("fill", "--jsonl")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_bad_option_is_told() -> None:
    assert run("fill").returncode == 2
    assert run("fill", "--jsonl", "--max-lines", "many").returncode == 2


def test_the_engine_imports_no_torch() -> None:
    code = "import sys, engine; engine.Engine.load('small'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


def test_bench_of_an_index_names_what_is_promised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(indexing, "FILLS", 4)
    assert main(["bench", "index", "--files", "20", "--json", "--model", "small"]) == 0
    promises = json.loads(capsys.readouterr().out)
    assert [each["unit"] for each in promises] == ["s", "s", "MB", "ms", "ms", "ms"]
    assert all(each["value"] > 0 for each in promises[:-1])


def test_the_bench_prints_what_it_measures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(latency, "measure", partial(latency.measure, requests=20))
    assert main(["bench", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["requests"] == 20
    assert result["encoded"] < 60  # tokens a key: the window is not encoded anew
    assert result["reused"] > 100
    print(result)
