"""The index of a workspace: segments that never change, opened from a folder of the user's cache.

A manifest names the segments and says what each file was when it was read. Where files have changed, `build` (its own
process) writes new segments with them and a new manifest; the old segments stay, less the files that changed, as in
Lucene. So a reader opens a manifest, looks things up, and opens the next one; nothing is ever written in place.
"""

from __future__ import annotations

import time
from pathlib import Path, PurePath

import msgspec

from engine.retrieval.exclusions import may_read
from engine.retrieval.files import IndexedFile
from engine.retrieval.segment import AHEAD, Segment

VERSION = 1
MANIFEST = "manifest.json"
MOST_SOUGHT = 256  # characters: more than a match and a word
BEFORE = 400  # characters of a match's own surroundings
MOMENT = 0.2  # seconds for which it is known what may be read


class SegmentInfo(msgspec.Struct):
    """A segment's name, its files in its order with each text's first index; `dead` are files that are gone, or in a
    later segment.
    """

    name: str
    files: list[IndexedFile]
    starts: list[int]
    bytes: int
    dead: list[str] = []


class Manifest(msgspec.Struct):
    """What is known of some folders; files that are no text, and how many others are left out, by the reason."""

    version: int = VERSION
    folders: list[str] = []
    parts: list[SegmentInfo] = []
    no_text: list[IndexedFile] = []
    left_out: dict[str, int] = {}


class IndexMatch(msgspec.Struct, frozen=True):
    """A place of the workspace that ends like the text that was asked about: how many characters of it, and what
    follows there, to the end of the window or of the file.
    """

    length: int
    after: str
    path: str
    segment: int
    place: int


class Index:
    """A snapshot: may be read from any thread, and never changes. `installed` are other people's packages. What may not
    be read any more is not found, though it was indexed; `globs` are the user's, see exclusions.
    """

    def __init__(
        self,
        segments: list[Segment] | None = None,
        manifest: Manifest | None = None,
        installed: bool = False,
        globs: tuple[str, ...] = (),
    ) -> None:
        self.manifest, self.installed, self.globs = manifest or Manifest(), installed, globs
        self._allowed, self._asked = dict[str, bool](), 0.0
        self.segments = segments or []
        self._dead = [frozenset(part.dead) for part in self.manifest.parts]

    @classmethod
    def of(cls, texts: dict[str, bytes]) -> Index:
        """Of texts by path, kept nowhere."""
        segment = Segment.of(texts)
        files = [IndexedFile(path, len(texts[path]), 0) for path in segment.files]
        part = SegmentInfo("", files, segment.starts, sum(map(len, texts.values())))
        return cls([segment], Manifest(parts=[part]))

    @classmethod
    def open(cls, store: Path, installed: bool = False, globs: tuple[str, ...] = ()) -> Index:
        """What `build` wrote there; an empty index where that is missing, damaged or of another version."""
        try:
            manifest = read_manifest(store)
            return cls([open_part(store, part) for part in manifest.parts], manifest, installed, globs)
        except (OSError, ValueError):
            return cls()

    def __len__(self) -> int:
        """How many files it knows."""
        return sum(len(part.files) - len(part.dead) for part in self.manifest.parts)

    def matches(
        self, written: str, hidden: frozenset[str] = frozenset(), most: int = 16, suffix: str = ""
    ) -> list[IndexMatch]:
        """Places that end like `written`, the longest first, of these the ones in files with this suffix; none in files
        that are `hidden`, whose newer text the caller has.
        """
        sought = written[-MOST_SOUGHT:].encode("utf-8", "replace")
        places = [
            (length, one.file(place), number, place)
            for number, one in enumerate(self.segments)
            for length, place in one.matches(sought, most)
        ]
        places.sort(key=lambda each: (-each[0], not each[1].endswith(suffix)))
        matches = list[IndexMatch]()
        for length, path, number, place in places:
            if path not in hidden and path not in self._dead[number] and self._allows(path):
                after = self.segments[number].after(place).decode("utf-8", "ignore")
                matches.append(IndexMatch(length, after, path, number, place))
                if len(matches) == most:
                    break
        return matches

    def _allows(self, path: str) -> bool:
        """Whether the file may be read now."""
        if time.monotonic() > self._asked + MOMENT:
            self._allowed, self._asked = {}, time.monotonic()
        if path not in (allowed := self._allowed):
            allowed[path] = may_read(PurePath(path), self.globs)
        return allowed[path]

    def line(self, match: IndexMatch) -> int:
        """The line of a match in its file, from 1."""
        return self.segments[match.segment].line(match.place)

    def around(self, match: IndexMatch, before: int = BEFORE, after: int = AHEAD) -> tuple[str, str]:
        """The text before and after a match's place, about so many characters of each."""
        segment = self.segments[match.segment]
        return (
            segment.before(match.place, before).decode("utf-8", "ignore"),
            segment.after(match.place, after).decode("utf-8", "ignore"),
        )


def read_manifest(store: Path) -> Manifest:
    """Raises OSError where there is none, ValueError where it is damaged or of another version."""
    manifest = msgspec.json.decode((store / MANIFEST).read_bytes(), type=Manifest)  # its errors are ValueErrors
    if manifest.version != VERSION:
        raise ValueError(f"version {manifest.version}, not {VERSION}")
    return manifest


def open_part(store: Path, part: SegmentInfo) -> Segment:
    """Raises OSError or ValueError where its arrays are not there or damaged."""
    return Segment.open(store / part.name, part.starts, [file.path for file in part.files])
