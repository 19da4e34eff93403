"""The trainer learns, stops and goes on where it was, with real processes on a small corpus."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

import engine
from engine.__main__ import main
from engine.corpus import FileEntry
from engine.embedded import WEIGHTS
from engine.training.muon import orthogonalise

CONFIG = {
    "model": {"dim": 32, "layers": 1, "heads": 2, "mlp": 64, "ngram_buckets": 64, "ngram_dim": 8},
    "sampler": {"context": 96, "tail": 64, "canvas": 8, "buckets": 64},
    "batch": 2,
    "micro_batch": 2,
    "warmup": 1,
}


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    for folder in (tmp_path / "corpus", tmp_path / "corpus" / "validation"):
        folder.mkdir()
        texts = [path.read_bytes() for path in sorted(Path(engine.__file__).parent.glob("*.py"))]
        (folder / "corpus.bin").write_bytes(b"".join(texts))
        np.save(folder / "index.npy", np.cumsum([0, *map(len, texts)]))
        entries = [msgspec.json.encode(FileEntry("inpaint", "engine/x.py", len(text))) for text in texts]
        (folder / "files.jsonl").write_bytes(b"\n".join(entries))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    tokenizer = str(WEIGHTS / "nano" / "tokenizer.json")
    folders = ["--corpus", str(tmp_path / "corpus"), "--tokenizer", tokenizer, "--state", str(tmp_path / "state")]
    return [*folders, "--config", str(tmp_path / "config.json")]


def train(arguments: list[str], steps: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "engine", "train", "run", *arguments, "--steps", str(steps)]
    environment = os.environ | {"TORCH_COMPILE_DISABLE": "1"}  # compiling takes longer than these steps
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def log(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "state" / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_training_learns_and_resumes(arguments: list[str], tmp_path: Path) -> None:
    assert train(arguments, 3).wait(timeout=300) == 0
    assert train(arguments, 20).wait(timeout=300) == 0
    rows = log(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(1, 21))
    tokens = [int(row["tokens"]) for row in rows]
    assert tokens == sorted(tokens)
    assert float(rows[-1]["context"]) < float(rows[0]["context"]) - 0.3
    assert float(rows[-1]["validation_canvas"]) > 0
    assert 0 <= float(rows[-1]["right_at_1"]) <= 1
    assert 0 <= float(rows[-1]["exact"]) <= 1
    assert float(rows[-1]["tokens_a_pass"]) > 0  # below 1 where most fills could not stand and were written otherwise
    assert main(["train", "plot", "--state", str(tmp_path / "state")]) == 0
    assert (tmp_path / "state" / "losses.png").stat().st_size > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_a_signal_saves_the_state(arguments: list[str], tmp_path: Path) -> None:
    process = train(arguments, 100_000)
    deadline = time.monotonic() + 300
    while not (tmp_path / "state" / "log.csv").exists() or len(log(tmp_path)) < 2:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 0
    saved = torch.load(tmp_path / "state" / "state.pt", weights_only=True)
    assert saved["progress"]["step"] == len(log(tmp_path))


def test_the_budget_in_tokens_ends_training(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "tokens": 1500}))
    assert train(arguments, 100).wait(timeout=300) == 0
    rows = log(tmp_path)
    assert int(rows[-2]["tokens"]) < 1500 <= int(rows[-1]["tokens"])
    assert rows[-1]["exact"], "a run ends with a validation"


def test_a_state_of_another_model_is_told(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(arguments, 1).wait(timeout=300) == 0
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "model": {"dim": 64}}))
    assert main(["train", "run", *arguments]) == 2
    assert "holds another model" in capsys.readouterr().err


@pytest.mark.parametrize("content", ['{"lr": 1}', "{", '{"tokens": "many"}'])
def test_a_bad_configuration_is_told(
    content: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(content)
    assert main(["train", "run", *arguments]) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_muon_orthogonalises() -> None:
    torch.manual_seed(0)
    for shape in ((2, 16, 16), (1, 32, 8), (3, 8, 32)):
        singular = torch.linalg.svdvals(orthogonalise(torch.randn(shape), torch.float32))
        assert 0.6 < singular.min() <= singular.max() < 1.3
