"""Which files of a folder may be read, and their text.

Left out, and counted by reason: what `.gitignore` names (the rules of the nearest folder decide, as git's do), what
may not be read at all (see `exclusions`), names that begin with a dot or are no UTF-8, virtual environments and other
people's code, links (a circle of them would never end, and they may lead out of the folder), what is too large or not
typed by hand, and what is more than the most that is kept. The files nearest to the folder's top are kept first.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

import msgspec
from pathspec import GitIgnoreSpec

from engine.retrieval.exclusions import LARGEST, may_read, rules_of

IGNORE_FILE = ".gitignore"
OTHERS_CODE = frozenset({"node_modules", "bower_components", "site-packages", "__pycache__", "CVS"})
# by people, that is
NOT_TYPED = re.compile(r".*(\.lock|-lock\.(json|yaml)|\.min\.(js|css)|\.map|\.svg|\.csv|\.tsv|\.log)")
LARGEST_FILE = 1 << 20  # bytes
LONGEST_LINES = 400  # bytes a line on average: above, the file was not written by hand
CHARSETS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class IndexLimits(msgspec.Struct, frozen=True):
    """The most that is kept of a workspace."""

    files: int = 20_000
    bytes: int = 128 << 20


DEFAULT = IndexLimits()


class IndexedFile(msgspec.Struct, frozen=True, array_like=True):
    """A file as it is or was when it was read: absolute path with slashes, bytes, time of the last change in
    nanoseconds.
    """

    path: str
    size: int
    changed: int


class GitignoreRules(NamedTuple):
    """What the ignore file of a folder says of what is below."""

    folder: str
    spec: GitIgnoreSpec


class FileListing(msgspec.Struct):
    """The files, and how many others there are by the reason for leaving them out."""

    files: list[IndexedFile]
    left_out: Counter[str]


def list_files(folders: Iterable[str], globs: tuple[str, ...] = (), limits: IndexLimits = DEFAULT) -> FileListing:
    """The files of the folders; `globs` are the user's, of what to leave alone. Folders that vanish are empty. One of
    the folders may be a single file.
    """
    listing, kept = FileListing([], Counter()), 0
    for folder in folders:
        top = Path(folder).absolute().as_posix()
        for found in (_single if os.path.isfile(top) else _walk)(top, listing.left_out):
            if len(listing.files) == limits.files or kept + found.size > limits.bytes:
                listing.left_out["beyond the limit"] += 1
            elif not may_read(PurePath(found.path), globs):
                listing.left_out["excluded"] += 1
            else:
                listing.files.append(found)
                kept += found.size
    return listing


def _single(path: str, left_out: Counter[str]) -> Iterator[IndexedFile]:
    """A file by itself."""
    with contextlib.suppress(FileNotFoundError):  # it has vanished
        status = os.stat(path)
        if reason := _reason(path, status, []):
            left_out[reason] += 1
        else:
            yield IndexedFile(path, status.st_size, status.st_mtime_ns)


def _walk(top: str, left_out: Counter[str]) -> Iterator[IndexedFile]:
    """Files breadth first, by name, with the rules above each folder, the nearest first."""
    todo: deque[tuple[str, list[GitignoreRules]]] = deque([(top, [])])
    while todo:
        folder, rules = todo.popleft()
        rules = [*_rules(folder), *rules]
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            left_out["unreadable"] += 1
            continue
        for entry in entries:
            path = f"{folder.rstrip('/')}/{entry.name}"
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # it has vanished
            reason = _reason(path, status, rules)
            if reason:
                left_out[reason] += 1
            elif stat.S_ISDIR(status.st_mode):
                todo.append((path, rules))
            else:
                yield IndexedFile(path, status.st_size, status.st_mtime_ns)


def _reason(path: str, status: os.stat_result, rules: list[GitignoreRules]) -> str:
    """Why to leave a file or folder out; empty where it may be read."""
    name, directory = path.rpartition("/")[2], stat.S_ISDIR(status.st_mode)
    if name.startswith("."):
        return "hidden"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "oddly named"  # bytes that are no UTF-8: no editor could open it by a URI
    if stat.S_ISLNK(status.st_mode):
        return "links"
    if directory and (name in OTHERS_CODE or os.path.exists(f"{path}/pyvenv.cfg")):
        return "other people's"
    for rule in rules:
        decision = rule.spec.check_file(path[len(rule.folder) :].lstrip("/") + "/" * directory).include
        if decision is not None:
            if decision:
                return "ignored"
            break
    if directory:
        return ""
    if status.st_size > LARGEST_FILE:
        return "too large"
    typed = stat.S_ISREG(status.st_mode) and NOT_TYPED.fullmatch(name.lower()) is None
    return "" if typed else "not typed"


def _rules(folder: str) -> list[GitignoreRules]:
    """A folder's own."""
    path = f"{folder}/{IGNORE_FILE}"
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return []  # a pipe would never end
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(LARGEST + 1).splitlines()
    except OSError:
        return []
    try:
        return [GitignoreRules(folder, rules_of(filter(_is_rule, lines)))]
    except ValueError:  # they are too many: what they would leave out is not known
        return [GitignoreRules(folder, rules_of("*"))]


def _is_rule(line: str) -> bool:
    try:
        return bool(rules_of([line]).patterns)
    except ValueError:
        return False


def read_text(path: str) -> str | None:
    """A file's text with `\\n` line ends; None where it is none, unreadable, or was not written by hand."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError:
        return None
    charset = next((name for mark, name in CHARSETS if content.startswith(mark)), "utf-8")
    if (charset != "utf-16" and b"\0" in content) or len(content) > LONGEST_LINES * (content.count(b"\n") + 1):
        return None
    text = content.decode(charset, "replace").replace("\0", "\ufffd")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
