"""How many errors a tolerant parser (tree-sitter) finds in a text.

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
from functools import lru_cache

from tree_sitter import Language, Node, Parser

FILE = 1 << 20  # bytes
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


class Unknown(Exception):
    """What was asked takes more text or time than there is."""


_until: ContextVar[float] = ContextVar("_until", default=math.inf)


@contextlib.contextmanager
def budget(language: str, seconds: float) -> Iterator[None]:
    """So much of the thread's processor time may all take that is parsed in it, but for loading the grammar; then it is
    left by Unknown. That the machine is busy changes nothing.
    """
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


@lru_cache(maxsize=len(GRAMMARS))
def grammar(language: str) -> Language:
    module, function = GRAMMARS[language]
    return Language(getattr(importlib.import_module(module), function)())


def errors_of(text: str, language: str) -> int:
    """How many there are in a whole file, which takes its time. Raises Unknown."""
    data = text.encode()
    if len(data) > FILE or late():
        raise Unknown
    parser = Parser(grammar(language))  # of its own, for this is done in several threads
    try:
        tree = parser.parse(lambda at, _: data[at : at + CHUNK], progress_callback=lambda *_: late())
    except ValueError:  # it was stopped
        raise Unknown from None
    return errors(tree.root_node)


def errors(node: Node) -> int:
    """How many there are; where all is in one already, nothing can be told. Raises Unknown."""
    if late():
        raise Unknown
    if not node.has_error:
        return 0
    return 1 if node.is_error or node.is_missing else sum(map(errors, node.children))
