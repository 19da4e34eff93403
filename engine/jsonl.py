"""`python -m engine fill --jsonl`: one request a line in, one answer a line out, in constant memory."""

from __future__ import annotations

import threading
from typing import BinaryIO

import msgspec

from engine import Engine, FillRequest
from engine.contract import Sampling

TOLD = ("text", "confidence", "model", "passes", "tokens", "encode_ms", "decode_ms")  # of a fill


class Line(msgspec.Struct):
    id: str | int
    prefix: str
    suffix: str
    path: str = ""
    max_lines: int | None = None
    sampling: Sampling = Sampling()


class Identified(msgspec.Struct):
    """What can still be said of a bad line."""

    id: str | int | None = None


def fill_lines(
    source: BinaryIO,
    target: BinaryIO,
    engine: Engine,
    max_lines: int | None,
    steps: int = 1,
) -> None:
    """Answer each line as it comes; a bad line gets an error of its own and the rest go on. What a line says of a limit
    or option counts for it.
    """
    usual = FillRequest(prefix="", max_lines=max_lines, max_tokens=256, steps=steps)
    for line in source:
        if line.strip():
            target.write(msgspec.json.encode(_answer(engine, line, usual)) + b"\n")
            target.flush()


def _answer(engine: Engine, line: bytes, usual: FillRequest) -> dict[str, object]:
    try:
        asked = msgspec.json.decode(line, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return {"id": _id(line), "error": str(error)}
    request = msgspec.structs.replace(
        usual,
        prefix=asked.prefix,
        suffix=asked.suffix,
        path=asked.path,
        max_lines=usual.max_lines if asked.max_lines is None else asked.max_lines,
        sampling=asked.sampling,
    )
    try:
        fill = engine.fill(request, threading.Event())
    except Exception as error:  # whatever it is, the other lines still count
        return {"id": asked.id, "error": f"{type(error).__name__}: {error}"}
    return {"id": asked.id, **{name: getattr(fill, name) for name in TOLD}}


def _id(line: bytes) -> str | int | None:
    try:
        return msgspec.json.decode(line, type=Identified).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
