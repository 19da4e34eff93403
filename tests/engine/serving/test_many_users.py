"""Too much to do, too little time, clients and workers that go away: with workers that do as they are told."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from servers import PATIENCE, SCRIPTED, Server, script, serving, wait_until

QUEUE = 2


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving([*SCRIPTED, str(QUEUE)]) as started:
        yield started


@pytest.fixture
def own() -> Iterator[Server]:
    """To be ended by the test."""
    with serving([*SCRIPTED, str(QUEUE)]) as started:
        yield started


@pytest.fixture
def two() -> Iterator[Server]:
    """With two workers, ready."""
    with serving([*SCRIPTED, str(QUEUE), "2"]) as started:
        wait_until(lambda: started.metric("inpaint_workers_ready") == 2)
        yield started


class Gate:
    """A fill that runs until it is opened."""

    def __init__(self, server: Server, folder: Path, **options: object) -> None:
        folder.mkdir(exist_ok=True)
        self.file, self.stopped, self.begun = folder / "gate", folder / "stopped", folder / "begun"
        files = {"gate": str(self.file), "started": str(self.begun), "stopped": str(self.stopped)}
        self.body = {"prompt": script("held", passes=2, **files), **options}
        self.server = server

    def held(self) -> Future[httpx2.Response]:
        answer = ThreadPoolExecutor(1).submit(self.server.post, "/v1/completions", self.body)
        wait_until(self.begun.exists)
        return answer


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_goes_away_stops_its_work(server: Server, tmp_path: Path, stream: bool) -> None:
    gate, before = Gate(server, tmp_path, stream=stream), server.metric("inpaint_cancelled_total")
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        request = httpx2.Request("POST", f"{server.url}/v1/completions", json=gate.body)
        lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        connection.sendall(f"POST /v1/completions HTTP/1.1\r\n{lines}\r\n".encode() + request.read())
        wait_until(gate.begun.exists)
    wait_until(lambda: server.metric("inpaint_cancelled_total") == before + 1)
    gate.file.touch()
    wait_until(gate.stopped.exists)
    assert server.post("/v1/completions", {"prompt": script("next")}).json()["choices"][0]["text"] == "next"


def test_a_full_queue_refuses_at_once(server: Server, tmp_path: Path) -> None:
    gate = Gate(server, tmp_path)
    held = gate.held()
    with ThreadPoolExecutor(QUEUE) as clients:
        waiting = [clients.submit(server.post, "/v1/completions", {"prompt": script("waited")}) for _ in range(QUEUE)]
        wait_until(lambda: server.metric("inpaint_waiting") == QUEUE)
        for stream in (False, True):
            refused = server.post("/v1/completions", {"prompt": script(), "stream": stream})
            assert refused.status_code == 429
            assert refused.headers["Retry-After"] == "1"
            assert refused.json()["error"]["type"] == "rate_limit_error"
        gate.file.touch()
        assert [answer.result().json()["choices"][0]["text"] for answer in waiting] == ["waited"] * QUEUE
    assert held.result().json()["choices"][0]["text"] == "held"


def test_the_choices_of_a_request_are_filled_together_and_never_fill_the_queue(two: Server, tmp_path: Path) -> None:
    first, second = Gate(two, tmp_path / "1"), Gate(two, tmp_path / "2")
    last = [script(str(index)) for index in range(2 * QUEUE)]
    with ThreadPoolExecutor(1) as client:
        body = {"prompt": [first.body["prompt"], second.body["prompt"], *last]}
        answer = client.submit(two.post, "/v1/completions", body)
        wait_until(lambda: first.begun.exists() and second.begun.exists())
        assert two.metric("inpaint_waiting") == 0  # the others wait for those before them
        second.file.touch()
        first.file.touch()
        choices = answer.result().json()["choices"]
    assert [choice["text"] for choice in choices] == ["held", "held", *map(str, range(2 * QUEUE))]


def test_where_a_choice_fails_the_others_are_cancelled(two: Server, tmp_path: Path) -> None:
    gate = Gate(two, tmp_path)
    failing = script(error="wrong", gate=str(gate.begun))  # not before the other has begun
    answer = two.post("/v1/completions", {"prompt": [gate.body["prompt"], failing]})
    assert answer.status_code == 500
    gate.file.touch()
    wait_until(gate.stopped.exists)


def test_a_deadline_that_passes_in_the_queue_is_answered_then(server: Server, tmp_path: Path) -> None:
    gate = Gate(server, tmp_path)
    held = gate.held()
    body = {"prompt": script("too late"), "inpaint": {"deadline_ms": 50}}
    [choice] = server.post("/v1/completions", body).json()["choices"]  # while the gate is closed
    assert (choice["text"], choice["finish_reason"]) == ("", "length")
    assert server.metric("inpaint_late_total") == 1
    gate.file.touch()
    assert held.result().status_code == 200


def test_tokens_are_sent_as_they_are_committed(server: Server) -> None:
    *events, _ = server.events("/v1/completions", {"prompt": script("abc"), "stream": True})
    assert [event["choices"][0]["text"] for event in events] == ["a", "b", "c", ""]
    body = {"prompt": script("abc"), "stream": True, "inpaint": {"canvas": True}}
    *events, _last, _ = server.events("/v1/completions", body)
    assert [event["choices"][0]["inpaint"]["canvas"] for event in events] == [[None, None]] * 3


def test_a_beginning_of_a_stop_string_is_held_back(server: Server) -> None:
    *events, _ = server.events("/v1/completions", {"prompt": script("a--b->c"), "stop": "->", "stream": True})
    assert [event["choices"][0]["text"] for event in events] == ["a", "-", "-b", ""]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_less_indented_line_ends_an_infill(server: Server) -> None:
    body = {"input_prefix": script("a\n    b\n\nc"), "input_suffix": "", "n_indent": 4}
    assert server.post("/infill", body).json()["content"] == "a\n    b\n"


def test_what_the_model_does_not_have_is_the_clients_error(server: Server) -> None:
    answer = server.post("/v1/completions", {"prompt": "x = 1  # no dials\n", "temperature": 0.5})
    assert answer.status_code == 400
    assert "no option temperature" in answer.json()["error"]["message"]


def test_an_engine_that_fails_is_an_error_without_the_text(server: Server) -> None:
    answer = server.post("/v1/completions", {"prompt": script(error="SECRET_MARKER")})
    assert answer.status_code == 500
    assert "RuntimeError" in answer.json()["error"]["message"]
    assert "SECRET_MARKER" not in answer.text + server.log
    assert server.post("/v1/completions", {"prompt": script("on")}).json()["choices"][0]["text"] == "on"


def test_a_worker_that_dies_is_started_again_and_its_work_done(server: Server, tmp_path: Path) -> None:
    gate = Gate(server, tmp_path)
    held = gate.held()
    [worker] = children(server.process.pid)
    gate.file.touch()
    gate.begun.unlink()
    gate.file.unlink()
    os.kill(worker, signal.SIGKILL)
    wait_until(gate.begun.exists)  # by the new worker
    gate.file.touch()
    assert held.result().json()["choices"][0]["text"] == "held"
    assert children(server.process.pid) != [worker]


def test_the_server_finishes_what_runs_before_it_ends(own: Server, tmp_path: Path) -> None:
    gate = Gate(own, tmp_path)
    held = gate.held()
    [worker] = children(own.process.pid)
    own.process.send_signal(signal.SIGTERM)
    wait_until(lambda: refuses(own))
    gate.file.touch()
    assert held.result().json()["choices"][0]["text"] == "held"
    assert own.process.wait(PATIENCE) == -signal.SIGTERM  # uvicorn ends as the signal would have had it
    wait_until(lambda: not Path(f"/proc/{worker}").exists())


def test_no_worker_outlives_its_server(own: Server) -> None:
    [worker] = children(own.process.pid)
    own.process.kill()
    wait_until(lambda: not Path(f"/proc/{worker}").exists())


def refuses(server: Server) -> bool:
    address = urlsplit(server.url)
    try:
        socket.create_connection((address.hostname, address.port)).close()
    except ConnectionRefusedError:
        return True
    return False


def children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children()]
