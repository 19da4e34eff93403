"""How the cursor's line may go on: what stood after the same text elsewhere.

Elsewhere is the text around the cursor, the other open texts, and the index of the workspace. Each has places that end
like what is written; those where the line goes on against what stands right of the cursor are no candidates, nor are
those that would write a line again that stands directly above or below. Places that go on alike are one candidate,
which the more of them speak for. What was just changed elsewhere is changed here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from engine.contract import Edit, Source
from engine.retrieval.copy_weights import Evidence, prior
from engine.retrieval.index import Index, IndexMatch

SHORTEST, LONGEST = 3, 64  # characters of a match
AHEAD = 240  # characters that are read after a place
MOST = 24  # places that are looked at in the index
ALIKE = 0.5  # a place has a voice where its match is so long, of the longest
PLACES = 8  # that are looked at in an open text
AGAIN = 8  # characters: a shorter line, such as a closing bracket, may well stand twice
HALF = 10  # lines from the cursor at which a place is half as near
CLOSERS = frozenset(")]}\"'`,;: ")

Origin: TypeAlias = Literal["here", "opened", "indexed", "installed"]


class IndexPlace(NamedTuple):
    """A place in an index."""

    of: Index
    found: IndexMatch

    @property
    def source(self) -> Source:
        return Source(self.found.path, self.of.line(self.found))


class OpenTextPlace(NamedTuple):
    """A place in an open text, whose first line has the number `first`; which line it is in is counted when asked."""

    path: str
    text: str
    at: int
    first: int

    @property
    def source(self) -> Source:
        return Source(self.path, self.first + self.text.count("\n", 0, self.at))


CandidatePlace: TypeAlias = IndexPlace | OpenTextPlace


class Candidate(msgspec.Struct, frozen=True):
    """A continuation of the cursor's line, without what stands right of the cursor.

    `length` characters before the place are the same, `agreement` is the share of such places that go on like this,
    `below` whether the line after it is the one below the cursor, `where` what it is from, `away` how many lines from
    the cursor where that is the file at hand. `ends` is whether the line ends there, as far as is known; `then` is the
    beginning of the next line there, its indentation, and empty where that is no line of the same block. An edit has no
    place.
    """

    line: str
    ends: bool
    then: str
    length: int
    agreement: float
    below: bool
    where: Origin
    away: int | None
    place: CandidatePlace | None

    @property
    def source(self) -> Source | None:
        return None if self.place is None else self.place.source

    def evidence(self, line_start: bool, begun: bool, late: bool = False) -> Evidence:
        """What speaks for its next token."""
        return Evidence(
            length=self.length,
            agreement=self.agreement,
            below=self.below,
            here=self.where == "here",
            line_start=line_start,
            begun=begun,
            late=late,
            opened=self.where == "opened",
            installed=self.where == "installed",
            near=0.0 if self.away is None else 1 / (1 + self.away / HALF),
        )


class CandidateSearch:
    """Where a request may copy from; made once for it.

    `rest` stands right of the cursor, `below` under its line. `first` is the number of the prefix's first line;
    `others` are the open texts, whose paths, after that of the file at hand, are `paths`, as far as they have any; the
    latest of the `edits` come first. More paths are of files that are not copied from.
    """

    def __init__(
        self,
        prefix: str,
        rest: str,
        below: str,
        first: int,
        others: Sequence[str],
        paths: Sequence[str],
        indexes: Sequence[Index],
        edits: Sequence[Edit] = (),
    ) -> None:
        self._rest = rest.rstrip()
        self._above = prefix.rpartition("\n")[0].rpartition("\n")[2].strip()
        self._next = below.lstrip("\n").partition("\n")[0].rstrip()
        self._first, self._cursor = first, first + prefix.count("\n")
        self._indexes, self._hidden, self._edits = indexes, frozenset(paths), edits
        self._path, *names = paths or [""]
        self._suffix = PurePath(self._path).suffix
        named = zip(itertools.chain(names, itertools.repeat("")), others, strict=False)
        self._texts = [(self._path, below, self._cursor), *((path, text, 1) for path, text in named)]

    def candidates(self, sought: str, written: str) -> list[Candidate]:
        """How the line may go on after `sought`, an end of `written`, which is the text up to there; the best come
        first.
        """
        head = written[written.rfind("\n") + 1 :]
        found = [one for place in self._places(sought, written) if (one := self._candidate(head, *place)) is not None]
        best = _by_line(found)
        if sought == written:
            best = [*self._edited(written), *best]
        return sorted(best, key=lambda one: -prior(one.evidence(line_start=False, begun=False)))

    def _edited(self, written: str) -> Iterator[Candidate]:
        """The latest edit that fits here, for as much as is not written yet of what was put in."""
        for before, text, after in self._edits:
            line = before + text
            ends = ((common_end(written, line[:at]), at) for at in range(len(before), len(line)))
            length, at = max(ends, default=(0, 0))
            fits = self._rest[:1] == after[:1] if self._rest else True
            if length >= SHORTEST and length > at - len(before) and fits:
                rest = line[at:] if self._rest else (line[at:] + after).rstrip()
                yield Candidate(rest, True, "", length, 1.0, False, "here", None, None)
                break

    def _places(self, sought: str, written: str) -> Iterator[tuple[int, str, CandidatePlace]]:
        """Length of the match, what follows, and where that is."""
        line = written.rfind("\n") + 1  # the cursor's own has no end yet, and would be copied for ever
        for length, place in matches(sought, written, line):
            yield length, written[place : place + AHEAD], OpenTextPlace(self._path, written, place, self._first)
        for path, text, first in self._texts:
            for length, place in matches(sought, text, len(text)):
                yield length, text[place : place + AHEAD], OpenTextPlace(path, text, place, first)
        for index in self._indexes:
            for found in index.matches(sought, self._hidden, MOST, self._suffix):
                if found.length >= SHORTEST:
                    yield found.length, found.after[:AHEAD], IndexPlace(index, found)

    def _candidate(self, head: str, length: int, text: str, place: CandidatePlace) -> Candidate | None:
        """None where the line goes on against what stands around the cursor."""
        line, end, after = text.partition("\n")
        copied = up_to(self._rest, line.rstrip())
        if copied is None:
            return None
        whole = (head + copied + self._rest).strip()
        if whole == self._above or (len(whole) >= AGAIN and whole == self._next.strip()):
            return None
        below = bool(self._next) and after.lstrip("\n").partition("\n")[0].rstrip() == self._next
        where = self._where(place)
        away = abs(self._cursor - place.source.line) if where == "here" else None
        following = after.partition("\n")[0]
        indent = following[: len(following) - len(following.lstrip())]
        goes_on = following.strip() and len(indent) >= len(head) - len(head.lstrip())
        then = "\n" + indent if goes_on and not self._rest else ""
        return Candidate(copied, bool(end or self._rest), then, length, 1.0, below, where, away, place)

    def _where(self, place: CandidatePlace) -> Origin:
        if isinstance(place, IndexPlace):
            return "installed" if place.of.installed else "indexed"
        return "here" if place.path == self._path else "opened"


def _by_line(found: list[Candidate]) -> list[Candidate]:
    """The best of each line, with the agreement of all."""
    alike: dict[str, list[Candidate]] = {}
    for candidate in found:
        alike.setdefault(candidate.line, []).append(candidate)
    longest = max((one.length for one in found), default=0)
    agreement = {line: sum(one.length >= ALIKE * longest for one in group) for line, group in alike.items()}
    heard = sum(agreement.values())
    return [
        msgspec.structs.replace(
            max(group, key=lambda one: one.length),
            agreement=agreement[line] / heard,
            below=any(one.below for one in group if one.length >= ALIKE * longest),
        )
        for line, group in alike.items()
    ]


def up_to(rest: str, line: str) -> str | None:
    """What of a line goes before `rest`, which stands right of the cursor; None where the line has no such end.

    Closing brackets and quotes alone may have been put there by the editor: they come where what is open closes.
    """
    if line.endswith(rest):
        return line.removesuffix(rest) if rest else line
    if CLOSERS.issuperset(rest):
        depth = 0
        for place, character in enumerate(line):
            if character in "([{":
                depth += 1
            elif character in ")]}":
                if depth == 0:
                    return line[:place] if rest.startswith(character) else None
                depth -= 1
    return None


def matches(written: str, text: str, end: int) -> list[tuple[int, int]]:
    """Places in text[:end] with a common end with `written`, the longest and the latest of those about as long: lengths
    and places.
    """
    length, place = longest_match(written, text, end)
    if not length:
        return []
    found, enough = {place: length}, max(SHORTEST, math.ceil(ALIKE * length))
    for _ in range(PLACES):
        start = text.rfind(written[-enough:], 0, end)
        if start < 0:
            break
        found[start + enough] = common_end(written, text[: start + enough])
        end = start + enough - 1
    return [(length, place) for place, length in found.items()]


def common_end(written: str, text: str) -> int:
    """How many characters two texts have in common at their ends, up to LONGEST."""
    most = min(len(written), len(text), LONGEST)
    return next((at for at in range(most) if written[-1 - at] != text[-1 - at]), most)


def longest_match(written: str, text: str, end: int) -> tuple[int, int]:
    """The longest end of `written` in text[:end], and the latest of those: its length and where it ends; (0, 0) where
    none is as long as SHORTEST.
    """
    length, place, sought = 0, 0, SHORTEST
    while sought <= min(len(written), LONGEST) and (start := text.rfind(written[-sought:], 0, end)) >= 0:
        length, place = sought, start + sought
        while start and length < min(len(written), LONGEST) and text[start - 1] == written[-length - 1]:
            start, length = start - 1, length + 1
        sought = length + 1
    return length, place
