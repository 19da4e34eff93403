"""The APIs that fill gaps: a request as each has it, and its answer as a Fill.

A server that is not ours knows neither lines nor confidence: its text is cut to the lines that were asked for, and its
confidence is the geometric mean of the probabilities where it tells them, else 1. It is sent the text alone, and from
llama.cpp's the files that ours copies from.
"""

from __future__ import annotations

import math
import re
from itertools import accumulate
from typing import Annotated, Any, Protocol, TypeAlias

import msgspec

from engine.contract import DRAWN, EngineError, Fill, FillRequest, TokenSpan
from engine.prompt import after_cursor

Json: TypeAlias = Any
Chance: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
SENT = (  # beside what the API has itself; paths of files and indexes of them stay here
    "path", "max_lines", "deadline_ms", "steps", "related", "min_confidence", "drafts", "copies", "trust", "others",
)  # fmt: skip
LAST_BLANK = re.compile(r"\n?[^\S\n]*\Z")
FILES = 6  # that llama.cpp is sent
LINE = 40  # tokens: that a line has at most, where its end does not stop a server
CHARACTERS = 16  # that a token has at most, on average: more of an answer was not asked for


class InpaintUsage(msgspec.Struct):
    """Ours: the object "inpaint" of a choice."""

    tokens: Count
    complete: bool
    confidence: Chance = 0.0
    passes: Count = 1
    encoded: Count = 0
    reused: Count = 0
    encode_ms: float = 0.0
    decode_ms: float = 0.0


class Logprobs(msgspec.Struct):
    token_logprobs: list[float | None] | None = None
    text_offset: list[Count] | None = None


class Message(msgspec.Struct):
    content: str


class CompletionChoice(msgspec.Struct):
    text: str | None = None
    message: Message | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    inpaint: InpaintUsage | None = None


class Choices(msgspec.Struct):
    choices: Annotated[list[CompletionChoice], msgspec.Meta(min_length=1)]


class TokenLogprob(msgspec.Struct):
    logprob: float | None


class LlamaAnswer(msgspec.Struct):
    """llama.cpp's answer."""

    content: str
    stop_type: str
    completion_probabilities: list[TokenLogprob] = []


class Api(Protocol):
    """`endpoint` is the path below the server's."""

    endpoint: str

    def body(self, request: FillRequest, model: str) -> Json: ...

    def fill(self, request: FillRequest, body: bytes, seconds: float) -> Fill:
        """Raises ValueError, RecursionError and msgspec.DecodeError where the body is not the API's."""


class InpaintApi:
    """Ours: all that a request says, and all that a fill is."""

    endpoint = "v1/completions"

    def body(self, request: FillRequest, model: str) -> Json:
        body = _body(request, model)
        plain = FillRequest(prefix="")  # its values are left out: an older server may not know their names
        more = {name: getattr(request, name) for name in SENT if getattr(request, name) != getattr(plain, name)}
        return body | {"logprobs": 0, "inpaint": more}

    def fill(self, request: FillRequest, body: bytes, seconds: float) -> Fill:
        choice, text = _choice(body)
        if (cost := choice.inpaint) is None:
            raise ValueError("no costs")
        pieces = _pieces(text, choice.logprobs or Logprobs())
        if cost.complete and pieces:  # that nothing follows: what is left of the confidence, see `confidence`
            made = math.prod(piece.probability for piece in pieces)
            pieces.append(TokenSpan(len(text), min(1.0, cost.confidence**2 / max(made, 1e-30))))
        fill = Fill(text=text, pieces=tuple(pieces), **msgspec.structs.asdict(cost))
        end = len(_asked_for(request, text))
        end += text.startswith("\n", end)  # a line has its end
        return fill if end == len(text) else fill.before(end)


class OpenAICompletions:
    """OpenAI's, with a suffix."""

    endpoint = "v1/completions"

    def body(self, request: FillRequest, model: str) -> Json:
        return _body(request, model, temperature=0) | {"logprobs": 1, **_stop(request)}

    def fill(self, request: FillRequest, body: bytes, seconds: float) -> Fill:
        choice, text = _choice(body)
        logs = choice.logprobs.token_logprobs if choice.logprobs else None
        return _fill(request, text, logs or [], choice.finish_reason == "stop", seconds)


class FimCompletions(OpenAICompletions):
    """Mistral's and Inception's."""

    endpoint = "v1/fim/completions"

    def body(self, request: FillRequest, model: str) -> Json:
        body = _body(request, model, temperature=0) | _stop(request)
        return {"random_seed" if name == "seed" else name: value for name, value in body.items()}


