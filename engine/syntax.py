"""Whether a text can stand in its place: what a tolerant parser (tree-sitter) says of the lines around it.

The lines around the cursor's are parsed once and kept; a text in its place is then an edit of them, which costs a
fraction of a millisecond. It breaks the place where there are errors that were not there with the cursor's line left
out, however what it leaves open is closed: a suggestion may end in the middle of a statement.

A parser that recovers from errors may take seconds for a long line. So it gets so much text and time, and what is not
told by then is Unknown. While it parses, other threads have their turns.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import NamedTuple

from tree_sitter import Language, Node, Parser, Point, Tree

from engine.tabs import head_of

ABOVE, BELOW = 120, 30  # lines
BYTES, SECONDS = 1 << 15, 0.02  # that are parsed, and that it takes, at most
FILE = 1 << 20  # bytes of a whole file
CHUNK = 1 << 12  # bytes that a parser is given at once
GRAMMARS = {
    "python": ("tree_sitter_python", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "javascriptreact": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "typescriptreact": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "rust": ("tree_sitter_rust", "language"),
}
CLOSERS = {"(": ")", "[": "]", "{": "}"}
# what may follow a suggestion that ends within a statement: before the closers of its brackets, and after them
PYTHON = (
    ("", ""), ("x", ""), ("", ":"), ("x", ":"), (" x", ":"), (" x in x", ":"), (" in x", ":"), (": x", ""), ('"', ""),
    ("'", ""), ('"""', ""), ("'''", ""), (" = x", ""), (" else x", ""), (" import x", ""), ("\ndef x(): pass", ""),
)  # fmt: skip
BRACES = (
    ("", ""), ("x", ""), ("", ";"), ("x", ";"), ("", " {}"), ("x", " {}"), ('"', ";"), ("'", ";"), ("`", ";"),
    (": x", ""), (" = x", ";"), (" x", ""),
)  # fmt: skip


class Around(NamedTuple):
    """The lines before and after the cursor's."""

    language: str
    above: str
    below: str


class Unknown(Exception):
    """What was asked takes more text or time than there is."""


_until: ContextVar[float] = ContextVar("_until", default=math.inf)


@contextlib.contextmanager
def budget(language: str, seconds: float = SECONDS) -> Iterator[None]:
    """So much of the thread's processor time may all take that is parsed in it, but for loading the grammar; then it is
    left by Unknown. That the machine is busy changes nothing.
    """
    if language in GRAMMARS:
        grammar(language)
    token = _until.set(time.thread_time() + seconds)
    try:
        yield
    except RecursionError:
        raise Unknown from None
    finally:
        _until.reset(token)


def late() -> bool:
    return time.thread_time() > _until.get()


def breaks(prefix: str, suffix: str, language: str, text: str) -> bool:
    """Whether the text makes errors in its place; never in a language without a grammar here. The language is LSP's
    name of it. Raises Unknown.
    """
    if language not in GRAMMARS:
        return False
    around, (rest, _, _) = around_of(prefix, suffix, language), suffix.partition("\n")
    line = head_of(prefix) + text + rest
    tolerated, opened = errors(lines_around(around).root_node), closing(line)
    endings = ((PYTHON if language == "python" else BRACES) if not rest.strip() else ())[1:]
    return all(parsed(around, line + within + opened + after) > tolerated for within, after in (("", ""), *endings))


def around_of(prefix: str, suffix: str, language: str) -> Around:
    """Whole lines, some below; those above begin with one that is not indented, so as not to begin within a
    statement.
    """
    above = prefix[: len(prefix) - len(head_of(prefix))].split("\n")[-ABOVE - 1 :]
    first = next((n for n, line in enumerate(above) if line[:1].strip() and line[:1] not in ")]}"), 0)
    below = suffix.partition("\n")[2].split("\n")
    return Around(language, "\n".join(above[first:]), "\n".join(["", *below[:BELOW]]))


@lru_cache(maxsize=8)
def lines_around(around: Around) -> Tree:
    return parse(around.language, f"{around.above}{around.below}".encode())


@lru_cache(maxsize=len(GRAMMARS))
def grammar(language: str) -> Language:
    module, function = GRAMMARS[language]
    return Language(getattr(importlib.import_module(module), function)())


def parse(language: str, text: bytes, edited: Tree | None = None, most: int = BYTES) -> Tree:
    """The tree of a text, which is made faster from that of another text, edited. Raises Unknown."""
    if len(text) > most or late():
        raise Unknown
    parser = partial(  # of its own, for this is done in several threads
        Parser(grammar(language)).parse, lambda at, _: text[at : at + CHUNK], progress_callback=lambda *_: late()
    )
    try:
        return parser() if edited is None else parser(old_tree=edited)
    except ValueError:  # it was stopped
        raise Unknown from None


def parsed(around: Around, line: str) -> int:
    """How many errors there are with this line among those around."""
    tree = lines_around(around).copy()
    start, above = len(around.above.encode()), around.above
    inserted = line.encode()
    at = Point(above.count("\n"), len(above[above.rfind("\n") + 1 :].encode()))
    rows, last = inserted.count(b"\n"), len(inserted) - inserted.rfind(b"\n") - 1
    end = Point(at.row + rows, last if rows else at.column + len(inserted))
    tree.edit(start, start, start + len(inserted), at, at, end)
    text = around.above.encode() + inserted + around.below.encode()
    return errors(parse(around.language, text, tree).root_node)


def errors(node: Node) -> int:
    """How many there are; where all is in one already, nothing can be told. Raises Unknown."""
    if late():
        raise Unknown
    if not node.has_error:
        return 0
    return 1 if node.is_error or node.is_missing else sum(map(errors, node.children))


def errors_of(text: str, language: str) -> int:
    """How many there are in a whole file, which takes its time. Raises Unknown."""
    return errors(parse(language, text.encode(), most=FILE).root_node)


def closing(text: str) -> str:
    """The closers of the brackets that a text leaves open; brackets in literals count too."""
    opened: list[str] = []
    for character in text:
        if character in CLOSERS:
            opened.append(CLOSERS[character])
        elif opened and character == opened[-1]:
            opened.pop()
    return "".join(reversed(opened))
