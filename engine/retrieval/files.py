"""Which files of a folder may be read, and their text.

Left out, and counted by reason: what `.gitignore` and `.inpaintignore` name (the rules of the nearest folder decide, as
git's do), what the caller's patterns name (secrets), names that begin with a dot, virtual environments and other
people's code, links (a circle of them would never end, and they may lead out of the folder), what is too large or no
text, and what is more than the most that is kept. The files nearest to the folder's top are kept first.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from pathspec import GitIgnoreSpec

IGNORE_FILES = (".gitignore", ".inpaintignore")
OTHERS_CODE = frozenset({"node_modules", "bower_components", "site-packages", "__pycache__", "CVS"})
# written by machines, or no text that anybody types again
NOT_TYPED = (
    "*.lock",
    "*-lock.json",
    "*-lock.yaml",
    "*.min.js",
    "*.min.css",
    "*.map",
    "*.svg",
    "*.csv",
    "*.tsv",
    "*.log",
)
LARGEST_FILE = 1 << 20  # bytes
LONGEST_LINES = 400  # bytes a line on average: above, the file was not written by hand
CHARSETS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class Limits(msgspec.Struct, frozen=True):
    """The most that is kept of a workspace."""

    files: int = 20_000
    bytes: int = 128 << 20


DEFAULT = Limits()


class Found(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A file that may be read: absolute path with slashes, bytes, time of the last change in nanoseconds."""

    path: str
    size: int
    changed: int


class Listing(msgspec.Struct):
    """The files, and how many others there are by the reason for leaving them out."""

    files: list[Found]
    left_out: Counter[str]


def list_files(folders: Iterable[str], exclude: tuple[str, ...] = (), limits: Limits = DEFAULT) -> Listing:
    """The files of the folders; patterns of `exclude` are gitignore's, without case. Folders that vanish are empty."""
    listing, kept = Listing([], Counter()), 0
    unwanted = GitIgnoreSpec.from_lines(pattern.lower() for pattern in (*exclude, *NOT_TYPED))
    for folder in folders:
        for found in _walk(Path(folder).absolute(), unwanted, listing.left_out):
            if found.size > LARGEST_FILE:
                listing.left_out["too large"] += 1
            elif len(listing.files) == limits.files or kept + found.size > limits.bytes:
                listing.left_out["beyond the limit"] += 1
            else:
                listing.files.append(found)
                kept += found.size
    return listing


def _walk(top: Path, unwanted: GitIgnoreSpec, left_out: Counter[str]) -> Iterator[Found]:
    """Files breadth first, by name. Rules are (folder, spec) pairs, the nearest first."""
    todo: deque[tuple[str, list[tuple[str, GitIgnoreSpec]]]] = deque([(top.as_posix(), [])])
    while todo:
        folder, rules = todo.popleft()
        rules = [*_rules(folder), *rules]
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            left_out["unreadable"] += 1
            continue
        for entry in entries:
            path, directory = f"{folder.rstrip('/')}/{entry.name}", False
            with contextlib.suppress(OSError):
                directory = entry.is_dir(follow_symlinks=False)
            relative = path[len(top.as_posix()) :].lstrip("/")
            reason = _reason(path, relative, entry, directory, rules, unwanted)
            if reason:
                left_out[reason] += 1
            elif directory:
                todo.append((path, rules))
            else:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # it has vanished
                if stat.S_ISREG(status.st_mode):
                    yield Found(path, status.st_size, status.st_mtime_ns)


def _reason(
    path: str,
    relative: str,
    entry: os.DirEntry[str],
    directory: bool,
    rules: list[tuple[str, GitIgnoreSpec]],
    unwanted: GitIgnoreSpec,
) -> str:
    """Why to leave an entry out; empty where it may be read."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_symlink():
        return "links"
    if directory and (entry.name in OTHERS_CODE or os.path.exists(f"{path}/pyvenv.cfg")):
        return "other people's"
    end = "/" if directory else ""
    if any(unwanted.match_file(name.lower() + end) for name in (relative, path.lstrip("/"))):
        return "excluded"
    for folder, spec in rules:
        decision = spec.check_file(path[len(folder) :].lstrip("/") + end).include
        if decision is not None:
            return "ignored" if decision else ""
    return ""


def _rules(folder: str) -> list[tuple[str, GitIgnoreSpec]]:
    """A folder's own rules, those of `.inpaintignore` last, so that they decide."""
    lines: list[str] = []
    for name in IGNORE_FILES:
        with contextlib.suppress(OSError), open(f"{folder}/{name}", encoding="utf-8", errors="replace") as file:
            lines += file.read(LARGEST_FILE).splitlines()
    if not lines:
        return []
    try:
        return [(folder, GitIgnoreSpec.from_lines(lines))]
    except ValueError:  # one bad pattern; the others count
        return [(folder, GitIgnoreSpec.from_lines(filter(_is_rule, lines)))]


def _is_rule(line: str) -> bool:
    try:
        return bool(GitIgnoreSpec.from_lines([line]).patterns)
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
