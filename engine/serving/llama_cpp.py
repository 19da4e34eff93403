"""`POST /infill` as llama.cpp's server, with what llama.vim and llama.vscode send and read.

`prompt` is what stands between the prefix and the cursor, on the cursor's line. `input_extra` are other texts of the
project, the latest last. A request with `n_predict` 0 has the context read, so that the next one is answered sooner.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from engine.contract import Dial
from engine.serving import schema
from engine.serving.schema import Answer, CompletionRequest, Count, Extension, Head, HttpApi, Json, Seed, Share, Stops

UNLIMITED = 256  # tokens, where n_predict is -1
RANDOM = -1  # as a seed
RELATED = 6  # texts that a fill may copy from
STOP_TYPES = {None: "none", "end": "eos", "stop": "word", "limit": "limit"}


Field: TypeAlias = Annotated[str, msgspec.Meta(max_length=256)]


class Extra(msgspec.Struct):
    text: str
    filename: str = ""


class LlamaBody(msgspec.Struct, kw_only=True):
    """What the server looks at; other fields are accepted and make no difference."""

    input_prefix: str
    input_suffix: str
    prompt: str = ""
    input_extra: Annotated[list[Extra], msgspec.Meta(max_length=1000)] = []
    n_predict: Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)] = UNLIMITED
    n_indent: Count = 0
    t_max_predict_ms: Annotated[float, msgspec.Meta(le=600_000)] = 0
    temperature: Dial | None = None
    top_p: Share | None = None
    seed: Seed = None
    stop: Stops = None
    stream: bool = False
    response_fields: Annotated[list[Field], msgspec.Meta(max_length=64)] = []
    inpaint: Extension | None = None


class LlamaInfillBody(HttpApi):
    done = b""

    def requests(self, body: bytes) -> list[CompletionRequest]:
        asked = msgspec.json.decode(body, type=LlamaBody)
        more = asked.inpaint or Extension()
        if asked.t_max_predict_ms > 0 and more.deadline_ms is None:
            more.deadline_ms = asked.t_max_predict_ms
        if not more.related:
            more.related = tuple(extra.text for extra in reversed(asked.input_extra))[:RELATED]
        return [
            schema.completion_request(
                more,
                prefix=asked.input_prefix + asked.prompt,
                suffix=asked.input_suffix,
                max_tokens=UNLIMITED if asked.n_predict < 0 else asked.n_predict,
                stops=asked.stop,
                sampling=schema.sampling(
                    more, asked.temperature, asked.top_p, None if asked.seed == RANDOM else asked.seed
                ),
                indent=asked.n_indent,
                stream=asked.stream,
                fields=tuple(asked.response_fields),
            )
        ]

    def answer(self, head: Head, asked: list[CompletionRequest], answers: list[Answer]) -> Json:
        return _chosen(_whole(head, answers[0]), asked[0].fields)

    def event(self, head: Head, asked: CompletionRequest, answer: Answer, index: int) -> Json:
        if answer.finish:
            return _chosen(_whole(head, answer), asked.fields)
        return {"index": 0, "content": answer.text, "tokens": [], "stop": False, "id_slot": 0, **schema.ours(answer)}


def _whole(head: Head, answer: Answer) -> Json:
    fill = answer.fill
    encoded, reused = (fill.encoded, fill.reused) if fill else (0, 0)
    return {
        "index": 0,
        "content": answer.text,
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": head.model,
        "tokens_predicted": answer.tokens,
        "tokens_evaluated": encoded + reused,
        "tokens_cached": reused,
        "truncated": False,
        "has_new_line": "\n" in answer.text,
        "stop_type": STOP_TYPES[answer.finish],
        "stopping_word": answer.stop,
        "timings": {
            **_timings("prompt", encoded, fill.encode_ms if fill else 0.0),
            **_timings("predicted", answer.tokens, fill.decode_ms if fill else 0.0),
        },
        **schema.ours(answer),
    }


def _timings(name: str, count: int, milliseconds: float) -> Json:
    return {
        f"{name}_n": count,
        f"{name}_ms": milliseconds,
        f"{name}_per_token_ms": milliseconds / count if count else 0.0,
        f"{name}_per_second": 1000 * count / milliseconds if milliseconds else 0.0,
    }


def _chosen(whole: Json, fields: tuple[str, ...]) -> Json:
    """Of the answer what was asked for, nested ones by their path: "timings/prompt_n"."""
    if not fields:
        return whole
    found = {}
    for path in fields:
        value: object = whole
        for name in path.split("/"):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            found[path] = value
    return found
