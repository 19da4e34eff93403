"""A server as a model: ours, others', and none."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import pytest
from servers import REAL, SCRIPTED, Server, script, serving, wait_until

from engine import Cancelled, Engine, EngineError, FillRequest
from engine.contract import Sampling
from engine.embedded import Embedded
from engine.remote import client, model
from engine.remote.address import parse_url
from engine.remote.keys import key_for

Json: TypeAlias = Any
GAP = FillRequest(prefix="import os\n\n\ndef names(folder):\n    for name in os.", suffix="\n        print(name)\n")


def fill(engine: Engine, request: FillRequest = GAP) -> Any:
    return engine.fill(request, threading.Event())


class Stub:
    """A server whose answers are scripted by path: a status and a body, or a list of these, one a request."""

    def __init__(self, answers: dict[str, Json]) -> None:
        self.asked: list[tuple[str, Json, dict[str, str]]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stub.asked.append((self.path, json.loads(body or "null"), dict(self.headers)))
                status, answer = answers.get(self.path, (404, {}))
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.answers = answers
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def bodies(self, path: str) -> list[Json]:
        return [body for asked, body, _ in self.asked if asked == path]


@pytest.fixture
def stub(request: pytest.FixtureRequest) -> Iterator[Stub]:
    made = Stub(getattr(request, "param", {}))
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(REAL) as started:
        wait_until(lambda: started.client.get("/health").status_code == 200)
        yield started


@pytest.fixture(scope="module")
def local() -> Engine:
    """The model in this process, which has read what the server's has: what else it had read would round otherwise."""
    return Engine.load("small")


