"""Places that are like the cursor's but for their names: where `user` there is `order` here, what follows there follows
here with its names changed alike.

Such a place is a line below two of the same shape as the two above the cursor, a shape being a line with all words
alike. From the cursor backwards both texts are read in step. Names that differ are mapped, until something else does,
or a name would become two (parameterized matching: Baker, A theory of parameterized pattern matching, STOC 1993).
"""

from __future__ import annotations

import itertools
import keyword
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

ABOVE = 8  # lines that are read
MOST = 8  # places of a text that are looked at, the last ones
KEPT = 16  # texts whose shapes are remembered
LINES_KEPT = 4096  # as many as a text at hand has, which begins elsewhere at each key where a file is long
WORD, TOKEN = re.compile(r"\w+"), re.compile(r"\w+|\s+|.")
PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|_+|.")  # of a name
NO_NAMES = frozenset(keyword.kwlist) | {
    *("self", "cls", "this", "const", "let", "var", "function", "func", "fn", "pub", "use", "impl", "struct", "enum"),
    *("type", "switch", "case", "default", "new", "null", "nil", "true", "false", "range", "match", "mut", "package"),
}


class Renamed(NamedTuple):
    """How many characters before the place are the same but for names, what follows with the cursor's names, and the
    place's line in its text, from 0.
    """

    length: int
    after: str
    line: int


def renamed(above: str, head: str, text: str) -> Iterator[Renamed]:
    """Places in a text that are like the one after `head`, the cursor's line so far, below `above`."""
    lines, places = _shaped(text)
    ours = above.rsplit("\n", ABOVE)[-ABOVE:]
    written = TOKEN.findall(head)
    for number in places.get(tuple(map(_shape, ours[-2:])), [])[-MOST:]:
        theirs = TOKEN.findall(lines[number])
        known = len(written)
        if len(theirs) < known:
            continue
        if known and written[-1] != theirs[known - 1] and written[-1][-1].isalnum():
            known -= 1  # a word that is not yet whole
        length, names = _aligned(
            itertools.chain(reversed(theirs[:known]), _backwards(lines[max(0, number - ABOVE) : number])),
            itertools.chain(reversed(written[:known]), _backwards(ours)),
        )
        if length <= sum(map(len, written[:known])) or all(a == b for a, b in names.items()):
            continue
        begun = "".join(written[known:])
        follows = _with_names("".join(theirs[known:]), names)
        if follows.startswith(begun):
            yield Renamed(length, "\n".join([follows[len(begun) :], *lines[number + 1 : number + 2]]), number)


@lru_cache(maxsize=KEPT)
def _shaped(text: str) -> tuple[list[str], dict[tuple[str, ...], list[int]]]:
    """The lines, and those below each two shapes."""
    lines = text.split("\n")
    shapes = [_shape(line) for line in lines]
    places = defaultdict[tuple[str, ...], list[int]](list)
    for number in range(2, len(lines)):
        places[shapes[number - 2], shapes[number - 1]].append(number)
    return lines, places


@lru_cache(maxsize=LINES_KEPT)
def _shape(line: str) -> str:
    return WORD.sub("w", line)


def _backwards(lines: list[str]) -> Iterator[str]:
    """Tokens from the last to the first."""
    return itertools.chain.from_iterable(reversed([*TOKEN.findall(line), "\n"]) for line in reversed(lines))


def _aligned(theirs: Iterable[str], ours: Iterable[str]) -> tuple[int, dict[str, str]]:
    """How many of our characters agree but for names, and our name for each of theirs."""
    length, names = 0, dict[str, str]()
    for there, here in zip(theirs, ours, strict=False):
        is_name = there.isidentifier() and there not in NO_NAMES
        if there != here and not (is_name and here.isidentifier() and here not in NO_NAMES):
            break
        if is_name and names.setdefault(there, here) != here:
            break
        length += len(here)
    return length, names


def _with_names(text: str, names: dict[str, str]) -> str:
    """The text with our names, and with ours in other names: where `user` is `order`, `UserForm` is `OrderForm`."""
    cores = dict(core for there, here in names.items() if there != here and (core := _core(there, here)) is not None)

    def ours(word: re.Match[str]) -> str:
        return names.get(word[0]) or "".join(_in_case(part, cores) for part in PARTS.findall(word[0]))

    return WORD.sub(ours, text)


def _core(there: str, here: str) -> tuple[str, str] | None:
    """What differs, in lower case, between two names that begin and end alike; None where one has nothing left."""
    one, other = PARTS.findall(there), PARTS.findall(here)
    while one and other and one[0] == other[0]:
        one, other = one[1:], other[1:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return ("".join(one).lower(), "".join(other).lower()) if one and other else None


def _in_case(part: str, cores: dict[str, str]) -> str:
    """A part of a name, or ours of it in the same case."""
    ours = cores.get(part.lower())
    if ours is None:
        return part
    return ours if part.islower() else ours.upper() if part.isupper() and len(part) > 1 else ours.capitalize()
