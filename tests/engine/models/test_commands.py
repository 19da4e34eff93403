"""`fill`, `eval`, `bench` and the language server take a public checkpoint as they take the embedded model."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_checkpoints as tiny
import torch
from lsp_client import INVOKED, REAL, ROOT, LspClient

import engine
from engine.__main__ import main
from engine.corpus import FileEntry
from engine.decoding import presets
from engine.evaluation import device

FIELDS = {"id", "text", "confidence", "model", "passes", "tokens", "encode_ms", "decode_ms"}
LINES = [
    {"id": 1, "prefix": "def add(a, b):\n    retur", "suffix": "\n", "max_lines": 1},
    {"id": 2, "prefix": "\tif x:\r\n\t\ts = 'h\u00e9\u2713", "suffix": "\r\n", "max_lines": 2},
    {"id": 3, "prefix": "", "suffix": ""},
]


def filled(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[dict[str, Any]]:
    asked, answered = io.BytesIO("\n".join(map(json.dumps, LINES)).encode()), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=asked))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=answered))
    assert main(["fill", "--jsonl", "--model", str(folder), "--device", "cpu", *options]) == 0
    return [json.loads(line) for line in answered.getvalue().splitlines()]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_fill_answers_with_every_family(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = filled(tiny.FAMILIES[family](tmp_path)[0], monkeypatch, "--steps", "fast")
    assert [answer["id"] for answer in answers] == [1, 2, 3]
    for answer, line in zip(answers, LINES, strict=True):
        assert set(answer) == FIELDS
        assert answer["text"].count("\n") <= line.get("max_lines", 1000)
        assert answer["passes"] > 0
    assert "\n" not in answers[1]["text"].replace("\r\n", "")


@pytest.mark.parametrize("command", [["engine", "fill", "--jsonl", "--model", "."], ["lsp_server", "--help"]])
def test_files_of_the_current_folder_are_not_imported(command: list[str], tmp_path: Path) -> None:
    folder = tiny.FAMILIES["sdar"](tmp_path)[0]
    for name in ("__future__", "threading", "msgspec", "torch", "transformers", "tokenizers", "pygls"):
        (folder / f"{name}.py").write_text("raise SystemExit('imported a file of the folder')")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        input=json.dumps(LINES[0]),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_presets_are_denoising_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.FAMILIES["llada"](tmp_path)[0]
    fast, quality = (filled(folder, monkeypatch, "--steps", preset) for preset in ("fast", "quality"))
    assert sum(answer["passes"] for answer in fast) < sum(answer["passes"] for answer in quality)
    assert max(answer["passes"] for answer in fast) <= presets.PASSES["fast"] + 3  # a probe, and respelled rows
    assert main(["fill", "--jsonl", "--model", "no-such-model", "--steps", "12"]) == 2


def test_bench_on_a_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The code that times a GPU, on the CPU."""
    folder = tiny.FAMILIES["open-dcoder"](tmp_path)[0]
    (tmp_path / "typed.py").write_text(tiny.TEXT * 2)
    options = ["--model", str(folder), "--device", "cpu", "--file", str(tmp_path / "typed.py")]
    assert main(["bench", "--json", *options]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["copy_gb_s"] > 0 and report["matrix_tflop_s"] > 0
    for each in report["passes"]:
        assert 0 < each["roofline"] < 1
        assert each["gigabytes"] > 0 and each["gigaflop"] > 0
    assert {each["sequences"] for each in report["passes"]} == {1, 4}
    assert report["long"]["written"] >= report["long"]["prompt"] > 100
    assert report["line"]["ms"]["p50"] > 0
    assert 0 <= report["line"]["complete"] <= 1


def test_bench_of_a_model_in_blocks_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = device.measure(str(tiny.FAMILIES["sdar"](tmp_path)[0]), "cpu", tiny.TEXT, lines=3, runs=2, long=30)
    device.print_table(report)
    printed = capsys.readouterr().out
    assert "30 -> " in printed
    assert "of the roofline" in printed


def test_bench_says_what_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "--device", "cpu"]) == 2
    assert "give --model a folder or hub id" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main(["bench", "--device", "cuda", "--model", str(tiny.FAMILIES["sdar"](tmp_path)[0])]) == 2
        error = capsys.readouterr().err
        assert "torch finds no cuda device on this machine" in error
        assert error.count("\n") == 1


def test_eval_measures_a_public_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "corpus" / "validation"
    folder.mkdir(parents=True)
    text = Path(engine.__file__).read_bytes()
    (folder / "corpus.bin").write_bytes(text)
    np.save(folder / "index.npy", np.array([0, len(text)]))
    (folder / "files.jsonl").write_bytes(msgspec.json.encode(FileEntry("inpaint", "engine/__init__.py", len(text))))
    model = tiny.FAMILIES["stable-diffcoder"](tmp_path)[0]
    assert main(["eval", str(folder.parent), "--places", "3", "--model", str(model), "--device", "cpu"]) == 0
    assert "3 places" in capsys.readouterr().out


def test_models_lists_what_is_supported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert all(family in listed for family in ("DreamOn", "LLaDA", "SDAR", "BD3-LM", "DiffusionGemma"))


async def test_the_language_server_completes_with_a_public_model(tmp_path: Path) -> None:
    folder = tiny.FAMILIES["dreamon"](tmp_path)[0]
    inserted: list[str] = []
    async with LspClient.start([*REAL, "--model", str(folder)], cwd=ROOT) as client:
        await client.initialize()
        stop = threading.Event()
        for n in range(2400):
            uri = f"file:///project/{n}.py"
            client.open(uri, f"def f{n}(a, b):\n    return \n\n\nclass Point:\n    pass\n")
            inserted += [item["insertText"] for item in await client.complete(uri, 1, 11, INVOKED)]
            if inserted or stop.wait(0.05):
                break
        assert inserted, "the model has not loaded, or says nothing"
        assert not [each for each in client.received if each.get("method") == "window/showMessage"]
        assert await client.leave() == 0
        assert "Traceback" not in await client.stderr()
