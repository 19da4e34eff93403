"""The languages that the embedded models are trained on: their files, their comments, their share; and their names."""

from __future__ import annotations

from pathlib import PurePosixPath

import msgspec


class Language(msgspec.Struct, frozen=True):
    """`comments` are what a line of comment starts with; `share` is the part of training that is drawn from it."""

    suffixes: frozenset[str]
    comments: tuple[str, ...]
    share: float


LANGUAGES = {
    "python": Language(frozenset((".py",)), ("#",), 0.65),
    "javascript": Language(
        frozenset((".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts")), ("//", "/*", "*"), 0.20
    ),
    "go": Language(frozenset((".go",)), ("//", "/*", "*"), 0.08),
    "rust": Language(frozenset((".rs",)), ("//", "/*", "*"), 0.07),
}


def is_source(path: str, language: str) -> bool:
    """Whether a path is one of a language's source files."""
    return PurePosixPath(path).suffix in LANGUAGES[language].suffixes


NAMES = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".jsx": "javascriptreact", ".mjs": "javascript",
    ".cjs": "javascript", ".ts": "typescript", ".tsx": "typescriptreact", ".mts": "typescript", ".cts": "typescript",
    ".go": "go", ".rs": "rust",
}  # fmt: skip


ALIASES = {"golang": ".go"}  # the others are a file's ending


def language_of_id(identifier: str, path: str) -> str:
    """A language's name by the Language Server Protocol, where an editor calls it otherwise (`javascript.jsx`,
    `python.django`, `rs`): what its parts say, or else the ending of the file; of other languages, the name itself.
    """
    if identifier in NAMES.values():
        return identifier
    first, _, last = identifier.partition(".")
    parts = (NAMES.get(ALIASES.get(part, f".{part}")) for part in (last, first))
    name = first if first in NAMES.values() else ""
    return next(filter(None, parts), None) or name or language_of(path) or identifier


def language_of(path: str) -> str:
    """The name that the Language Server Protocol has for a file's language; empty where it is none of these."""
    return NAMES.get(PurePosixPath(path).suffix, "")
