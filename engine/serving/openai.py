"""`POST /v1/completions` as OpenAI's, the one of its APIs with a suffix."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Annotated

import msgspec

from engine.contract import Sampling
from engine.serving.schema import (
    Answer,
    BadRequest,
    Count,
    Extension,
    Head,
    Json,
    Question,
    Seed,
    Share,
    Stops,
    Temperature,
    cost,
    finished,
    question,
    sampling,
    usage,
)

MOST_CHOICES = 16


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Body(msgspec.Struct, kw_only=True):
    """What the server looks at; other fields are accepted and make no difference."""

    prompt: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=MOST_CHOICES)]
    suffix: str | None = None
    max_tokens: Count | None = None
    stop: Stops = None
    temperature: Temperature = None
    top_p: Share | None = None
    seed: Seed = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST_CHOICES)] | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    inpaint: Extension | None = None


class Completions:
    done = b"data: [DONE]\n\n"

    def questions(self, body: bytes) -> list[Question]:
        asked = msgspec.json.decode(body, type=Body)
        if asked.echo:
            raise BadRequest("the prompt is not echoed; leave echo out", "echo")
        prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        count = asked.n or 1
        if len(prompts) * count > MOST_CHOICES:
            raise BadRequest(f"at most {MOST_CHOICES} choices: fewer prompts, or a smaller n", "n")
        drawn = sampling(asked.inpaint, asked.temperature, asked.top_p, asked.seed)
        return [
            question(
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

    def answer(self, head: Head, asked: list[Question], answers: list[Answer]) -> Json:
        choices = [_choice(*pair, index) for index, pair in enumerate(zip(asked, answers, strict=True))]
        return {**_head(head), "choices": choices, "usage": usage(answers)}

    def event(self, head: Head, asked: Question, answer: Answer, index: int) -> Json:
        return {**_head(head), "choices": [_choice(asked, answer, index)]}

    def usage(self, head: Head, answers: list[Answer]) -> Json | None:
        return {**_head(head), "choices": [], "usage": usage(answers)}


def _numbered(drawn: Sampling, index: int) -> Sampling:
    """Of a choice: a seed of its own."""
    return drawn if drawn.seed is None else msgspec.structs.replace(drawn, seed=(drawn.seed + index) % 2**63)


def _head(head: Head) -> Json:
    return {"id": f"cmpl-{head.id}", "object": "text_completion", "created": head.created, "model": head.model}


def _choice(asked: Question, answer: Answer, index: int) -> Json:
    logprobs = None if asked.logprobs is None else _logprobs(answer, asked.logprobs)
    choice: Json = {"index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": finished(answer)}
    if answer.finish:
        choice["inpaint"] = cost(answer)
    elif answer.canvas is not None:
        choice["inpaint"] = {"canvas": answer.canvas}
    return choice


def _logprobs(answer: Answer, alternatives: int) -> Json:
    """Of the tokens that were chosen; of the others nothing is known outside the engine."""
    logs = [math.log(max(token.probability, 1e-30)) for token in answer.made]
    texts = [token.text for token in answer.made]
    starts = list(accumulate(map(len, texts[:-1]), initial=0)) if texts else []
    top = [{text: log} for text, log in zip(texts, logs, strict=True)] if alternatives else None
    return {"tokens": texts, "token_logprobs": logs, "top_logprobs": top, "text_offset": starts}
