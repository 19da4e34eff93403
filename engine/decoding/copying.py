"""What stood after the same text elsewhere is likely to follow here: code repeats itself, and a small model knows no
project.

The copier follows the longest earlier occurrence of the end of what is written, and each token is the likeliest of a
mixture: the copied token has the share λ, which grows with the length of the match, the model's tokens have the rest
(∞-gram language models, Liu et al. 2024, arXiv 2401.17377, section 4; here λ by length, and the choice greedy). A
share of more than a half decides by itself. Copies are drafts too, which cost no pass (REST, arXiv 2311.08252).
"""

from __future__ import annotations

from typing import NamedTuple

from engine.contract import FillRequest
from engine.decoding.limits import Spelling, Written
from engine.decoding.passes import Guess
from engine.window import after_cursor

REACH = 24_000  # characters before and after the cursor that are searched
SHORTEST = 3  # characters of a match
SHARE, MOST = 0.02, 0.9  # λ a character of the match, and at most: how often copies were right at 300 places
LONGEST = int(MOST / SHARE)
AHEAD = 240  # characters that are copied of one place
DRAFT = 12  # tokens
LIKELY = 0.2  # a draft goes on while this is the chance that all of it will be agreed with


class Copy(NamedTuple):
    """A token that followed elsewhere, and its share λ in the mixture."""

    token: int
    share: float


class Copier:
    """Copies for one request, token by token: what it says depends on the tokens before, not on how they were found.

    `taken` is text before the cursor that the fill spells again.
    """

    def __init__(self, request: FillRequest, spelling: Spelling, taken: str = "") -> None:
        self._spelling = spelling
        prefix = request.prefix[-REACH:]
        rest, _, following = after_cursor(prefix, request.suffix[:REACH])
        self._prefix, self._rest = prefix, rest.rstrip()
        self._others = (following, *request.related)
        self._above = prefix.rpartition("\n")[0].rpartition("\n")[2].strip()
        self._one_line = request.max_lines == 1 or bool(self._rest)
        self._shortest = SHORTEST if request.copies else LONGEST + 1
        self._before, self._taken = prefix.removesuffix(taken), taken
        self._tokens: list[int] = []
        self._length = 0  # characters of the match
        self._ahead: list[int] = []
        self._search()

    @property
    def next(self) -> Copy | None:
        return Copy(self._ahead[0], _share(self._length)) if self._ahead else None

    @property
    def left(self) -> int:
        """Tokens that are copied to the end of the line."""
        return sum(token not in self._spelling.ends for token in self._ahead)

    def advance(self, tokens: list[int]) -> None:
        """Go on behind the next tokens of the fill."""
        for token in tokens:
            self._tokens.append(token)
            if self._ahead[:1] == [token]:
                self._length += self._size(self._ahead.pop(0))
            else:
                self._ahead = []
            if not self._ahead:
                self._search()

    def follow(self, tokens: list[int]) -> None:
        """Go to where the fill is these tokens, whatever it was before."""
        known = len(self._tokens)
        if tokens[:known] == self._tokens:
            self.advance(tokens[known:])
        else:
            self._tokens = list(tokens)
            self._search()

    def decided(self) -> Written:
        """The copies from here on that no model could outvote, having a share of more than a half; goes on behind
        them.
        """
        decided = Written()
        while len(decided.tokens) < DRAFT and (copy := self.next) and copy.share > 0.5:
            decided.tokens.append(copy.token)
            decided.probabilities.append(copy.share)
            self.advance([copy.token])
            if copy.token in self._spelling.ends:
                break
        return decided

    def draft(self) -> list[int]:
        """As many of the next tokens as are likely to be agreed with, which is twice as likely as their being right."""
        chance, length, tokens = 1.0, self._length, self._ahead[:DRAFT]
        for count, token in enumerate(tokens):
            chance *= min(1.0, 2 * _share(length))
            length += self._size(token)
            if chance < LIKELY or token in self._spelling.ends:
                return tokens[:count]
        return tokens

    def _search(self) -> None:
        fill = self._spelling.decode(self._tokens)
        written = self._before + fill if fill else self._prefix
        line = written[written.rfind("\n") + 1 :]
        # a further line is sought for itself: after lines that were copied, the copy would go on for ever
        sought = line.lstrip() if "\n" in fill[len(self._taken) :] else written
        length, place = longest_match(sought, written, len(written) - 1, self._shortest)
        source = written
        for text in self._others:
            longer, end = longest_match(sought, text, len(text), max(self._shortest, length + 1))
            if longer:
                length, place, source = longer, end, text
        self._length = length
        self._ahead = self._continuation(line, source[place : place + AHEAD]) if length else []

    def _continuation(self, written: str, text: str) -> list[int]:
        """The tokens of what followed there, to the end of the line; `written` is the cursor's line so far.

        None where that line goes on otherwise than the cursor's, or would make it the one above over again.
        """
        line, line_end, _ = text.partition("\n")
        if not line.rstrip().endswith(self._rest):
            return []
        copied = line.rstrip().removesuffix(self._rest) if self._rest else line
        if (written + copied + self._rest).strip() == self._above:
            return []
        tokens = self._spelling.encode(("" if self._tokens else self._taken) + copied)
        ended = self._one_line and bool(line_end or self._rest)
        return [*tokens, self._spelling.end] if ended and self._spelling.end is not None else tokens

    def _size(self, token: int) -> int:
        return len(self._spelling.decode([token]))


def longest_match(written: str, text: str, end: int, shortest: int) -> tuple[int, int]:
    """The longest end of `written` in text[:end], and the latest of those: its length and where it ends; (0, 0) where
    none is as long as `shortest`.
    """
    length = place = 0
    while shortest <= min(len(written), LONGEST) and (start := text.rfind(written[-shortest:], 0, end)) >= 0:
        length, place = shortest, start + shortest
        while start and length < min(len(written), LONGEST) and text[start - 1] == written[-length - 1]:
            start, length = start - 1, length + 1
        shortest = length + 1
    return length, place


def mixed(guess: Guess, row: int, copy: Copy | None) -> tuple[int, float]:
    """The likeliest token of model and copy together, and its probability."""
    token, probability = guess.tokens[row], guess.probabilities[row]
    if copy is None:
        return token, probability
    copied = copy.share + (1 - copy.share) * guess.probability(row, copy.token)
    own = (1 - copy.share) * probability
    return (copy.token, copied) if copied >= own else (token, own)


def _share(length: int) -> float:
    return min(MOST, SHARE * length)
