"""The pieces of other files that say most about a cursor: what the names on its line are, and the most similar code.

Definitions come first, those of the names nearest to the cursor before others: a call's signature is what people look
up. They are found as any place is, by what stands before it: `def name(`. The most similar code is what surrounds the
longest match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

import msgspec

from engine.contract import FillRequest, Source
from engine.retrieval.index import Index, IndexMatch

ABOVE, NAMES = 3, 6  # lines above the cursor's, and the most names of all these that are looked up
DEFINED_BY = ("def {}(", "class {}(", "class {}:", "\n{} = ", "function {}(", "fn {}(", "func {}(", "const {} = ")
LINES = 6  # of a definition
SIMILAR, BEFORE = 24, 240  # characters: the shortest match that counts, what is shown before it
WIDEST = 200  # characters of a line before a place
NAME = re.compile(r"[^\W\d]\w{2,}")


class Snippet(msgspec.Struct, frozen=True):
    """Whole lines of a file, and where they begin."""

    text: str
    source: Source


def snippets(request: FillRequest, room: int) -> list[Snippet]:
    """What to show of the indexes of a request, the most telling first, at most `room` characters in all."""
    chosen, hidden = dict[str, Snippet](), frozenset(request.files)
    for snippet in (*_definitions(request, hidden), *_similar(request, hidden)):
        if snippet.text not in chosen and snippet.text not in request.prefix and len(snippet.text) <= room:
            chosen[snippet.text] = snippet
            room -= len(snippet.text)
    return list(chosen.values())


def _definitions(request: FillRequest, hidden: frozenset[str]) -> Iterator[Snippet]:
    lines = request.prefix.rsplit("\n", 1 + ABOVE)[-1 - ABOVE :] + request.suffix.split("\n", 1)[:1]
    names = [*dict.fromkeys(reversed(NAME.findall("\n".join(lines))))]
    for name in names[:NAMES]:
        for form in DEFINED_BY:
            sought = form.format(name)
            if found := _first(request, sought, hidden, len(sought)):
                index, place = found
                yield _lines(index, place, 0, LINES)
                break


def _similar(request: FillRequest, hidden: frozenset[str]) -> Iterator[Snippet]:
    if found := _first(request, request.prefix, hidden, SIMILAR):
        index, place = found
        yield _lines(index, place, BEFORE, 2 * LINES)


def _first(request: FillRequest, sought: str, hidden: frozenset[str], least: int) -> tuple[Index, IndexMatch] | None:
    """The longest match, of so many characters at least, in the first index that has one."""
    for index in request.indexes:
        for found in index.matches(sought, hidden, most=1, suffix=PurePath(request.path).suffix):
            if found.length >= least:
                return index, found
    return None


def _lines(index: Index, place: IndexMatch, before: int, most: int) -> Snippet:
    """Whole lines, from the one some characters before a place on."""
    above, after = index.around(place, before=before + WIDEST)
    start = above.rfind("\n", 0, max(0, len(above) - before)) + 1
    lines = (above[start:] + after).split("\n")[:most]
    return Snippet("\n".join(lines).rstrip() + "\n", Source(place.path, index.line(place) - above.count("\n", start)))