@pytest.fixture(autouse=True)
def loaded(small: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that answers in a server's place has been loaded."""
    monkeypatch.setattr(Embedded, "load", lambda _: small)


# ---------------------------------------------------------------- ours


def test_our_server_fills_as_the_engine_in_process(server: Server, local: Engine) -> None:
    remote = Engine.load(server.url)
    assert remote.reach == local.reach
    for options in (
        {},
        {"max_lines": 1},
        {"path": "a.py", "max_tokens": 8},
        {"related": ("x = os.listdir(folder)\n",)},
        {"sampling": Sampling(temperature=1.0, top_p=0.9, seed=1)},
    ):
        request = FillRequest(prefix=GAP.prefix, suffix=GAP.suffix, **options)
        theirs, ours = fill(remote, request), fill(local, request)
        assert (theirs.text, theirs.tokens, theirs.complete) == (ours.text, ours.tokens, ours.complete)
        # How many rows a pass has follows the pace of its process, and rounding follows the rows.
        assert theirs.confidence == pytest.approx(ours.confidence, rel=0.2)
        assert [piece.end for piece in theirs.pieces] == [piece.end for piece in ours.pieces if piece.end][
            : len(theirs.pieces)
        ]
        assert theirs.instead == ""


def test_a_cancelled_fill_is_given_up_and_the_server_told(tmp_path: Path) -> None:
    with serving([*SCRIPTED, "4"]) as server:
        while server.client.get("/health").status_code != 200:
            pass
        remote, cancel = Engine.load(server.url), threading.Event()
        gate, begun, stopped = tmp_path / "gate", tmp_path / "begun", tmp_path / "stopped"
        files = {"gate": str(gate), "started": str(begun), "stopped": str(stopped)}
        request = FillRequest(prefix=script("held", passes=2, **files))
        filling = ThreadPoolExecutor(1).submit(remote.fill, request, cancel)
        wait_until(begun.exists)
        cancel.set()
        with pytest.raises(Cancelled):
            filling.result(60)
        wait_until(lambda: server.metric("inpaint_cancelled_total") == 1)
        gate.touch()
        wait_until(stopped.exists)
        assert fill(remote, FillRequest(prefix=script("next"))).text == "next"


def test_the_embedded_model_answers_while_the_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PAUSE", 0.01)
    monkeypatch.setattr(model, "LONGEST_PAUSE", 0.01)
    local = fill(Engine.load("small"))
    with serving([*SCRIPTED, "4"]) as server:
        url = server.url
        remote = Engine.load(url)
    away = fill(remote)
    assert away.text == local.text
    assert away.confidence == pytest.approx(local.confidence, rel=0.2)
    assert away.instead.startswith("127.0.0.1 is away")
    with serving([*SCRIPTED, "4"], PORT=url.rpartition(":")[2]) as server:
        assert server.url == url
        while server.client.get("/health").status_code != 200:
            pass
        time.sleep(0.02)
        assert fill(remote, FillRequest(prefix=script("back"))).text == "back"
        assert fill(remote, FillRequest(prefix=script("back"))).instead == ""


def test_a_server_that_is_away_from_the_start_is_no_error() -> None:
    assert fill(Engine.load("http://127.0.0.1:1")).instead.startswith("127.0.0.1 is away")


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = Engine.load(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "did not answer in time" in fill(remote).instead


# ---------------------------------------------------------------- others

FIM = {
    "/v1/models": (200, {"data": [{"id": "codestral", "owned_by": "mistralai"}]}),
    "/v1/fim/completions": (200, {"choices": [{"message": {"content": "a\nb\nc"}, "finish_reason": "length"}]}),
}
OPENAI = {
    "/v1/models": (200, {"data": [{"id": "coder", "owned_by": "vllm"}]}),
    "/v1/completions": (
        200,
        {"choices": [{"text": "ab", "finish_reason": "stop", "logprobs": {"token_logprobs": [0.0, -1.0]}}]},
    ),
}
LLAMA = {
    "/v1/models": (200, {"data": [{"id": "m.gguf", "owned_by": "llamacpp"}]}),
    "/infill": (200, {"content": "ab", "stop_type": "eos"}),
}
NO_FIM = {
    **LLAMA,
    "/infill": (501, {"error": {"code": 501, "message": "Infill is not supported by this model"}}),
    "/completion": (200, {"content": "ab", "stop_type": "limit"}),
}


@pytest.mark.parametrize("stub", [LLAMA, FIM, OPENAI], indirect=True)
def test_a_line_before_another_has_an_end(stub: Stub) -> None:
    engine = Engine.load(stub.url)
    assert fill(engine, FillRequest(prefix="x = 1\n", suffix="y = 2\n", max_lines=1)).text.endswith("\n")
    assert not fill(engine, FillRequest(prefix="x = 1\n", suffix="\ny = 2\n", max_lines=1)).text.endswith("\n")


@pytest.mark.parametrize("stub", [NO_FIM], indirect=True)
def test_an_indentation_is_written_again(stub: Stub) -> None:
    engine = Engine.load(stub.url)
    fill(engine, FillRequest(prefix="def f():\n    ", max_lines=1))
    body = stub.bodies("/completion")[-1]
    assert body["prompt"] == "def f():" and "stop" not in body and body["n_predict"] <= 40
    fill(engine, FillRequest(prefix="x = ", max_lines=1))
    body = stub.bodies("/completion")[-1]
    assert body["prompt"] == "x =" and body["stop"] == ["\n"]


@pytest.mark.parametrize("stub", [FIM], indirect=True)
def test_a_fim_api_is_found_and_cut_to_the_lines(stub: Stub) -> None:
    engine = Engine.load(stub.url)
    made = fill(engine, FillRequest(prefix="p", suffix="s", max_lines=2, path="secret/path.py", related=("other",)))
    assert (made.text, made.complete, made.confidence) == ("a\nb", True, 1.0)
    body = stub.bodies("/v1/fim/completions")[-1]
    assert (body["prompt"], body["suffix"], body["model"]) == ("p", "s", "codestral")
    assert "other" not in str(body)
    assert "secret" not in str(body)


@pytest.mark.parametrize("stub", [OPENAI], indirect=True)
def test_an_openai_api_is_found_and_its_probabilities_count(stub: Stub) -> None:
    made = fill(Engine.load(stub.url), FillRequest(prefix="p", suffix="s", max_lines=1))
    assert (made.text, made.complete) == ("ab", True)
    assert made.confidence == pytest.approx(0.6065, abs=1e-3)  # exp(-1/2)
    assert stub.bodies("/v1/completions")[-1]["stop"] == ["\n"]


@pytest.mark.parametrize(
    ("answers", "path", "seed"),
    [
        (OPENAI, "/v1/completions", "seed"),
        (FIM, "/v1/fim/completions", "random_seed"),
        (LLAMA, "/infill", "seed"),
    ],
)
def test_a_temperature_is_passed_on(stub: Stub, answers: dict[str, Json], path: str, seed: str) -> None:
    stub.answers.update(answers)
    engine = Engine.load(stub.url)
    fill(engine)
    assert stub.bodies(path)[-1]["temperature"] == 0
    fill(engine, FillRequest(prefix="p", sampling=Sampling(temperature=0.5, top_p=0.9, seed=4)))
    body = stub.bodies(path)[-1]
    assert (body["temperature"], body["top_p"], body[seed]) == (0.5, 0.9, 4)
    with pytest.raises(EngineError, match="option alg"):
        fill(engine, FillRequest(prefix="p", sampling=Sampling(alg="entropy")))


@pytest.mark.parametrize("stub", [LLAMA], indirect=True)
def test_llama_cpp_is_sent_the_line_apart_and_the_files(stub: Stub) -> None:
    request = FillRequest(prefix="a\n  b", suffix="s", related=("nearest", "next"), deadline_ms=60)
    assert fill(Engine.load(stub.url), request).text == "ab"
    body = stub.bodies("/infill")[-1]
    assert (body["input_prefix"], body["prompt"], body["input_suffix"]) == ("a\n", "  b", "s")
    assert [extra["text"] for extra in body["input_extra"]] == ["next", "nearest"]
    assert body["t_max_predict_ms"] == 60


@pytest.mark.parametrize("stub", [NO_FIM], indirect=True)
def test_a_model_of_llama_cpp_that_fills_no_gaps_goes_on_after_the_prefix(stub: Stub) -> None:
    assert fill(Engine.load(stub.url)).text == "ab"
    assert stub.bodies("/completion")[-1]["prompt"] == GAP.prefix


@pytest.mark.parametrize("stub", [{**OPENAI, **FIM}], indirect=True)
def test_the_url_sets_api_and_model(stub: Stub) -> None:
    assert fill(Engine.load(f"{stub.url}/v1/completions?model=mine")).text == "ab"
    assert stub.bodies("/v1/completions")[-1]["model"] == "mine"


def test_what_the_workspace_knows_stays_here(server: Server) -> None:
    known = {"indexes": (cast(Any, object()),), "files": ("/home/me/a.py",)}
    indexed = FillRequest(prefix=GAP.prefix, suffix=GAP.suffix, **known)
    assert fill(Engine.load(server.url), indexed).text == fill(Engine.load(server.url)).text


@pytest.mark.parametrize("stub", [FIM], indirect=True)
def test_no_text_is_sent_to_find_out_what_a_server_is(stub: Stub) -> None:
    Engine.load(stub.url)
    assert [body for _, body, _ in stub.asked if body] == [{**model.GAP, "model": "codestral"}]


def test_far_text_is_not_sent(stub: Stub) -> None:
    stub.answers.update(OPENAI)
    fill(Engine.load(stub.url), FillRequest(prefix="far" + "x" * model.REACH, suffix="y" * model.REACH + "far"))
    body = stub.bodies("/v1/completions")[-1]
    assert (body["prompt"], body["suffix"]) == ("x" * model.REACH, "y" * model.REACH)


@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_a_server_in_trouble_is_asked_once_more_and_then_left_alone(
    stub: Stub, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its pause is over, which it never is here, however long small takes to load."""
    clock = SimpleNamespace(monotonic=lambda: 0.0, perf_counter=lambda: 0.0)
    monkeypatch.setattr(model, "time", clock)
    stub.answers.update(OPENAI)
    engine = Engine.load(stub.url)
    stub.answers["/v1/completions"] = (status, {"error": {"message": "busy"}})
    asked = len(stub.asked)
    assert fill(engine).instead
    assert len(stub.asked) == asked + (1 if status == 429 else 2)
    assert fill(engine).instead
    assert len(stub.asked) == asked + (1 if status == 429 else 2)


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (400, {"error": {"message": "no suffix here"}}, "no suffix here"),
        (400, {"error": {"message": "\x1b[31mred\u202eder"}}, "400\\): redder"),
        (400, b'{"error": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "does not say why"),
        (401, {}, "put http://127.0.0.1:.*=KEY into INPAINT_REMOTE_KEYS"),
        (404, {}, "no such API"),
        (500, b"\xff", "status 500"),
        (302, b"", "status 302"),
    ],
)
def test_a_refusal_is_an_error_that_says_what_to_do(stub: Stub, status: int, answer: Json, said: str) -> None:
    stub.answers.update(OPENAI)
    engine = Engine.load(stub.url)
    stub.answers["/v1/completions"] = (status, answer)
    with pytest.raises(EngineError, match=said):
        fill(engine)


HARD = [json.loads(line) for line in Path(__file__).with_name("hard_answers.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("case", HARD, ids=[case["name"] for case in HARD])
def test_a_hard_answer_is_an_error_or_no_more_than_was_asked_for(stub: Stub, case: dict[str, Any]) -> None:
    """A report is one more line in hard_answers.jsonl, whose `…` stands for `unit`, and `close` behind it, so many
    `times`; without a `text` the answer is an error.
    """
    times = case.get("times", 0)
    body = case["body"].replace("…", case.get("unit", "") * times + case.get("close", "") * times).encode()
    stub.answers.update({"/v1/completions": (200, body), "/v1/fim/completions": (200, body), "/infill": (200, body)})
    stub.answers["/v1/models"] = (200, {"data": [{"id": "m", "owned_by": case["owner"]}]})
    engine = Engine.load(f"{stub.url}/{case['api']}")
    request = FillRequest(prefix="x = ", max_lines=1, max_tokens=8)
    if "text" not in case:
        with pytest.raises(EngineError, match=f"not that of /{case['api']}"):
            fill(engine, request)
        return
    made = fill(engine, request)
    assert made.text == case["text"]
    assert 0 <= made.confidence <= 1
    assert all(0 <= piece.end <= len(made.text) and 0 <= piece.probability <= 1 for piece in made.pieces)


@pytest.mark.parametrize("reach", ["abc", -1, 10**30, None])
def test_a_model_of_ours_that_sees_nonsense_is_an_error(stub: Stub, reach: Json) -> None:
    about = {"id": "small", "owned_by": "inpaint", "inpaint": {"reach": reach}}
    stub.answers["/v1/models"] = (200, {"data": [about]})
    with pytest.raises(EngineError, match="nonsense"):
        Engine.load(stub.url)


def test_a_list_of_models_that_is_none_is_no_list(stub: Stub) -> None:
    stub.answers.update(OPENAI)
    for answer in (b"<html>", b'{"data": []}', b"[" * 100_000 + b"]" * 100_000):
        stub.answers["/v1/models"] = (200, answer)
        assert fill(Engine.load(stub.url)).text == "ab"


def test_a_server_that_wants_a_key_is_said_at_the_start(stub: Stub) -> None:
    stub.answers["/v1/models"] = (401, {})
    with pytest.raises(EngineError, match="wants a key"):
        Engine.load(stub.url)


def test_an_endless_answer_is_given_up(stub: Stub) -> None:
    stub.answers.update(OPENAI)
    engine = Engine.load(stub.url)
    stub.answers["/v1/completions"] = (200, b" " * 2_000_000)
    assert "longer" in fill(engine).instead


def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.5)

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while True:
                connection.sendall(b" ")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        started = time.monotonic()
        assert "did not answer in time" in fill(Engine.load(f"http://127.0.0.1:{listener.getsockname()[1]}")).instead
        assert time.monotonic() - started < 20


def test_a_little_that_would_become_much_is_not_unpacked(stub: Stub) -> None:
    stub.answers.update(OPENAI)
    engine = Engine.load(stub.url)
    stub.answers["/v1/completions"] = (200, gzip.compress(b" " * 20_000_000))
    with pytest.raises(EngineError, match="not that of"):
        fill(engine)


def test_this_machine_is_asked_through_no_proxy(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.answers.update(OPENAI)
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert fill(Engine.load(stub.url)).text == "ab"


# ---------------------------------------------------------------- keys and URLs


def test_a_key_goes_to_its_server_alone(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.answers.update(OPENAI)
    here = stub.url.removeprefix("http://")
    monkeypatch.setenv("INPAINT_REMOTE_KEYS", f"elsewhere.example=theirs, 127.0.0.1:1=no, {here}=ours")
    fill(Engine.load(stub.url))
    assert {headers.get("authorization") or headers.get("Authorization") for _, _, headers in stub.asked} == {
        "Bearer ours"
    }


@pytest.mark.parametrize(
    ("name", "url", "goes"),
    [
        ("gpu.example", "https://gpu.example", True),
        ("gpu.example", "https://GPU.example:443/v1", True),
        ("https://gpu.example:8443", "https://gpu.example:8443", True),
        ("gpu.example:8443", "https://gpu.example:8443/v1", True),
        ("gpu.example", "https://gpu.example:8443", False),
        ("gpu.example", "https://gpu.example.evil.example", False),
        ("http://gpu.example", "https://gpu.example", False),
        ("default", "https://gpu.example", False),
        ("127.0.0.1:8012", "http://127.0.0.1:8012", True),
        ("127.0.0.1:8012", "http://127.0.0.1:8013", False),
        ("[::1]:8012", "http://[::1]:8012", True),
        ("not a host", "https://gpu.example", False),
    ],
)
def test_a_key_is_for_a_scheme_a_host_and_a_port(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, url: str, goes: bool
) -> None:
    monkeypatch.setenv("INPAINT_REMOTE_KEYS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("INPAINT_REMOTE_KEYS", f"{name}=sk=1")
    assert key_for(parse_url(url)) == ("sk=1" if goes else None)


def test_a_key_goes_over_no_network_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPAINT_REMOTE_KEYS", "gpu.example=sk-1")
    with pytest.raises(EngineError, match="https only"):
        Engine.load("http://gpu.example")


def test_a_private_file_has_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, api, other = tmp_path / "keys", parse_url("https://api.example"), parse_url("https://other.example")
    monkeypatch.setenv("INPAINT_REMOTE_KEYS_FILE", str(file))
    assert key_for(api) is None
    file.write_text("machine api.example password sk-1\ndefault login me password sk-2\n")
    file.chmod(0o644)
    with pytest.raises(EngineError, match="chmod 600"):
        key_for(api)
    file.chmod(0o600)
    assert key_for(api) == "sk-1"
    assert key_for(other) is None
    for wrong in (b"nonsense", b"\xff"):
        file.write_bytes(wrong)
        with pytest.raises(EngineError, match="machine HOST password KEY"):
            key_for(api)


@pytest.mark.parametrize(
    ("url", "base", "endpoint", "name"),
    [
        ("http://h", "http://h/", "", ""),
        ("HTTP://h:8012/", "http://h:8012/", "", ""),
        ("https://h/v1", "https://h/", "", ""),
        ("https://h/team/v1/", "https://h/team/", "", ""),
        ("https://h/v1/completions", "https://h/", "v1/completions", ""),
        ("https://h/v1/fim/completions?model=m-2", "https://h/", "v1/fim/completions", "m-2"),
        ("http://[::1]:80/infill", "http://[::1]:80/", "infill", ""),
    ],
)
def test_a_url_is_read(url: str, base: str, endpoint: str, name: str) -> None:
    address = parse_url(url)
    assert (address.base, address.endpoint, address.model) == (base, endpoint, name)


@pytest.mark.parametrize("url", ["http://", "http://h:x", "http://user:key@h", "https://h#k", "http://[h"])
def test_a_url_that_is_none_says_what_one_is(url: str) -> None:
    with pytest.raises(EngineError, match="https://HOST"):
        Engine.load(url)


def test_only_other_machines_are_in_the_open() -> None:
    open_to = [
        parse_url(url).in_the_open for url in ("http://h", "https://h", "http://127.0.0.1", "http://localhost:1")
    ]
    assert open_to == [True, False, False, False]
