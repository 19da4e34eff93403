"""The three APIs as their clients see them, with the shipped model."""

from __future__ import annotations

import threading

import openai
import pytest
from servers import PATIENCE, Server

from engine import Engine, FillRequest
from engine.embedded import Embedded

GAP = {"prompt": "import os\n\n\ndef names(folder):\n    for name in os.", "suffix": "\n        print(name)\n"}


@pytest.fixture(scope="module")
def engine(small: Embedded) -> Engine:
    return Engine(small)


def filled(engine: Engine, **options: object) -> str:
    request = FillRequest(prefix=GAP["prompt"], suffix=GAP["suffix"], **options)
    return engine.fill(request, threading.Event()).text


def test_a_completion_is_the_engines_fill(server: Server, engine: Engine) -> None:
    body = server.post("/v1/completions", {**GAP, "max_tokens": 24}).json()
    [choice] = body["choices"]
    assert choice["text"] == filled(engine, max_tokens=24)
    assert (body["object"], body["model"], choice["index"]) == ("text_completion", "small", 0)
    assert choice["finish_reason"] in ("stop", "length")
    assert choice["inpaint"]["passes"] > 0
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] > 10


def test_a_limit_is_told_from_an_end(server: Server) -> None:
    [choice] = server.post("/v1/completions", {**GAP, "max_tokens": 1}).json()["choices"]
    assert choice["finish_reason"] == "length"
    body = {"prompt": "import numpy as ", "suffix": "\n", "max_tokens": 64, "stop": "\n"}
    [choice] = server.post("/v1/completions", body).json()["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("np", "stop")


def test_a_stop_string_is_not_part_of_the_text(server: Server, engine: Engine) -> None:
    whole = filled(engine, max_tokens=24)
    stop = whole[3:6]
    body = {**GAP, "max_tokens": 24, "stop": [stop, "never found"]}
    [choice] = server.post("/v1/completions", body).json()["choices"]
    assert choice["text"] == whole[: whole.index(stop)]
    events = server.events("/v1/completions", {**body, "stream": True})
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == choice["text"]


def test_a_stream_adds_up_to_the_completion(server: Server, engine: Engine) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *events, usage, done = server.events("/v1/completions", {**GAP, "max_tokens": 24, **options})
    assert "".join(event["choices"][0]["text"] for event in events) == filled(engine, max_tokens=24)
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0
    assert done == "[DONE]"


def test_log_probabilities_belong_to_the_tokens_of_the_text(server: Server) -> None:
    [choice] = server.post("/v1/completions", {**GAP, "max_tokens": 24, "logprobs": 1}).json()["choices"]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert len(logprobs["tokens"]) > 2
    assert all(logprob <= 0 for logprob in logprobs["token_logprobs"])
    placed = zip(logprobs["text_offset"], logprobs["tokens"], strict=True)
    assert all(choice["text"].startswith(token, at) for at, token in placed)


def test_choices_come_in_the_order_of_the_prompts(server: Server, engine: Engine) -> None:
    prompts = ["import numpy as ", "from typing import "]
    requests = [FillRequest(prefix=prompt, suffix="\n", max_lines=1, max_tokens=16) for prompt in prompts]
    first, second = (engine.fill(request, threading.Event()).text.split("\n")[0] for request in requests)
    assert first != second
    body = {"prompt": prompts, "suffix": "\n", "stop": "\n", "n": 2}
    choices = server.post("/v1/completions", body).json()["choices"]
    assert [choice["text"] for choice in choices] == [first, first, second, second]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]


def test_choices_are_drawn_by_their_seeds(server: Server) -> None:
    body = {**GAP, "max_tokens": 12, "temperature": 1.5, "seed": -7, "top_p": 0.95}

    def texts(path: str = "/v1/completions", **options: object) -> list[str]:
        return [choice["text"] for choice in server.post(path, {**body, **options}).json()["choices"]]

    [greedy] = texts(temperature=0)  # and its context is read
    assert texts(temperature=None, n=2) == [greedy] * 2
    four = texts(n=4)
    assert len({*four, greedy}) > 3
    assert four == [text for index in range(4) for text in texts(seed=index - 7)]
    assert [texts("/v1/fim/completions", random_seed=index - 7) for index in range(2)] == [[text] for text in four[:2]]
    infill = {"input_prefix": GAP["prompt"], "input_suffix": GAP["suffix"], "n_predict": 12}
    drawn = server.post("/infill", {**infill, "temperature": 1.5, "top_p": 0.95, "seed": 2**63 - 7}).json()
    assert drawn["content"] == four[0]
    assert len({text for _ in range(2) for text in texts(seed=None, n=2)}) > 2  # another seed each time


