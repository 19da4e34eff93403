"""Downloads from a hub that runs here: what is fetched and what is not, what is cached, and each way it can fail."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import tiny_checkpoints as tiny
import torch

from engine.contract import EngineError
from engine.models import checkpoint

COMMIT = "a" * 40


class Hub(http.server.ThreadingHTTPServer):
    """The hub's answers for the models of a folder, `owner/name`, for gated and for unknown ones."""

    def __init__(self, models: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = models
        self.asked: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0].strip("/")
        self.server.asked.append(path)
        api = path.startswith("api/models/")
        model = "/".join(path.removeprefix("api/models/").split("/")[:2])
        folder = self.server.models / model
        if "gated" in path or not folder.is_dir():
            code = "GatedRepo" if "gated" in path else "RepoNotFound"
            self.answer(403 if "gated" in path else 404, b"", {"X-Error-Code": code})
        elif api and "/tree/" in path:
            sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
            files = [{"type": "file", "path": name, "size": size, "oid": COMMIT} for name, size in sizes.items()]
            self.answer(200, json.dumps(files).encode(), {"Content-Type": "application/json"})
        elif api:
            siblings = [{"rfilename": file.name} for file in folder.iterdir()]
            about = {"id": model, "sha": COMMIT, "siblings": siblings}
            self.answer(200, json.dumps(about).encode(), {"Content-Type": "application/json"})
        else:
            body = (folder / path.rsplit("/", 1)[1]).read_bytes()
            self.answer(200, body, {"ETag": hashlib.md5(body).hexdigest(), "X-Repo-Commit": COMMIT})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub(tmp_path / "models")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    stop(server)


def stop(server: Hub) -> None:
    server.shutdown()
    server.server_close()


def load(name: str) -> checkpoint.Checkpoint:
    return checkpoint.load(name, checkpoint.read_config(name), torch.device("cpu"), torch.float32)


def said(name: str) -> str:
    with pytest.raises(EngineError) as failure:
        load(name)
    assert "\n" not in str(failure.value)
    return str(failure.value)


def test_a_model_is_downloaded_without_its_code_and_works_offline_after(hub: Hub) -> None:
    folder, reference = tiny.FAMILIES["sdar"](hub.models)
    (folder / "modeling_sdar.py").write_text("raise SystemExit")
    (folder / "training_args.bin").write_bytes(b"0" * 99)
    (folder.parent / "JetLM").mkdir()
    folder.rename(folder.parent / "JetLM" / "SDAR")
    load("JetLM/SDAR")
    assert {file.name for file in checkpoint.fetch("JetLM/SDAR", [checkpoint.CONFIG]).iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    stop(hub)
    ids = torch.randint(4, tiny.VOCAB, (1, 9), generator=torch.Generator().manual_seed(3))
    again = load("JetLM/SDAR").model
    assert (tiny.passed(again, ids, again.memory(9)) - reference(ids)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("change", "why"),
    [({"model_type": "mamba"}, "'mamba'"), ({"intermediate_size": 10**7, "hidden_size": 10**6}, "GB are free")],
)
def test_nothing_large_is_downloaded_in_vain(change: dict[str, object], why: str, hub: Hub) -> None:
    folder, _ = tiny.FAMILIES["sdar"](hub.models / "owner")
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    assert why in said("owner/SDAR")
    assert not [path for path in hub.asked if "safetensors" in path]


@pytest.mark.usefixtures("hub")
def test_a_gated_repository() -> None:
    assert "is gated: accept its terms" in said("someone/gated")


@pytest.mark.usefixtures("hub")
def test_an_unknown_repository() -> None:
    assert "has no model someone/nothing" in said("someone/nothing")


def test_no_network(hub: Hub) -> None:
    stop(hub)
    assert "cannot be reached" in said("someone/model")
