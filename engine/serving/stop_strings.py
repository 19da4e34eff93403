"""What of a fill is sent: up to a stop string or a line that is indented less, and nothing that may go again."""

from __future__ import annotations

from typing import NamedTuple

from engine.serving.schema import CompletionRequest


class Cut(NamedTuple):
    """`text` may be sent; where `ended`, no more of the fill is, by the string `stop` where there is one."""

    text: str
    ended: bool = False
    stop: str = ""


def cut(text: str, asked: CompletionRequest, final: bool) -> Cut:
    """Of a text that grows until it is final."""
    if asked.silent:
        return Cut("", ended=final)
    found = [(text.index(stop), stop) for stop in asked.stops if stop in text]
    place, stop = min(found, default=(len(text), ""))
    dedent = _dedent(text[:place], asked.indent) if asked.indent else None
    if dedent is not None:
        return Cut(text[:dedent], ended=True)
    if stop or final:
        return Cut(text[:place], bool(stop), stop)
    if asked.request.min_confidence:
        text = text.rpartition("\n")[0]  # a doubtful line goes again, as a whole
    if asked.indent and "\n" in text[len(text.rstrip()) :]:
        text = text.rstrip()  # the line after it is still to come
    return Cut(text[: len(text) - _begun(text, asked.stops)])


def _begun(text: str, stops: tuple[str, ...]) -> int:
    """How many of the last characters may be the beginning of a stop string."""
    beginnings = (n for stop in stops for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n]))
    return max(beginnings, default=0)


def _dedent(text: str, indent: int) -> int | None:
    """Where the first line after the first ends that has text and is indented less."""
    start = text.find("\n")
    while start != -1:
        line = text[start + 1 :].partition("\n")[0]
        if line.strip() and len(line) - len(line.lstrip()) < indent:
            return start
        start = text.find("\n", start + 1)
    return None
