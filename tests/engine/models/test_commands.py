"""`fill`, `eval`, `bench` and the language server take a public checkpoint as they take the embedded model."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from functools import partial
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
from engine import Engine, EngineError
from engine.__main__ import main
from engine.contract import FillRequest, Sampling
from engine.corpus import FileEntry
from engine.decoding import presets
from engine.evaluation import device
from engine.evaluation.report import Report
from engine.options import ModelChoice, chosen
from engine.serving import worker
from engine.serving.workers import Job, WorkerProcess, command
from lsp_server import __main__ as lsp_server

FIELDS = {"id", "text", "confidence", "model", "passes", "tokens", "encode_ms", "decode_ms"}
LINES = [
    {"id": 1, "prefix": "def add(a, b):\n    retur", "suffix": "\n", "max_lines": 1},
    {"id": 2, "prefix": "\tif x:\r\n\t\ts = 'h\u00e9\u2713", "suffix": "\r\n", "max_lines": 2},
    {"id": 3, "prefix": "", "suffix": ""},
]


def untold(at: Path) -> Path:
    """A checkpoint whose config.json does not say what it is."""
    return tiny.qwen3(at / "Qwen3-diffusion-mdlm", {"model_type": "a2d-qwen3"})[0]


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
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # more wait for one another
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


def test_bench_on_a_device(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The code that times a GPU, on the CPU, a few times each."""
    monkeypatch.setattr(device, "measure", partial(device.measure, lines=6, runs=2))
    folder = tiny.FAMILIES["open-dcoder"](tmp_path)[0]
    (tmp_path / "typed.py").write_text(tiny.TEXT * 2)
    options = ["--model", str(folder), "--device", "cpu", "--file", str(tmp_path / "typed.py")]
    assert main(["bench", "--json", *options]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["copy_gb_s"] > 0 and report["matrix_tflop_s"] > 0
    for each in report["passes"]:
        assert each["roofline"] is None  # of GPUs only
        assert each["gigabytes"] > 0 and each["gigaflop"] > 0
        assert each["passes_s"] == pytest.approx(1000 * each["sequences"] / each["ms"])
    assert {each["sequences"] for each in report["passes"]} == {1, 2, 4}
    assert [each["steps"] for each in report["lines"]] == [12, 20, 30]
    for line in report["lines"]:
        assert 0 < line["ms"]["p50"] <= line["ms"]["p95"]
        assert 1 <= line["passes"] <= line["steps"] + 3  # a probe, and respelled rows
        assert 0 <= line["complete"] <= 1
    assert [*report["fills_s"]] == ["1", "2", "4"]


def test_bench_of_a_model_in_blocks_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice = ModelChoice(model=str(tiny.FAMILIES["sdar"](tmp_path)[0]), device="cpu")
    costs = device.measure(choice, tiny.TEXT, lines=3, runs=2)
    Report(costs).print()
    printed = capsys.readouterr().out
    assert {line.split()[0] for line in printed.partition("\nlines\n")[2].splitlines()[1:4]} == {"12", "20", "30"}
    assert "fills s: 1 " in printed
    costs.passes[0].roofline = 0.5
    Report(costs).print()
    head, first, *_ = capsys.readouterr().out.partition("\npasses\n")[2].splitlines()
    assert (head.split()[-1], first.split()[-1]) == ("roofline", "0.5")


def test_bench_says_what_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "--device", "cpu"]) == 2
    assert "give --model a folder or hub id" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main(["bench", "--device", "cuda", "--model", str(tiny.FAMILIES["sdar"](tmp_path)[0])]) == 2
        error = capsys.readouterr().err
        assert "torch finds no cuda device on this machine" in error
        assert error.count("\n") == 1


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus" / "validation"
    folder.mkdir(parents=True)
    text = Path(engine.__file__).read_bytes()
    (folder / "corpus.bin").write_bytes(text)
    np.save(folder / "index.npy", np.array([0, len(text)]))
    (folder / "files.jsonl").write_bytes(msgspec.json.encode(FileEntry("inpaint", "engine/__init__.py", len(text))))
    return folder.parent


def test_eval_measures_a_public_model(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = untold(tmp_path)
    asked = ["eval", str(corpus), "--places", "3", "--model", str(model), "--device", "cpu"]
    assert main([*asked, "--family", "tiny-a2d", "--alg", "entropy", "--cache", "fast"]) == 0
    assert "places: 3" in capsys.readouterr().out
    assert main([*asked, "--family", "sdar"]) == 2
    assert "cannot be of the family 'sdar'" in capsys.readouterr().err


def test_models_lists_what_is_supported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert all(family in listed for family in ("DreamOn", "LLaDA", "SDAR", "BD3-LM", "DiffusionGemma"))


async def test_the_language_server_completes_with_a_public_model(tmp_path: Path) -> None:
    options = ["--model", str(untold(tmp_path)), "--family", "tiny-a2d", "--alg", "entropy"]
    inserted: list[str] = []
    async with LspClient.start([*REAL, *options], cwd=ROOT) as client:
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


def test_a_choice_is_told_to_another_process_in_full() -> None:
    """Of an evaluation to its language server, of a bench and a server to their workers."""
    sampling = Sampling(temperature=0.0, alg="p2", suppress_tokens=(3, 4), pad_eos_to_right=False, cache="fast", seed=0)
    choice = ModelChoice(model="a b", device="cuda:0,cuda:1", family="sdar", sampling=sampling)
    for parser in (lsp_server.command_line(), worker.command_line()):
        assert chosen(parser.parse_args(choice.arguments())) == choice


async def test_a_worker_loads_what_the_servers_options_say(tmp_path: Path) -> None:
    choice = ModelChoice(
        model=str(untold(tmp_path)), device="cpu", family="tiny-a2d", sampling=Sampling(temperature=5.0)
    )
    process, changed = WorkerProcess(command(choice)), asyncio.Event()
    running = asyncio.create_task(process.run(changed.set))
    await asyncio.wait_for(changed.wait(), 300)
    assert process.failure is None
    request = FillRequest(prefix="x = ", suffix="\n", max_tokens=12, copies=False)
    texts = []
    for sampling in (Sampling(), Sampling(seed=0), Sampling(temperature=0.0)):
        job = Job(msgspec.structs.replace(request, sampling=sampling), None)
        process.start(job)
        texts.append((await asyncio.wait_for(job.answer, 300)).fill.text)
    assert texts[0] == texts[1] != texts[2]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_options_that_a_model_has_not_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for model in ("auto", "small", "http://127.0.0.1:9"):
        assert main(["fill", "--jsonl", "--model", model, "--family", "sdar"]) == 2
        error = capsys.readouterr().err
        assert f"{model} is none" in error
        assert error.count("\n") == 1
    engine = Engine.load("small", sampling=Sampling(alg="entropy"))
    with pytest.raises(EngineError, match="the model has no option alg"):
        engine.fill(FillRequest(prefix="x = "), threading.Event())
    with pytest.raises(SystemExit):
        lsp_server.main(["--stdio", "--top-p", "7"])
    assert "top_p" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, "has no config.json"),
        ("{", "is damaged"),
        ('{"model_type": "sdar"}', "lacks"),
        (
            '{"model_type": "mdlm", "hidden_dim": 8, "n_heads": 1, "vocab_size": 9, "n_blocks": 1, "model_length": 1}',
            "no MDLM",
        ),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_one_sentence_and_code_2(
    config: str | None, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert main(["fill", "--jsonl", "--model", str(tmp_path), "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert why in said.err
