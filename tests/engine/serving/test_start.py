"""Keys, and when the server does not start."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from servers import REAL, ROOT, serving

from engine import EngineError
from engine.__main__ import main
from engine.embedded import GRAPH
from engine.options import ModelChoice
from engine.serving import workers
from engine.serving.keys import Keys
from engine.serving.serve import listening
from engine.serving.service import shown

COMMAND = [sys.executable, "-m", "engine", "serve"]


def refusal(*arguments: str) -> str:
    """What the command says, which exits with 2."""
    done = subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_keys_open_the_server_to_who_has_one(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the team\n{hashlib.sha256(b'one-key').hexdigest()}  ann\n")
    with serving([*REAL, "--keys", str(file)], INPAINT_API_KEYS="another-key") as server:
        for path, method in (
            ("/v1/completions", "POST"),
            ("/infill", "POST"),
            ("/v1/models", "GET"),
            ("/metrics", "GET"),
        ):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "one-key"}):
                answer = server.client.request(method, path, headers=headers, json={"prompt": "x"})
                assert answer.status_code == 401, path
                assert answer.json()["error"]["type"] == "authentication_error"
        for key in ("one-key", "another-key"):
            assert server.client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert server.client.get("/health", headers={"Host": "team.example"}).status_code in (200, 503)


def test_other_machines_need_keys() -> None:
    assert "--keys" in refusal("--host", "0.0.0.0", "--port", "0")


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "--port" in refusal("--port", str(taken.getsockname()[1]))


def test_a_model_that_cannot_be_loaded_is_said() -> None:
    assert "no model 'nothing'" in refusal("--port", "0", "--model", "nothing")


def test_a_ray_that_does_not_start_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(**_: object) -> None:
        raise Exception("the node timed out")

    monkeypatch.setattr("ray.serve.start", broken)
    assert main(["serve", "--ray"]) == 2
    assert "Ray does not start (the node timed out)" in capsys.readouterr().err


def test_no_part_of_an_answer_waits_for_an_acknowledgement() -> None:
    with listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()[:2]):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_process_has_the_cores_of_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 8)
    shape = {"context": 384, "threads": 1}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    (tmp_path / GRAPH).touch()
    assert workers.default_count(ModelChoice()) == 4
    assert workers.default_count(ModelChoice(model=str(tmp_path), device="cpu")) == 8
    assert (
        workers.default_count(ModelChoice(device="cuda"))
        == workers.default_count(ModelChoice(model="some/checkpoint"))
        == 1
    )


@pytest.mark.parametrize("content", [b"", b"secret", b"\xff"])
def test_a_file_of_keys_that_is_wrong_is_said(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(EngineError, match="keys"):
        Keys.read(file)


@pytest.mark.parametrize("said", ["{}/my-model", "{}/my-model/", "auto:{}/my-model"])
def test_clients_are_told_no_path(tmp_path: Path, said: str) -> None:
    (tmp_path / "my-model").mkdir()
    assert shown(said.format(tmp_path)) in ("my-model", "auto")
    assert [shown(name) for name in ("small", "auto", "owner/model")] == ["small", "auto", "owner/model"]
