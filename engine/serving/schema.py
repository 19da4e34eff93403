"""What the three APIs have in common: a question as read from a body, an answer to be written as one, and errors."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias

import msgspec
from starlette.responses import Response

from engine.contract import Fill, FillRequest, Sampling

Json: TypeAlias = dict[str, Any]
Finish: TypeAlias = Literal["end", "stop", "limit"]  # the model's end or the line limit, a stop string, another limit

MOST_TOKENS = 2048
LEAST = 1e-6  # of top_p, which takes the likeliest token alone
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=4096)]
Stop: TypeAlias = Annotated[str, msgspec.Meta(max_length=256)]
Stops: TypeAlias = Stop | Annotated[list[Stop], msgspec.Meta(max_length=16)] | None
Fills: TypeAlias = Annotated[tuple[Annotated[str, msgspec.Meta(max_length=20_000)], ...], msgspec.Meta(max_length=16)]
Milliseconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=600_000)]
Temperature: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=2)] | None
Seed: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]


class BadRequest(Exception):
    """The body is wrong; the message says what to change, `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Extension(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The object "inpaint" of a body: what no API has a field for. Names and meanings are those of FillRequest.

    With `canvas`, a stream has an event for every denoising pass, with the canvas as it stands.
    """

    path: Name = ""
    max_lines: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    deadline_ms: Milliseconds | None = None
    steps: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    min_confidence: Share = 0.0
    related: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)] = ()
    drafts: bool = True
    copies: bool = True
    trust: Share = 1.0
    others: Fills = ()
    sampling: Sampling = Sampling()  # before what the API's own fields say
    canvas: bool = False


SAME = set(Extension.__struct_fields__) & set(FillRequest.__struct_fields__)


class Body(msgspec.Struct, kw_only=True):
    """What OpenAI's and Mistral's have in common. Other fields are accepted and make no difference."""

    suffix: str | None = None
    max_tokens: Count | None = None
    stop: Stops = None
    temperature: Temperature = None
    top_p: Share | None = None
    stream: bool | None = None
    inpaint: Extension | None = None


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A gap, and how its fill is to be answered. Lines that are indented less than `indent` end it."""

    request: FillRequest
    stops: tuple[str, ...] = ()
    indent: int = 0
    silent: bool = False  # the context is read, and nothing said
    stream: bool = False
    canvas: bool = False
    logprobs: int | None = None
    usage: bool = False  # the stream ends with it
    fields: tuple[str, ...] = ()  # of the answer; all where there are none


class Token(NamedTuple):
    """Of an answer: what it adds to the text, and its probability."""

    text: str
    probability: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`text` is what is new: all of it, or in a stream what came since the last one. `finish` is None until the last.

    `fill` is what it cost; None in the middle of a stream, and where a stop string or the deadline ended it first.
    """

    text: str
    finish: Finish | None = None
    stop: str = ""  # the string that ended it
    made: tuple[Token, ...] = ()
    canvas: tuple[str | None, ...] | None = None
    fill: Fill | None = None
    queued_ms: float = 0.0

    @property
    def tokens(self) -> int:
        return self.fill.tokens if self.fill else len(self.made)


class Head(msgspec.Struct, frozen=True):
    """Of a response: what each of its events says again."""

    id: str
    created: int
    model: str


class HttpApi(Protocol):
    """How one API writes and reads. `done` comes after a stream's last event."""

    done: bytes = b"data: [DONE]\n\n"

    def requests(self, body: bytes) -> list[CompletionRequest]:
        """One for each choice, in order. Raises BadRequest, msgspec.ValidationError and msgspec.DecodeError."""

    def answer(self, head: Head, asked: list[CompletionRequest], answers: list[Answer]) -> Json: ...

    def event(self, head: Head, asked: CompletionRequest, answer: Answer, index: int) -> Json:
        """One of a stream."""

    def usage(self, head: Head, answers: list[Answer]) -> Json | None:
        """The event after the last of a stream, where there is one."""
        return None


def completion_request(
    extension: Extension | None,
    *,
    prefix: str,
    suffix: str,
    max_tokens: int,
    stops: Stops,
    sampling: Sampling,
    **others: Any,
) -> CompletionRequest:
    more = extension or Extension()
    kept = tuple(filter(None, (stops,) if isinstance(stops, str) else stops or ()))
    fields = {name: getattr(more, name) for name in SAME} | {"sampling": sampling}
    if "\n" in kept:
        fields["max_lines"] = 1
    most = min(max(1, max_tokens), MOST_TOKENS)
    request = FillRequest(prefix=prefix, suffix=suffix, max_tokens=most, **fields)
    return CompletionRequest(request=request, stops=kept, silent=max_tokens == 0, canvas=more.canvas, **others)


def sampling(extension: Extension | None, temperature: float | None, top_p: float | None, seed: int | None) -> Sampling:
    """What the extension says, and the API's own fields where it says nothing. At temperature 0 and where none is said,
    the likeliest is chosen; else what has no seed gets one.
    """
    more = Sampling() if extension is None else extension.sampling
    usual = Sampling(temperature=temperature)
    if more.over(usual).temperature:
        seed = secrets.randbits(63) if seed is None else seed % 2**63
        usual = Sampling(temperature=temperature, top_p=None if top_p is None else max(top_p, LEAST), seed=seed)
    return more.over(usual)


def cost(answer: Answer) -> Json:
    """The object "inpaint" of an answer: the numbers of Fill, and how long the request waited for its turn."""
    fill = answer.fill
    if fill is None:
        return {"tokens": answer.tokens, "queue_ms": round(answer.queued_ms, 3), "complete": answer.finish == "stop"}
    names = ("confidence", "passes", "tokens", "encoded", "reused", "encode_ms", "decode_ms", "complete")
    return {name: getattr(fill, name) for name in names} | {"queue_ms": round(answer.queued_ms, 3)}


def ours(answer: Answer) -> Json:
    """What an answer has beside its API's own fields."""
    if answer.finish:
        return {"inpaint": cost(answer)}
    return {} if answer.canvas is None else {"inpaint": {"canvas": answer.canvas}}


def usage(answers: list[Answer]) -> Json:
    """As OpenAI counts; tokens of the context that the model saw."""
    seen = sum(answer.fill.encoded + answer.fill.reused for answer in answers if answer.fill)
    cached = sum(answer.fill.reused for answer in answers if answer.fill)
    made = sum(answer.tokens for answer in answers)
    return {
        "prompt_tokens": seen,
        "completion_tokens": made,
        "total_tokens": seen + made,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def finished(answer: Answer) -> str | None:
    """OpenAI's reason."""
    return None if answer.finish is None else "length" if answer.finish == "limit" else "stop"


def error(message: str, kind: str, param: str | None = None) -> Json:
    """OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


def json_response(body: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, "application/json")
