"""Whether a fill can stand in its place, as far as Python's indentation tells, and what to ask for where it cannot.

A line above deeper ones has to open a block, and one that is asked for on its own must not where nothing deeper
follows. Small models do not look that far, and among the few likeliest lines that begin otherwise there often is the
right one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from engine.contract import Fill, FillRequest
from engine.languages import language_of
from engine.window import after_cursor

LINES = 400  # above the cursor, that are looked at
GOES_ON = ("\\", ",", "=", "(", "[", "{")
UNIT = 4  # blanks
PYTHON = re.compile(r"^ *(async |class |def |elif |else|except|for |if |try|while |with ).*:$", re.MULTILINE)


def stands(prefix: str, suffix: str, language: str, text: str) -> bool:
    """True where it cannot be told, too: in other languages, in brackets and in docstrings."""
    if language != "python" or not text.strip():
        return True
    rest, own_line, following = after_cursor(prefix, suffix)
    *above, head = prefix.split("\n")[-LINES:]
    written = [line for line in (head + text + rest).split("\n") if line.strip()]
    if _is_open("\n".join([*above, *written])):
        return True
    last = _code(written[-1])
    if last.lstrip().startswith("#"):
        return True
    below = next((line for line in following.split("\n") if line.strip()), "")
    if last.endswith(":"):
        return _depth(below) > _depth(last) or not own_line
    return _depth(below) <= _depth(last) or last.endswith(GOES_ON)


def language_at(request: FillRequest) -> str:
    """Of its file, or of its text where that has no name."""
    if request.path:
        return language_of(request.path)
    return "python" if PYTHON.search(request.prefix) else ""


def otherwise(request: FillRequest, texts: Sequence[str]) -> tuple[FillRequest, str | None] | None:
    """What to ask for a fill that begins otherwise than these, and the indentation that comes before it where it is a
    line of its own; None within a line, whose beginning says what it is.
    """
    *above, head = request.prefix.split("\n")
    if head.strip():
        return None
    if not after_cursor(request.prefix, request.suffix)[1]:
        return msgspec.structs.replace(request, others=(*request.others, *texts)), None
    before = next((line for line in reversed(above) if line.strip()), "")
    indent = " " * (_depth(before) + UNIT * _code(before).endswith(":"))
    others = tuple(text.strip() for text in (*request.others, *texts) if _depth(text) == len(indent))
    prefix, suffix = request.prefix + indent, "\n" + request.suffix
    return msgspec.structs.replace(request, prefix=prefix, suffix=suffix, others=others), indent


def put(fill: Fill, indent: str | None) -> Fill:
    """A fill as a line of its own, where it was asked for after an indentation."""
    if indent is None or not fill.text:
        return fill
    text = f"{indent}{fill.text}".rstrip("\n") + "\n"
    pieces = tuple(piece._replace(end=min(len(text), piece.end + len(indent))) for piece in fill.pieces)
    return msgspec.structs.replace(fill, text=text, pieces=pieces)


def _is_open(text: str) -> bool:
    """Whether it ends within brackets or a docstring; what stands in literals counts too."""
    opened = sum(text.count(bracket) for bracket in "([{") - sum(text.count(bracket) for bracket in ")]}")
    return opened > 0 or any(text.count(quotes) % 2 for quotes in ('"""', "'''"))


def _code(line: str) -> str:
    return line.partition(" #")[0].rstrip()


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
