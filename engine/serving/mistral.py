"""`POST /v1/fim/completions` as Mistral's, whose choices have a message, and as Inception's, whose choices have a text:
both are written."""

from __future__ import annotations

import msgspec

from engine.serving import schema
from engine.serving.schema import Answer, CompletionRequest, Head, HttpApi, Json, Seed


class MistralBody(schema.Body, kw_only=True):
    prompt: str
    random_seed: Seed = None


class Fim(HttpApi):
    def requests(self, body: bytes) -> list[CompletionRequest]:
        asked = msgspec.json.decode(body, type=MistralBody)
        return [
            schema.completion_request(
                asked.inpaint,
                prefix=asked.prompt,
                suffix=asked.suffix or "",
                max_tokens=256 if asked.max_tokens is None else asked.max_tokens,
                stops=asked.stop,
                sampling=schema.sampling(asked.inpaint, asked.temperature, asked.top_p, asked.random_seed),
                stream=bool(asked.stream),
            )
        ]

    def answer(self, head: Head, asked: list[CompletionRequest], answers: list[Answer]) -> Json:
        [answer] = answers
        choice = _choice(answer) | {"message": {"role": "assistant", "content": answer.text, "tool_calls": None}}
        return {**_head(head, "chat.completion"), "choices": [choice], "usage": schema.usage(answers)}

    def event(self, head: Head, asked: CompletionRequest, answer: Answer, index: int) -> Json:
        choice = _choice(answer) | {"delta": {"role": "assistant", "content": answer.text}}
        last = {"usage": schema.usage([answer])} if answer.finish else {}
        return {**_head(head, "chat.completion.chunk"), "choices": [choice], **last}


def _head(head: Head, kind: str) -> Json:
    return {"id": head.id, "object": kind, "created": head.created, "model": head.model}


def _choice(answer: Answer) -> Json:
    return {"index": 0, "text": answer.text, "finish_reason": schema.finished(answer), **schema.ours(answer)}
