"""The APIs that fill gaps: a request as each has it, and its answer as a Fill.

A server that is not ours knows neither lines nor confidence: its text is cut to the lines that were asked for, and its
confidence is the geometric mean of the probabilities where it tells them, else 1. It is sent the text alone, and from
llama.cpp's the files that ours copies from.
"""

from __future__ import annotations

import math
import re
from typing import Any, Protocol, TypeAlias

import msgspec

from engine.contract import DRAWN, EngineError, Fill, FillRequest, Piece
from engine.window import after_cursor

Json: TypeAlias = Any
SENT = (  # beside what the API has itself; paths of files and indexes of them stay here
    "path", "max_lines", "deadline_ms", "steps", "related", "min_confidence", "drafts", "copies", "trust", "others",
)  # fmt: skip
LAST_BLANK = re.compile(r"\n?[^\S\n]*\Z")
FILES = 6  # that llama.cpp is sent
LINE = 40  # tokens: that a line has at most, where its end does not stop a server


class Kind(Protocol):
    """`endpoint` is the path below the server's."""

    endpoint: str

    def body(self, request: FillRequest, model: str) -> Json: ...

    def fill(self, request: FillRequest, answer: Json, seconds: float) -> Fill:
        """Raises KeyError, TypeError, IndexError and ValueError where the answer is not the API's."""


class Inpaint:
    """Ours: all that a request says, and all that a fill is."""

    endpoint = "v1/completions"

    def body(self, request: FillRequest, model: str) -> Json:
        body = _body(request, model)
        plain = FillRequest(prefix="")  # its values are left out: an older server may not know their names
        more = {name: getattr(request, name) for name in SENT if getattr(request, name) != getattr(plain, name)}
        return body | {"logprobs": 0, "inpaint": more}

    def fill(self, request: FillRequest, answer: Json, seconds: float) -> Fill:
        [choice] = answer["choices"]
        cost, logprobs, text = choice["inpaint"], choice.get("logprobs") or {}, choice["text"]
        offsets = logprobs.get("text_offset", [])
        logs = logprobs.get("token_logprobs", [])
        pieces = [Piece(end, math.exp(log)) for end, log in zip([*offsets[1:], len(text)], logs, strict=False)]
        if cost["complete"] and pieces:  # that nothing follows: what is left of the confidence, see `confidence`
            made = math.prod(piece.probability for piece in pieces)
            pieces.append(Piece(len(text), min(1.0, cost["confidence"] ** 2 / max(made, 1e-30))))
        numbers = {name: cost.get(name, 0) for name in ("encoded", "reused", "encode_ms", "decode_ms")}
        return Fill(
            text=str(text),
            confidence=float(cost.get("confidence", 0)),
            passes=max(1, int(cost.get("passes", 1))),
            tokens=int(cost["tokens"]),
            complete=bool(cost["complete"]),
            pieces=tuple(pieces),
            **numbers,
        )


class Completions:
    """OpenAI's, with a suffix."""

    endpoint = "v1/completions"

    def body(self, request: FillRequest, model: str) -> Json:
        return _body(request, model, temperature=0) | {"logprobs": 1, **_stop(request)}

    def fill(self, request: FillRequest, answer: Json, seconds: float) -> Fill:
        choice = answer["choices"][0]
        logprobs = (choice.get("logprobs") or {}).get("token_logprobs") or []
        return _fill(request, choice["text"], _probabilities(logprobs), choice.get("finish_reason") == "stop", seconds)


class Fim:
    """Mistral's and Inception's."""

    endpoint = "v1/fim/completions"

    def body(self, request: FillRequest, model: str) -> Json:
        body = _body(request, model, temperature=0) | _stop(request)
        return {"random_seed" if name == "seed" else name: value for name, value in body.items()}

    def fill(self, request: FillRequest, answer: Json, seconds: float) -> Fill:
        choice = answer["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        return _fill(request, text, [], choice.get("finish_reason") == "stop", seconds)


class Infill:
    """llama.cpp's, for a model that was trained to fill gaps."""

    endpoint = "infill"

    def body(self, request: FillRequest, model: str) -> Json:
        begin, newline, line = request.prefix.rpartition("\n")
        extra = [{"filename": f"{number}", "text": text} for number, text in enumerate(request.related[:FILES])]
        gap = {"input_prefix": begin + newline, "prompt": line, "input_suffix": request.suffix}
        return gap | {"input_extra": extra[::-1]} | _llama(request)

    def fill(self, request: FillRequest, answer: Json, seconds: float) -> Fill:
        logs = [token["logprob"] for token in answer.get("completion_probabilities", [])]
        ended = answer["stop_type"] in ("eos", "word")
        return _fill(request, answer["content"], _probabilities(logs), ended, seconds)


class Completion(Infill):
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

    def fill(self, request: FillRequest, answer: Json, seconds: float) -> Fill:
        taken, text = _last_blank(request.prefix), answer["content"]
        left = text.removeprefix(taken) if text.startswith(taken) else ""
        return super().fill(request, answer | {"content": left}, seconds)


KINDS: dict[str, Kind] = {kind.endpoint: kind for kind in (Completions(), Fim(), Infill(), Completion())}


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


def _probabilities(logs: list[Any]) -> list[float]:
    return [math.exp(log) for log in logs if isinstance(log, int | float) and log <= 0]


def _fill(request: FillRequest, text: str, probabilities: list[float], ended: bool, seconds: float) -> Fill:
    if not isinstance(text, str):
        raise TypeError
    lines = text.split("\n")
    if request.max_lines is not None and len(lines) > request.max_lines:
        text, ended = "\n".join(lines[: request.max_lines]), True
    if request.max_lines is not None and text and after_cursor(request.prefix, request.suffix)[1]:
        text += "\n"  # it is a line of its own
    logs = [math.log(max(probability, 1e-30)) for probability in probabilities]
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


def read(kind: Kind, request: FillRequest, body: bytes, seconds: float) -> Fill:
    """Raises EngineError where the server answers with something else."""
    try:
        return kind.fill(request, msgspec.json.decode(body), seconds)
    except (msgspec.DecodeError, KeyError, TypeError, IndexError, ValueError, AttributeError):
        raise EngineError(f"the server's answer is not that of /{kind.endpoint}: set another API in its URL") from None
