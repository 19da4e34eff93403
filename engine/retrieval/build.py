"""Brings an index up to date, in a process of its own: `python -m engine.retrieval.build`.

It reads an `IndexOrder` as one line of JSON on standard input and ends when that is closed: its reader has gone then.
It prints `IndexProgress` as lines of JSON, and the last one says that the index is `done` or what went wrong (`error`).

Segments whose files are mostly unchanged stay; changed and new files, and those of small segments, go into new ones.
Segments that no manifest has named for a day are deleted: until then another server may be using them. One with the
text of a file that may not be read any more is deleted at once, and so are indexes of folders that are gone, or that
nobody has opened for a month.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import platformdirs

from engine.retrieval.files import IndexedFile, IndexLimits, list_files, read_text
from engine.retrieval.index import MANIFEST, Manifest, SegmentInfo, open_part, read_manifest
from engine.retrieval.segment import Segment

BUILD = (sys.executable, "-m", "engine.retrieval.build")  # the process, which takes an order and tells of its progress
SEGMENT = 24 << 20  # bytes of text; sorting takes seven times as many bytes of memory
SMALL = 4 << 20  # a smaller segment is made again with the next files
UNUSED, FORGOTTEN = 24 * 3600, 30 * 24 * 3600  # seconds: of a segment, and of an index
EVERY = 0.2  # seconds between lines of progress


class IndexOrder(msgspec.Struct):
    """What to index, and where to keep it. `globs` are the user's, of what to leave alone; `anew` forgets what there
    is.
    """

    folders: list[str]
    store: str
    globs: list[str] = []
    limits: IndexLimits = IndexLimits()
    anew: bool = False


class IndexProgress(msgspec.Struct, omit_defaults=True):
    """Files read of those that are to be; `done` where the index stands, `error` where it does not."""

    read: int = 0
    of: int = 0
    done: bool = False
    error: str = ""


def store_of(folders: list[str]) -> Path:
    """The folder of the user's cache for an index of these folders."""
    name = hashlib.sha256("\n".join(folders).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return stores() / name


def stores() -> Path:
    """Where all indexes of this user are."""
    return Path(platformdirs.user_cache_dir("inpaint", appauthor=False)) / "index"


def build(order: IndexOrder, tell: Callable[[IndexProgress], None] = lambda _: None) -> None:
    """Bring the index of an order up to date. Raises OSError where it cannot be written."""
    store = Path(order.store)
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    old = Manifest() if order.anew else _sound(store)
    listing = list_files(order.folders, tuple(order.globs), order.limits)
    now = set(listing.files)
    no_text = [file for file in old.no_text if file in now]
    parts, listed = [_without(part, now) for part in old.parts], {file.path for file in now}
    sound = [part for part in parts if not _tells(part, listed)]
    telling, parts = len(sound) < len(parts), [part for part in sound if _alive(part)]
    if new := now.difference(no_text, *map(_alive, parts)):
        parts = [part for part in parts if part.bytes >= SMALL and 2 * _size(_alive(part)) >= part.bytes]
        new = now.difference(no_text, *map(_alive, parts))
        for part, binary in _parts(sorted(new, key=lambda file: file.path), store, tell):
            parts += [part] if part.files else []
            no_text += binary
    manifest = Manifest(folders=order.folders, parts=parts, no_text=no_text, left_out=listing.left_out)
    _write(store / MANIFEST, msgspec.json.encode(manifest))
    _tidy(store, {part.name for part in parts}, at_once=telling)


def _sound(store: Path) -> Manifest:
    """What is there, less the segments that cannot be opened."""
    try:
        manifest = read_manifest(store)
    except (OSError, ValueError):
        return Manifest()
    manifest.parts = [part for part in manifest.parts if _is_sound(store, part)]
    return manifest


def _is_sound(store: Path, part: SegmentInfo) -> bool:
    try:
        open_part(store, part)
    except (OSError, ValueError):
        return False
    return True


def _without(part: SegmentInfo, now: set[IndexedFile]) -> SegmentInfo:
    """The part, with those files dead that are not there any more as they were."""
    dead = {file.path for file in part.files if file not in now}
    return msgspec.structs.replace(part, dead=sorted(dead.union(part.dead)))


def _alive(part: SegmentInfo) -> set[IndexedFile]:
    dead = set(part.dead)
    return {file for file in part.files if file.path not in dead}


def _tells(part: SegmentInfo, listed: set[str]) -> bool:
    """Whether it has the text of a file that is there, but is left out now."""
    return any(path not in listed and os.path.lexists(path) for path in part.dead)


def _size(files: set[IndexedFile]) -> int:
    return sum(file.size for file in files)


def _parts(
    files: list[IndexedFile], store: Path, tell: Callable[[IndexProgress], None]
) -> Iterator[tuple[SegmentInfo, list[IndexedFile]]]:
    """New segments of the files, and those of them that are no text."""
    texts, binary, told = dict[IndexedFile, bytes](), list[IndexedFile](), 0.0
    for count, file in enumerate(files, 1):
        text = read_text(file.path)
        if text is None:
            binary.append(file)
        else:
            texts[file] = text.encode("utf-8", "replace")
        if time.monotonic() > told + EVERY:
            tell(IndexProgress(count, len(files)))
            told = time.monotonic()
        if count == len(files) or sum(map(len, texts.values())) >= SEGMENT:
            yield _part(texts, store), binary
            texts, binary = {}, []


def _part(texts: dict[IndexedFile, bytes], store: Path) -> SegmentInfo:
    """Sort and write a segment. Its name says what it is of, so that writing it twice at once does no harm."""
    if not texts:
        return SegmentInfo("", [], [], 0)
    name = hashlib.sha256(msgspec.json.encode(list(texts))).hexdigest()[:24]
    segment = Segment.of({file.path: text for file, text in texts.items()})
    segment.save(store / name)
    by_path = {file.path: file for file in texts}
    files = [by_path[path] for path in segment.files]
    return SegmentInfo(name, files, segment.starts, sum(map(len, texts.values())))


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.new")
    temporary.write_bytes(content)
    temporary.replace(path)


def _tidy(store: Path, used: set[str], at_once: bool) -> None:
    """Mark the used segments as such, delete those not used for long, or all the others `at_once`. On Windows what is
    mapped stays for next time.
    """
    for path in store.iterdir():
        with contextlib.suppress(OSError):
            if path.suffix == ".npy" and path.name.partition(".")[0] in used:
                os.utime(path)
            elif path.name != MANIFEST and (at_once or path.stat().st_mtime < time.time() - UNUSED):
                path.unlink()


def expire(root: Path) -> None:
    """Delete the indexes of folders that are gone, and those that nobody has opened for long."""
    for manifest in root.glob(f"*/{MANIFEST}"):
        with contextlib.suppress(OSError):
            old = manifest.stat().st_mtime < time.time() - FORGOTTEN
            if old or not any(map(os.path.exists, _folders(manifest.parent))):
                shutil.rmtree(manifest.parent, ignore_errors=True)


def _folders(store: Path) -> list[str]:
    """That an index is of; none where that cannot be told any more."""
    try:
        return read_manifest(store).folders
    except ValueError:
        return []


def main() -> int:
    """Returns the exit code: 1 where the index could not be made, which the last line says."""
    os.umask(0o077)
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)  # after whatever the user waits for
    tell = msgspec.json.Encoder()

    def say(progress: IndexProgress) -> None:
        sys.stdout.buffer.write(tell.encode(progress) + b"\n")
        sys.stdout.buffer.flush()

    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as orders:
        order = msgspec.json.decode(orders.readline(), type=IndexOrder)
    threading.Thread(target=_leave_with_reader, daemon=True).start()
    try:
        build(order, say)
        expire(stores())
    except OSError as error:
        say(IndexProgress(error=f"the index cannot be kept in {order.store} ({error.strerror})"))
        return 1
    say(IndexProgress(done=True))
    return 0


def _leave_with_reader() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not the buffered stream, whose lock the interpreter wants as it ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
