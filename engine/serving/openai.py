"""`POST /v1/completions` as OpenAI's, the one of its APIs with a suffix."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Annotated

import msgspec

from engine.contract import Sampling
from engine.serving import schema
from engine.serving.schema import Answer, BadRequest, CompletionRequest, Head, HttpApi, Json, Seed

MOST_CHOICES = 16


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class OpenAiBody(schema.Body, kw_only=True):
    prompt: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=MOST_CHOICES)]
    seed: Seed = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST_CHOICES)] | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    stream_options: StreamOptions | None = None


class Completions(HttpApi):
    def requests(self, body: bytes) -> list[CompletionRequest]:
        asked = msgspec.json.decode(body, type=OpenAiBody)
        if asked.echo:
            raise BadRequest("the prompt is not echoed; leave echo out", "echo")
        prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        count = asked.n or 1
        if len(prompts) * count > MOST_CHOICES:
            raise BadRequest(f"at most {MOST_CHOICES} choices: fewer prompts, or a smaller n", "n")
        drawn = schema.sampling(asked.inpaint, asked.temperature, asked.top_p, asked.seed)
        return [
            schema.completion_request(
                asked.inpaint,
                sampling=_numbered(drawn, index),
                prefix=prompt,
                suffix=asked.suffix or "",
                max_tokens=16 if asked.max_tokens is None else asked.max_tokens,
                stops=asked.stop,
                stream=bool(asked.stream),
                logprobs=asked.logprobs,
                usage=asked.stream_options is not None and asked.stream_options.include_usage,
            )
            for index, prompt in enumerate(prompt for prompt in prompts for _ in range(count))
        ]

    def answer(self, head: Head, asked: list[CompletionRequest], answers: list[Answer]) -> Json:
        choices = [_choice(*pair, index) for index, pair in enumerate(zip(asked, answers, strict=True))]
        return {**_head(head), "choices": choices, "usage": schema.usage(answers)}

    def event(self, head: Head, asked: CompletionRequest, answer: Answer, index: int) -> Json:
        return {**_head(head), "choices": [_choice(asked, answer, index)]}

    def usage(self, head: Head, answers: list[Answer]) -> Json | None:
        return {**_head(head), "choices": [], "usage": schema.usage(answers)}


def _numbered(drawn: Sampling, index: int) -> Sampling:
    """Of a choice: a seed of its own."""
    return drawn if drawn.seed is None else msgspec.structs.replace(drawn, seed=(drawn.seed + index) % 2**63)


def _head(head: Head) -> Json:
    return {"id": f"cmpl-{head.id}", "object": "text_completion", "created": head.created, "model": head.model}


def _choice(asked: CompletionRequest, answer: Answer, index: int) -> Json:
    logprobs = None if asked.logprobs is None else _logprobs(answer, asked.logprobs)
    reason = schema.finished(answer)
    return {"index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": reason, **schema.ours(answer)}


def _logprobs(answer: Answer, alternatives: int) -> Json:
    """Of the tokens that were chosen; of the others nothing is known outside the engine."""
    logs = [math.log(max(token.probability, 1e-30)) for token in answer.made]
    texts = [token.text for token in answer.made]
    starts = list(accumulate(map(len, texts[:-1]), initial=0)) if texts else []
    top = [{text: log} for text, log in zip(texts, logs, strict=True)] if alternatives else None
    return {"tokens": texts, "token_logprobs": logs, "top_logprobs": top, "text_offset": starts}
