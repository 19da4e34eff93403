"""What the server and its worker processes say to one another: length-prefixed MessagePack on pipes."""

from __future__ import annotations

import asyncio
from typing import BinaryIO, TypeAlias

import msgspec

from engine.contract import Fill, FillRequest, Progress, Sampling

HEAD = 4  # bytes of the length


class Start(msgspec.Struct, tag=True):
    """To a worker: fill. What is committed is told as it comes where it is `watched`; `deadline_ms` counts from now."""

    number: int
    request: msgspec.Raw  # the fields of a FillRequest, see `packed`
    deadline_ms: float | None
    watched: bool


class StopRequest(msgspec.Struct, tag=True):
    """To a worker: nobody waits for that fill any more."""

    number: int


class Ready(msgspec.Struct, tag=True):
    """From a worker: the model is loaded, and so many fills may run at once. `reach` is the engine's."""

    parallel: int
    reach: int


class LoadFailed(msgspec.Struct, tag=True):
    """From a worker: the model cannot be loaded."""

    message: str


class Progressed(msgspec.Struct, tag=True):
    number: int
    progress: Progress


class Filled(msgspec.Struct, tag=True):
    """`beside` are the fills that ran in the worker when this one began."""

    number: int
    fill: Fill
    beside: int


class Stopped(msgspec.Struct, tag=True):
    number: int


class Failed(msgspec.Struct, tag=True):
    """The fill failed; `error` says how, without text of the request. One that was `refused` asked for too much."""

    number: int
    error: str
    refused: bool = False


Command: TypeAlias = Start | StopRequest
Report: TypeAlias = Ready | LoadFailed | Progressed | Filled | Stopped | Failed

commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
reports: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


def packed(request: FillRequest) -> msgspec.Raw:
    """All but what users of a server have no way to send. Raises OverflowError and UnicodeError."""
    sent = set(request.__struct_fields__) - {"files", "indexes", "edits", "deadline_ms"}
    return msgspec.Raw(msgspec.msgpack.encode({name: getattr(request, name) for name in sent}))


def unpacked(start: Start) -> FillRequest:
    fields = msgspec.msgpack.decode(start.request)
    own = {"related": tuple(fields["related"]), "sampling": msgspec.convert(fields["sampling"], Sampling)}
    return FillRequest(**{**fields, **own, "deadline_ms": start.deadline_ms})


def frame(message: Command | Report) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(HEAD, "little") + body


def read(source: BinaryIO) -> bytes | None:
    """The next frame's body; None at the end."""
    head = source.read(HEAD)
    return source.read(int.from_bytes(head, "little")) if len(head) == HEAD else None


async def receive(source: asyncio.StreamReader) -> bytes:
    """The next frame's body. Raises asyncio.IncompleteReadError at the end."""
    return await source.readexactly(int.from_bytes(await source.readexactly(HEAD), "little"))