class LlamaInfill:
    """llama.cpp's, for a model that was trained to fill gaps."""

    endpoint = "infill"

    def body(self, request: FillRequest, model: str) -> Json:
        begin, newline, line = request.prefix.rpartition("\n")
        extra = [{"filename": f"{number}", "text": text} for number, text in enumerate(request.related[:FILES])]
        gap = {"input_prefix": begin + newline, "prompt": line, "input_suffix": request.suffix}
        return gap | {"input_extra": extra[::-1]} | _llama(request)

    def fill(self, request: FillRequest, body: bytes, seconds: float) -> Fill:
        answer = msgspec.json.decode(body, type=LlamaAnswer)
        logs = [token.logprob for token in answer.completion_probabilities]
        ended = answer.stop_type in ("eos", "word")
        return _fill(request, self.text(request, answer.content), logs, ended, seconds)

    def text(self, request: FillRequest, content: str) -> str:
        """Of the content what goes behind the prefix."""
        return content


class LlamaCompletion(LlamaInfill):
    """llama.cpp's, for any model: what follows the prefix, since it cannot be told the suffix.

    Tokens of words begin with the blank before them, and those of indentations with the line's end, so these are left
    to the model to write again. A line's end among them cannot be what it stops at.
    """

    endpoint = "completion"

    def body(self, request: FillRequest, model: str) -> Json:
        taken = _last_blank(request.prefix)
        body = {"prompt": request.prefix.removesuffix(taken)} | _llama(request)
        if "\n" in taken and body.pop("stop", None):
            body["n_predict"] = min(LINE, request.max_tokens)
        return body

    def text(self, request: FillRequest, content: str) -> str:
        taken = _last_blank(request.prefix)
        return content.removeprefix(taken) if content.startswith(taken) else ""


APIS: dict[str, Api] = {
    kind.endpoint: kind for kind in (OpenAICompletions(), FimCompletions(), LlamaInfill(), LlamaCompletion())
}


def _last_blank(prefix: str) -> str:
    """The line's end and the indentation, or the blank, before the cursor; nothing where there is nothing else."""
    found = LAST_BLANK.search(prefix)
    return found[0] if found and prefix.strip() else ""


def _body(request: FillRequest, model: str, **usual: float) -> Json:
    body = {"prompt": request.prefix, "suffix": request.suffix, "max_tokens": request.max_tokens}
    return body | ({"model": model} if model else {}) | usual | _drawn(request)


def _drawn(request: FillRequest) -> Json:
    asked = {name: getattr(request.sampling, name) for name in DRAWN}
    return {name: value for name, value in asked.items() if value is not None}


def _stop(request: FillRequest) -> Json:
    return {"stop": ["\n"]} if request.max_lines == 1 else {}


def _llama(request: FillRequest) -> Json:
    limits: Json = {"n_predict": request.max_tokens, "temperature": 0, "cache_prompt": True, "n_probs": 1}
    if request.deadline_ms is not None:
        limits["t_max_predict_ms"] = round(request.deadline_ms)
    return limits | _stop(request) | _drawn(request)


def _choice(body: bytes) -> tuple[CompletionChoice, str]:
    """The first one, and its text."""
    choice = msgspec.json.decode(body, type=Choices).choices[0]
    text = choice.message.content if choice.message else choice.text
    if text is None:
        raise ValueError("no text")
    return choice, text


def _pieces(text: str, logprobs: Logprobs) -> list[TokenSpan]:
    logs = (math.exp(min(0.0, log)) for log in logprobs.token_logprobs or [] if log is not None)
    ends = accumulate((min(end, len(text)) for end in [*(logprobs.text_offset or [])[1:], len(text)]), max)
    return list(map(TokenSpan, ends, logs))


def _asked_for(request: FillRequest, text: str) -> str:
    """Of an answer no more than the lines and tokens that were asked for; the last line without its end."""
    text = text[: request.max_tokens * CHARACTERS]
    return text if request.max_lines is None else "\n".join(text.split("\n", request.max_lines)[: request.max_lines])


def _fill(request: FillRequest, text: str, told: list[float | None], ended: bool, seconds: float) -> Fill:
    kept = _asked_for(request, text)
    ended, text = text.startswith("\n", len(kept)) or (ended and kept == text), kept
    if request.max_lines is not None and text and after_cursor(request.prefix, request.suffix)[1]:
        text += "\n"  # it is a line of its own
    logs = [max(log, -69.0) for log in told if log is not None and log <= 0]
    return Fill(
        text=text,
        confidence=(math.exp(sum(logs) / len(logs)) if logs else 1.0) if text else 0.0,
        passes=max(1, len(logs)),
        tokens=max(len(logs), bool(text)),
        encoded=0,
        reused=0,
        encode_ms=0.0,
        decode_ms=seconds * 1000,
        complete=ended,
    )


def read(kind: Api, request: FillRequest, body: bytes, seconds: float) -> Fill:
    """Raises EngineError where the server answers with something else."""
    try:
        return kind.fill(request, body, seconds)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise EngineError(f"the server's answer is not that of /{kind.endpoint}: set another API in its URL") from None