def test_drawn_tokens_are_streamed_with_their_log_probabilities(server: Server) -> None:
    body = {**GAP, "max_tokens": 12, "temperature": 1.0, "seed": 5, "logprobs": 0}
    [choice] = server.post("/v1/completions", body).json()["choices"]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert min(logprobs["token_logprobs"]) < -0.7  # not the likeliest
    *events, _ = server.events("/v1/completions", {**body, "stream": True})
    assert "".join(event["choices"][0]["text"] for event in events) == choice["text"]
    stop = choice["text"][2:5]
    [ended] = server.post("/v1/completions", {**body, "stop": [stop]}).json()["choices"]
    assert ended["text"] == choice["text"].partition(stop)[0]
    assert ended["finish_reason"] == "stop"


def test_fim_has_mistrals_message_and_inceptions_text(server: Server, engine: Engine) -> None:
    body = server.post("/v1/fim/completions", {**GAP, "max_tokens": 24, "model": "codestral-latest"}).json()
    [choice] = body["choices"]
    assert choice["message"]["content"] == choice["text"] == filled(engine, max_tokens=24)
    assert choice["message"]["role"] == "assistant"
    *events, done = server.events("/v1/fim/completions", {**GAP, "max_tokens": 24, "stream": True})
    assert "".join(event["choices"][0]["delta"]["content"] for event in events) == choice["text"]
    assert events[-1]["usage"]["completion_tokens"] > 0
    assert done == "[DONE]"


def test_infill_answers_as_llama_cpp(server: Server, engine: Engine) -> None:
    begin, line = GAP["prompt"].rsplit("\n", 1)
    body = {"input_prefix": begin + "\n", "prompt": line, "input_suffix": GAP["suffix"], "n_predict": 24}
    answer = server.post("/infill", body).json()
    assert answer["content"] == filled(engine, max_tokens=24)
    assert answer["stop"] is True
    assert answer["stop_type"] in ("eos", "limit")
    assert answer["timings"]["predicted_n"] == answer["tokens_predicted"]
    some = server.post("/infill", {**body, "response_fields": ["content", "timings/predicted_n", "nothing"]}).json()
    assert some == {"content": answer["content"], "timings/predicted_n": answer["tokens_predicted"]}
    events = server.events("/infill", {**body, "stream": True})
    assert "".join(event["content"] for event in events) == answer["content"]
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]


def test_infill_reads_the_context_alone(server: Server) -> None:
    body = {"input_prefix": GAP["prompt"] * 3, "input_suffix": "", "n_predict": 0}
    assert server.post("/infill", body).json()["content"] == ""
    again = server.post("/infill", {**body, "n_predict": 4}).json()
    assert again["tokens_cached"] > 0.9 * again["tokens_evaluated"]


def test_infill_copies_from_extra_texts(server: Server) -> None:
    extra = [{"filename": "b.py", "text": "quux_zorble = frobnicate_all(the_wobbly_widgets, 42)\n"}]
    body = {"input_prefix": "quux_zorble = frobnicate_all(the_w", "input_suffix": "\n", "n_predict": 16}
    assert "obbly_widgets, 42)" in server.post("/infill", {**body, "input_extra": extra}).json()["content"]


