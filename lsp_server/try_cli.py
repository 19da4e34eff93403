"""`--try FILE:LINE:COLUMN`: a completion as ghost text in its place, for a terminal.

It goes the way of an editor's explicit request, less the protocol: buffer, gap, engine, postprocess.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from engine import EngineError, Fill, FillRequest
from engine.contract import Progress, Watch
from engine.languages import language_of
from engine.plain import plain
from engine.retrieval.build import IndexOrder, build, store_of
from engine.retrieval.index import Index
from lsp_server.buffers import Buffer, Point
from lsp_server.completer import LoadEngine
from lsp_server.cursor import CursorContext, context_at, fill_request, source_location
from lsp_server.postprocess import postprocess
from lsp_server.settings import Settings

LINES_AROUND = 6
REPOSITORY = ".git"
MASK, NEWLINE = "▒", "⏎"
GREY, PLAIN = ("\033[90m", "\033[0m"), ("{+", "+}")  # the plain marks are those of a word diff


class PlaceError(Exception):
    """The place cannot be shown; the message says in one sentence what to do about it."""


def try_place(where: str, settings: Settings, load_engine: LoadEngine, watch: bool = False) -> int:
    """Show the completion at FILE:LINE:COLUMN on stdout, and before it each pass where somebody wants to `watch`; where
    it cannot, a sentence on stderr and exit code 2.
    """
    try:
        path, buffer, place = read_place(where)
        gap = context_at(buffer, place, language=language_of(path.name))
        request = request_at(gap, path, settings)
        passes = list[Progress]()
        fill, milliseconds = timed_fill(request, settings, load_engine, passes.append if watch else None)
    except (PlaceError, EngineError) as error:
        print(f"inpaint: {error}", file=sys.stderr)
        return 2
    text = postprocess(fill, gap)
    marks = GREY if sys.stdout.isatty() and "NO_COLOR" not in os.environ else PLAIN
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # a Windows console may lack a character of the file
    for each in passes:
        print(canvas_line(each))
    print("\n".join(render(gap, text, place.line + 1, marks)))
    found = "" if text else "nothing worth showing here: "
    sure = fill.before(len(text)).confidence if text else fill.confidence
    cost = f"{milliseconds:.0f} ms, {fill.passes} passes, {fill.tokens} tokens, confidence {sure:.2f}"
    print(f"\n{found}{cost}, {fill.model}" if fill.model else f"\n{found}{cost}")
    if text and fill.source is not None:
        print(f"as in {source_location(fill.source, request, place.line)}")
    return 0


def read_place(where: str) -> tuple[Path, Buffer, Point]:
    """The file, its text and the place of a FILE:LINE:COLUMN, which count from 1; clamped to the text.

    Raises PlaceError.
    """
    try:
        name, line, column = where.rsplit(":", 2)  # from the right, for a file may begin with C:
        position = int(line) - 1, int(column) - 1
    except ValueError:
        raise PlaceError(f'"{where}" is not a place: give FILE:LINE:COLUMN, such as app.py:12:5.') from None
    path = Path(name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PlaceError(f'"{name}" cannot be read ({error.strerror}): give the path of a text file.') from None
    if b"\0" in content:
        raise PlaceError(f'"{name}" is a binary file: give the path of a text file.')
    buffer = Buffer(content.decode("utf-8-sig", errors="replace"), "utf-32")
    return path, buffer, buffer.point(*position)


def request_at(gap: CursorContext, path: Path, settings: Settings) -> FillRequest:
    """What to ask the engine, with the repository that the file is in to copy from."""
    file, indexes = path.absolute().as_posix(), (workspace_index(path),) if settings.workspace else ()
    request = fill_request(gap, path.name, (), settings, invoked=True, files=(file,), indexes=indexes)
    assert request is not None  # an explicit request is always worth it
    return request


def timed_fill(
    request: FillRequest, settings: Settings, load_engine: LoadEngine, watch: Watch | None
) -> tuple[Fill, float]:
    """The fill and how many milliseconds it took, in a file that has been open for a while: loaded and read. Raises
    EngineError.
    """
    engine = load_engine(settings.model, settings.device)
    engine.read(msgspec.structs.replace(request, deadline_ms=None), threading.Event())
    started = time.perf_counter()
    fill = engine.fill(request, threading.Event(), watch)
    return fill, (time.perf_counter() - started) * 1000


def canvas_line(progress: Progress) -> str:
    """What is verified, and between brackets the canvas: what is denoised, and masks."""
    canvas = "".join(MASK if token is None else token for token in progress.canvas)
    line = progress.text + (f"[{canvas}]" if canvas else "")
    return line.replace("\n", NEWLINE)


def workspace_index(path: Path) -> Index:
    """The index of the repository that a file is in, brought up to date; an empty one where it is in none."""
    folder = next((each for each in path.absolute().parents if (each / REPOSITORY).exists()), None)
    if folder is None:
        return Index()
    store = store_of([str(folder)])
    with contextlib.suppress(OSError):  # it cannot be kept
        build(IndexOrder([str(folder)], str(store)))
    return Index.open(store)


def render(gap: CursorContext, text: str, number: int, marks: tuple[str, str]) -> list[str]:
    """The numbered lines around the cursor's, whose number is given, with the text between marks in its place."""
    gap = CursorContext(plain(gap.prefix), plain(gap.suffix))  # a terminal would obey the file
    above = gap.prefix.split("\n")[-LINES_AROUND - 1 : -1]
    ghost = gap.head + mark(text, marks) + gap.rest
    below = gap.following.split("\n")[:LINES_AROUND]
    first, *more = ghost.split("\n")
    numbered = [*zip(range(number - len(above), number), above, strict=True), (number, first)]
    rows = [f"{n:>5} | {line}" for n, line in numbered] + [f"{'':>5} | {line}" for line in more]
    return rows + [f"{n:>5} | {line}" for n, line in enumerate(below, number + 1)]


def mark(text: str, marks: tuple[str, str]) -> str:
    """The text between marks; colour is switched on anew for every line, since a pager forgets it."""
    opening, closing = marks
    if not text:
        return ""
    return opening + (text.replace("\n", f"{closing}\n{opening}") if marks is GREY else text) + closing
