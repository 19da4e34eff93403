"""A small change of a line as a substitution of tokens between neighbours, and the places that are like it.

Two examples are generalised to what they have in common (anti-unification: Plotkin, A note on inductive
generalization, 1970): the same tokens for the same others, between the neighbours that both have.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import TypeAlias

import msgspec

TOKEN = re.compile(r"\w+|\s+|.", re.DOTALL)
NEIGHBOURS = 4  # tokens to each side that are kept of an example
LONGEST = 80  # characters of a substitution, what goes and what comes together
EDGE = ""  # stands for a line's beginning or end among neighbours
Replacement: TypeAlias = tuple[str, str]

BLANKS = r"[ \t]{0,80}"  # bounded, or a line of nothing but blanks would take its length squared

SPACE = r"[ \t]{1,80}"


class Substitution(msgspec.Struct, frozen=True):
    """Of `old` by `new`. `left` has the tokens before it, the nearest first, `right` those after it, blanks left out;
    `spaced` says whether a blank stands before it.
    """

    old: str
    new: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    spaced: bool

    @property
    def what(self) -> Replacement:
        """What is substituted, wherever."""
        return self.old.strip(), self.new.strip()

    @property
    def is_framed(self) -> bool:
        """Whether there is a neighbour to each side."""
        return bool(self.left and self.right)

    @property
    def is_distinct(self) -> bool:
        """Whether a name becomes another, or something goes."""
        old, new = self.what
        return (old.isidentifier() and new.isidentifier()) or bool(old and not new)

    def shared(self, other: Substitution) -> Substitution:
        """With the neighbours that both have."""
        return msgspec.structs.replace(self, left=common(self.left, other.left), right=common(self.right, other.right))

    def like(self) -> re.Pattern[str]:
        """Matches what may be substituted in a text of lines; `replaced` is its group."""
        known = [word(token) for token in reversed(self.left) if token]
        left = (rf"^{BLANKS}" if EDGE in self.left else "") + BLANKS.join(known)
        if known and self.spaced:
            left += SPACE
        old = "".join(SPACE if token.isspace() else word(token) for token in TOKEN.findall(self.old))
        right = "".join(BLANKS + (word(token) if token else "$") for token in self.right)
        return re.compile(f"{left}(?P<replaced>{old})(?={right})", re.MULTILINE)


def substitution(old: str, new: str) -> Substitution | None:
    """What was substituted in a line; None where it is nothing but blanks, or too long. A substitution that was made
    several times in the line is one.
    """
    before, after = TOKEN.findall(old), TOKEN.findall(new)
    if solid(old) == solid(new):
        return None
    start = len(common(before, after))
    end = len(common(before[start:][::-1], after[start:][::-1]))
    one, other = before[start : len(before) - end], after[start : len(after) - end]
    if sum(map(len, one)) + sum(map(len, other)) > LONGEST:
        return None
    changes = [each for each in SequenceMatcher(None, one, other, False).get_opcodes() if each[0] != "equal"]
    if len({("".join(one[a:b]), "".join(other[c:d])) for _, a, b, c, d in changes}) == 1:
        _, a, b, c, d = changes[0]
        end += len(one) - b
        start, one, other = start + a, one[a:b], other[c:d]
    rest = before[len(before) - end :]
    return Substitution(
        old="".join(one),
        new="".join(other),
        left=neighbours(reversed(before[:start])),
        right=neighbours(rest),
        spaced=start > 0 and before[start - 1].isspace(),
    )


def neighbours(tokens: Iterator[str] | Sequence[str]) -> tuple[str, ...]:
    """The first ones that are not blank, and the edge of the line where it comes before there are enough."""
    return tuple(itertools.islice((token for token in [*tokens, EDGE] if not token.isspace()), NEIGHBOURS))


def solid(text: str) -> list[str]:
    """The tokens that are not blank."""
    return [token for token in TOKEN.findall(text) if not token.isspace()]


def common(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    """What two sequences begin with."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return tuple(token for token, _ in pairs)


def word(token: str) -> str:
    """A pattern for a whole token."""
    return rf"\b{re.escape(token)}\b" if token[0].isalnum() or token[0] == "_" else re.escape(token)