def test_the_extension_has_our_own_dials(server: Server, engine: Engine) -> None:
    body = {**GAP, "max_tokens": 24, "inpaint": {"max_lines": 1, "path": "a.py"}}
    [choice] = server.post("/v1/completions", body).json()["choices"]
    assert choice["text"] == filled(engine, max_tokens=24, max_lines=1, path="a.py")
    body["inpaint"]["deadline_ms"] = 0.001
    [choice] = server.post("/v1/completions", body).json()["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["text"] == ""


@pytest.mark.parametrize(
    ("extension", "said"),
    [
        ({"stepps": 2}, "stepps"),
        ({"sampling": {"algo": "p2"}}, "algo"),
        ({"sampling": {"alg": "best"}}, "best"),
        ({"sampling": {"seed": 2**64}}, "seed"),
        ({"sampling": {"alg": "p2"}}, "the model has no option alg"),
    ],
)
def test_dials_that_there_are_not_are_refused(server: Server, extension: dict[str, object], said: str) -> None:
    answer = server.post("/v1/completions", {**GAP, "inpaint": extension})
    assert answer.status_code == 400
    assert said in str(answer.json()["error"])


def test_the_extension_has_the_samplers_dials(server: Server) -> None:
    def texts(sampling: dict[str, object], path: str = "/v1/completions", **body: object) -> list[str]:
        asked = {**GAP, "max_tokens": 12, **body, "inpaint": {"sampling": sampling}}
        return [choice["text"] for choice in server.post(path, asked).json()["choices"]]

    drawn = {"temperature": 1.5, "top_p": 0.95}
    two = texts({}, **drawn, seed=3, n=2)
    assert texts({**drawn, "seed": 3}, temperature=0, seed=9, n=2) == two
    assert texts(drawn, seed=3, n=2) == two
    assert texts({"temperature": 1.5}, "/v1/fim/completions", top_p=0.95, random_seed=3) == two[:1]
    assert len({text for _ in range(2) for text in texts(drawn, n=2)}) > 2  # another seed each time


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/v1/completions", {}, 400, None),
        ("/v1/completions", {"prompt": 3}, 400, "prompt"),
        ("/v1/completions", {"prompt": "x", "max_tokens": -1}, 400, "max_tokens"),
        ("/v1/completions", {"prompt": "x", "echo": True}, 400, "echo"),
        ("/v1/completions", {"prompt": "x", "n": 99}, 400, "n"),
        ("/v1/completions", {"prompt": "x", "temperature": 2.5}, 400, "temperature"),
        ("/v1/completions", {"prompt": "x", "top_p": 1.5}, 400, "top_p"),
        ("/v1/completions", {"prompt": "x", "seed": 1 << 80}, 400, "seed"),
        ("/infill", {"input_prefix": "x", "input_suffix": "", "temperature": -1}, 400, "temperature"),
        ("/v1/fim/completions", {"suffix": "x"}, 400, None),
        ("/infill", {"input_prefix": "x"}, 400, None),
        ("/v1/completions", {"prompt": "x" * 2_100_000}, 413, None),
        ("/v1/chat/completions", {"prompt": "x"}, 404, None),
        ("/health", {}, 405, None),
    ],
)
def test_errors_have_openais_shape(server: Server, path: str, body: object, status: int, param: str | None) -> None:
    answer = server.post(path, body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


def test_what_is_not_json_is_refused(server: Server) -> None:
    for content in (b"", b"{", b"\xff\xfe", b'{"prompt": "\\ud800"}', b"[]", b"[" * 100_000):
        answer = server.client.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, content
        assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:8012", "Host": "127.0.0.1:8012"}, 200),
        ({"Host": "127.0.0.2:8012"}, 200),
        ({"Host": "[::1]:8012"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "evil.example:8012"}, 400),
        ({"Host": "127.0.0.1.evil.example"}, 400),
        ({"Host": "[evil"}, 400),
    ],
)
def test_other_sites_and_names_are_refused_without_keys(server: Server, headers: dict[str, str], status: int) -> None:
    for path in ("/health", "/v1/models", "/"):
        answer = server.client.get(path, headers=headers)
        assert answer.status_code == status, path
    assert server.post("/v1/completions", {**GAP, "max_tokens": 1}, **headers).status_code == status


def test_the_page_is_in_no_frame(server: Server) -> None:
    assert "frame-ancestors 'none'" in server.client.get("/").headers["Content-Security-Policy"]


def test_models_and_metrics_tell_what_is_served(server: Server) -> None:
    [model] = server.client.get("/v1/models").json()["data"]
    assert (model["id"], model["owned_by"]) == ("small", "inpaint")
    before = server.metric("inpaint_fill_passes_count")
    server.post("/v1/completions", GAP)
    assert server.metric("inpaint_fill_passes_count") == before + 1
    assert server.metric("inpaint_workers_ready") == 1


def test_no_text_is_logged(server: Server) -> None:
    server.post("/v1/completions", {"prompt": "SECRET_MARKER = ", "max_tokens": 4})
    headers = {"Content-Type": "application/json"}
    server.client.post("/v1/completions", content=b'{"prompt": "SECRET_MARKER", "max_tokens": "x"', headers=headers)
    assert "SECRET_MARKER" not in server.log


def test_the_openai_package_is_a_client(server: Server, engine: Engine) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=PATIENCE, max_retries=0)
    assert [model.id for model in client.models.list()] == ["small"]
    done = client.completions.create(model="small", **GAP, max_tokens=24, extra_body={"inpaint": {"max_lines": 1}})
    assert done.choices[0].text == filled(engine, max_tokens=24, max_lines=1)
    assert done.usage is not None
    stream = client.completions.create(model="small", **GAP, max_tokens=24, stream=True)
    assert "".join(part.choices[0].text for part in stream) == filled(engine, max_tokens=24)
    asked = {"max_tokens": 24, "n": 2, "logprobs": 1, "stop": ["\n"], "temperature": 1.5, "seed": 3}
    drawn = client.completions.create(model="small", **GAP, **asked)
    streamed = ["", ""]
    for part in client.completions.create(model="small", **GAP, **asked, stream=True):
        streamed[part.choices[0].index] += part.choices[0].text
    assert [choice.text for choice in drawn.choices] == streamed
    for choice in drawn.choices:
        assert "\n" not in choice.text
        assert choice.logprobs is not None
        assert "".join(choice.logprobs.tokens or []) == choice.text
        assert len(choice.logprobs.token_logprobs or []) == len(choice.logprobs.tokens or [])
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model="small", prompt="x", max_tokens=-1)
    assert wrong.value.param == "max_tokens"
