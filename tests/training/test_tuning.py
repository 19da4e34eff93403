"""A model is tuned to a workspace: what it may read, what is held out, and that the engine has it as its own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from engine import Engine, FillRequest, unpacked
from engine.__main__ import main
from engine.backends.kv_cache import ModelShape
from engine.contract import EngineError
from engine.corpus import Corpus
from engine.embedded import WEIGHTS
from engine.models.trunk import Trunk, TrunkConfig
from engine.training import train, workspace
from engine.training.export import write

SHAPE = TrunkConfig(vocab=16384, dim=96, layers=2, heads=6, shared=3, head_dim=16, mlp=128)
WORDS = ("area", "border", "corner", "depth", "edge", "face", "grid", "height", "image", "join", "kind", "label")


def a_file(word: str) -> str:
    lines = (f"def {word}_of_{other}(self, {other}):\n    return self.{word} + {other}\n\n\n" for other in WORDS)
    return "".join(lines)


ASKED = FillRequest(prefix=a_file("area"), copies=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as it is exported, of random weights."""
    folder = tmp_path_factory.mktemp("models") / "small"
    torch.manual_seed(1)
    trunk = Trunk(SHAPE)
    for weight in trunk.parameters():
        if weight.ndim > 1:  # norms stay as they begin
            torch.nn.init.normal_(weight, std=0.05)
    write(trunk, ModelShape(context=128), WEIGHTS / "small" / "tokenizer.json", 8, folder)
    return folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "build").mkdir(parents=True)
    for word in WORDS:
        (folder / f"{word}.py").write_text(a_file(word))
    (folder / ".gitignore").write_text("build\n")
    (folder / "build" / "made.py").write_text(a_file("made"))
    (folder / ".inpaintignore").write_text("label.py\n")
    (folder / "notes.txt").write_text("not code\n" * 100)
    return folder


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(unpacked, "copies", lambda: tmp_path / "copies")
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")  # compiling takes longer than these steps
    monkeypatch.setattr(workspace, "PLACES", 4)
    monkeypatch.setattr(workspace, "WORKERS", 1)


def test_stopped_it_goes_on_and_the_engine_has_it_as_its_base(
    quickly: None,
    base: Path,
    code: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, out = train.run, tmp_path / "tuned"
    monkeypatch.setattr(train, "run", lambda config, data, state: run(config, data, state, max_steps=1))
    asked = ["train", "workspace", str(code), "--out", str(out), "--model", str(base), "--tokens", "4000"]
    assert main(asked) == 0
    assert "the same command goes on" in capsys.readouterr().out
    assert not (out / "config.json").exists()
    monkeypatch.setattr(train, "run", run)
    assert main(asked) == 0
    alone, of_auto = (Engine.load(name).fill(ASKED, threading.Event()) for name in (str(out), f"auto:{out}"))
    assert alone.model == of_auto.model == "small"  # what is learned of the base's fills holds for it
    assert alone.text == of_auto.text
    assert [piece.end for piece in alone.pieces] == [piece.end for piece in of_auto.pieces]
    assert alone.confidence == pytest.approx(of_auto.confidence, rel=0.2)  # as rows are rounded that pay there
    assert alone.pieces != Engine.load(str(base)).fill(ASKED, threading.Event()).pieces
    assert sum(path.stat().st_size for path in out.glob("*.safetensors")) < (base / "model.safetensors").stat().st_size
    assert "| python, the model alone | " in (out / "README.md").read_text()
    assert not (out / "state").exists()
    assert (out / ".gitignore").read_text().endswith("\n*\n")


def test_it_reads_what_may_be_read_and_holds_some_out(code: Path, tmp_path: Path) -> None:
    size = workspace.gather([code], tmp_path)
    kept, held = Corpus(tmp_path), Corpus(tmp_path / "validation")
    paths = [file.path for file in [*kept.files, *held.files]]
    assert sorted(paths) == sorted(f"{word}.py" for word in WORDS[:-1])
    assert size == kept.bytes
    assert 0.05 < held.bytes / (held.bytes + kept.bytes) < 0.25
    workspace.gather([code], tmp_path)
    assert [file.path for file in Corpus(tmp_path / "validation").files] == [file.path for file in held.files]


def test_a_file_counts_by_its_bytes_whatever_its_language(code: Path, tmp_path: Path) -> None:
    for name in ("round", "square"):
        functions = (f"func {name}_{word}(a int) int {{\n\treturn a + {word}\n}}\n\n" for word in WORDS)
        (code / f"{name}.go").write_text("package main\n\n" + "".join(functions))
    workspace.gather([code], tmp_path)
    kept = Corpus(tmp_path)
    assert kept.languages == Corpus(tmp_path / "validation").languages == {"python", "go"}
    assert kept.weights(by_language=False) == pytest.approx([file.bytes / kept.bytes for file in kept.files])


def test_what_cannot_be_is_told(base: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no folder .*nowhere"):
        workspace.run([tmp_path / "nowhere"], tmp_path / "out", str(base))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match="0 source files to learn from: two at least"):
        workspace.run([tmp_path / "empty"], tmp_path / "out", str(base))
    with pytest.raises(EngineError, match="no model 'none'"):
        workspace.run([tmp_path / "empty"], tmp_path / "out", "none")
    with pytest.raises(EngineError, match="is a public model"):
        workspace.run([tmp_path / "empty"], tmp_path / "out", "Dream-org/Dream-v0")
    with pytest.raises(EngineError, match="give another --out"):
        workspace.run([tmp_path / "empty"], base, str(base))
    with pytest.raises(EngineError, match="--tokens is 0"):
        workspace.run([tmp_path / "empty"], tmp_path / "out", str(base), 0)
    assert not (tmp_path / "out").exists()
    with pytest.raises(EngineError, match="holds something else"):
        workspace.run([tmp_path], tmp_path, str(base))
    assert not (tmp_path / ".gitignore").exists()
