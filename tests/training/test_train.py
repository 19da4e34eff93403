"""The trainer learns, stops and goes on where it was, with real processes on a small corpus."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

import engine
from engine import FillRequest, stored
from engine.__main__ import main
from engine.corpus import FileEntry
from engine.embedded import WEIGHTS, Embedded
from engine.models.trunk import Trunk, TrunkConfig
from engine.training import export, train

CONFIG = {
    "model": {"vocab": 16384, "dim": 32, "layers": 1, "heads": 2, "head_dim": 16, "mlp": 64},
    "sampler": {"context": 96, "tail": 64},
    "lr_adam": 0.006,
    "batch": 2,
    "micro_batch": 2,
    "warmup": 1,
    "workers": 1,
}
BUDGET = 4000  # tokens
UNCOMPILED = ("TORCH_COMPILE_DISABLE", "1")  # compiling takes longer than these steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and a configuration; each test names a state."""
    made = tmp_path_factory.mktemp("training")
    for folder in (made / "corpus", made / "corpus" / "validation"):
        folder.mkdir()
        texts = [path.read_bytes() for path in sorted(Path(engine.__file__).parent.glob("*.py"))]
        (folder / "corpus.bin").write_bytes(b"".join(texts))
        np.save(folder / "index.npy", np.cumsum([0, *map(len, texts)]))
        entries = [msgspec.json.encode(FileEntry("inpaint", "engine/x.py", len(text))) for text in texts]
        (folder / "files.jsonl").write_bytes(b"\n".join(entries))
    return made


def base(folder: Path) -> str:
    """Weights to go on from, with the notice of whoever they are derived from."""
    trunk = Trunk(msgspec.convert(CONFIG["model"], TrunkConfig))
    weights = {name: weight.detach().numpy() for name, weight in trunk.named_parameters()}
    (folder / "NOTICE").write_text("derived")
    stored.write(folder / "base.safetensors", weights, "")
    return str(folder / "base.safetensors")


def arguments(folder: Path, state: str = "state", **config: object) -> list[str]:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    data = ["--corpus", str(folder / "corpus"), "--tokenizer", str(WEIGHTS / "small" / "tokenizer.json")]
    return [*data, "--base", base(folder), "--state", str(folder / state), "--config", str(folder / "config.json")]


@pytest.fixture(scope="module")
def trained(folder: Path) -> list[dict[str, str]]:
    """The log of a training from a base, stopped in two processes, gone on with in one, that ended with its budget."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*UNCOMPILED)
        patch.setattr(train, "FILLS", 6)
        assert main(["train", "run", *arguments(folder, validate_every=0, workers=2), "--steps", "3"]) == 0
        assert main(["train", "run", *arguments(folder, tokens=BUDGET)]) == 0
    return log(folder / "state")


def log(state: Path) -> list[dict[str, str]]:
    with (state / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_training_learns_and_resumes(folder: Path, trained: list[dict[str, str]]) -> None:
    assert [int(row["step"]) for row in trained] == list(range(1, len(trained) + 1))
    tokens = [int(row["tokens"]) for row in trained]
    assert tokens == sorted(tokens)
    assert float(trained[-1]["context"]) < float(trained[0]["context"]) - 0.3
    assert main(["train", "plot", "--state", str(folder / "state")]) == 0
    assert (folder / "state" / "losses.png").stat().st_size > 1000


def test_the_budget_in_tokens_ends_training_with_a_validation(trained: list[dict[str, str]]) -> None:
    *_, before, last = trained
    assert int(before["tokens"]) < BUDGET <= int(last["tokens"])
    assert float(last["validation_middle"]) > 0
    assert 0 <= float(last["exact"]) <= 1
    assert float(last["tokens_a_pass"]) > 0  # below 1 where most fills could not stand and were written otherwise


def test_what_is_exported_has_a_card_with_what_was_measured(
    folder: Path, trained: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = {"package": "inpaint", "version": "1", "use": "train", "licence": "Apache-2.0", "files": 9, "bytes": 9000}
    (folder / "corpus" / "report.json").write_text(json.dumps({"packages": [package]}))
    monkeypatch.setattr(export, "PLACES", 3)
    monkeypatch.setattr(train, "ROWS", 2)
    out, places = tmp_path / "tiny", [*arguments(folder)[:4], "--state", str(folder / "state")]
    assert main(["train", "export", *places, "--out", str(out), "--bits", "6"]) == 0
    card = (out / "README.md").read_text()
    assert card.startswith("# tiny\n")
    assert "| python | as shipped | 3 |" in card
    assert "| as stored |" in card
    assert "inpaint\t1\tApache-2.0\t0.0\n" in (out / "packages.tsv").read_text()
    assert (out / "NOTICE").read_text() == "derived"
    assert Embedded.load(str(out)).fill(FillRequest(prefix="x = "), threading.Event()).passes > 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_a_signal_saves_the_state(folder: Path) -> None:
    command, state = [sys.executable, "-m", "engine", "train", "run"], folder / "signalled"
    environment = os.environ | dict([UNCOMPILED])
    process = subprocess.Popen(
        [*command, *arguments(folder, state.name)], env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (state / "log.csv").exists() or len(log(state)) < 2:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 0
    saved = torch.load(state / "state.pt", weights_only=True)
    assert saved["progress"]["step"] == len(log(state))


def test_a_state_of_another_model_is_told(
    folder: Path, trained: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "run", *arguments(folder, rank=2)]) == 2
    assert "holds another model" in capsys.readouterr().err


def test_a_base_of_another_shape_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deeper = CONFIG["model"] | {"layers": 2}
    assert main(["train", "run", *arguments(folder, state="other", model=deeper)]) == 2
    assert "not that of the configured model" in capsys.readouterr().err


@pytest.mark.parametrize("content", ['{"lr": 1}', "{", '{"tokens": "many"}'])
def test_a_bad_configuration_is_told(
    content: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(content)
    assert main(["train", "run", *arguments(folder)[:-1], str(tmp_path / "config.json")]) == 2
    assert "cannot be used" in capsys.readouterr().err
