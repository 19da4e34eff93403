"""Completions by the context that the model saw: an answer at once for what was asked before or typed as suggested.

An entry answers a request whose text before the cursor is the entry's plus a beginning of what was suggested, with the
same text after the cursor. So typing a suggestion shortens it, and a backspace finds the longer one again, with no pass
of the model. Text out of the model's reach does not count: an edit there changes no answer, any nearer one does.
The most recently used entries are kept, few enough to look at each.

What is left of a fill is as sure as what is left: a guess that was hidden for its first words is shown once these are
typed. Where that is open, because the cursor is inside one of the guess's tokens or the engine gave up on it, the
engine is asked again, but not where what follows the token is too doubtful anyway.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from engine import Fill, FillRequest

NEAR = 64  # characters
ENOUGH = 0.5  # confidence that a fill of no known value has to have to be asked for again no more
SIZE = 64  # entries of some 50 kB with the embedded model


class CacheKey(NamedTuple):
    """What a model sees of a request."""

    path: str
    before: str
    after: str
    related: tuple[str, ...]
    others: tuple[str, ...]


class CacheEntry(NamedTuple):
    context: CacheKey
    request: FillRequest  # for its limits only, without the text
    fill: Fill


class CompletionCache:
    """The last completions, most recently used first. `reach` is that of the engine, see engine.Engine."""

    def __init__(self, reach: int, size: int = SIZE) -> None:
        self._reach, self._size = reach, size
        self._entries: list[CacheEntry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def key(self, request: FillRequest, typed: int = 0) -> CacheKey:
        """What the model sees; or saw `typed` characters ago."""
        end = len(request.prefix) - typed
        before, after = request.prefix[max(0, end - self._reach) : end], request.suffix[: self._reach]
        return CacheKey(request.path, before, after, request.related, request.others)

    def find(self, request: FillRequest) -> Fill | None:
        """What is left of the fill of the first entry that answers the request, at no pass."""
        first = sorted(enumerate(self._entries), key=lambda each: bool(each[1].context.others))
        for index, entry in first:  # the best fill, and then those that were to differ from it
            typed = self._typed(entry, request)
            if typed is not None:
                enough = max(request.min_confidence, ENOUGH) if request.min_confidence else 0.0
                if typed and may_be_surer(entry.fill, typed, enough):
                    return None
                self._entries.insert(0, self._entries.pop(index))
                return msgspec.structs.replace(entry.fill.after(typed), passes=0)
        return None

    def _typed(self, entry: CacheEntry, request: FillRequest) -> int | None:
        """How many characters of the entry's fill have been typed; None where it is no answer to the request.

        What comes after all of them is another question. A fill that was to differ from others is one among them to
        the same question only; once it is typed in part, it is what is meant.
        """
        same = request.others == entry.context.others
        for typed in range(not same, 1 if request.others else max(1, len(entry.fill.text))):
            end = entry.context.before[-NEAR:] + entry.fill.text[:typed]  # most entries differ there
            seen = self.key(request, typed)._replace(others=entry.context.others)
            if request.prefix.endswith(end) and seen == entry.context:
                return None if typed == 0 and asks_for_more(request, entry.request) else typed
        return None

    def same(self, request: FillRequest, earlier: FillRequest) -> bool:
        """Whether the answer to an earlier request is one to this request too."""
        return self.key(request) == self.key(earlier) and not asks_for_more(request, earlier)

    def add(self, request: FillRequest, fill: Fill) -> None:
        limits = msgspec.structs.replace(request, prefix="", suffix="", related=(), indexes=(), edits=())
        self._entries.insert(0, CacheEntry(self.key(request), limits, fill))
        del self._entries[self._size :]

    def remove(self, request: FillRequest) -> None:
        """Forget what answers a request and no other one."""
        context, lines = self.key(request), request.max_lines
        self._entries = [one for one in self._entries if (one.context, one.request.max_lines) != (context, lines)]

    def clear(self) -> None:
        self._entries.clear()


def may_be_surer(fill: Fill, typed: int, enough: float) -> bool:
    """Whether a fill that was too doubtful may no longer be, now that its beginning is typed."""
    if fill.confidence >= enough or not fill.pieces:
        return fill.confidence < enough
    left = fill.after(typed)
    if left.confidence >= enough or typed in (piece.end for piece in fill.pieces):
        return left.confidence >= enough and not fill.complete  # given up for a doubt that is gone
    beyond = left.after(left.pieces[0].end)  # at best, the token at hand is certain now
    return beyond.confidence >= enough or not (beyond.text or fill.complete)


def asks_for_more(request: FillRequest, earlier: FillRequest) -> bool:
    """Whether a request would have allowed more lines, time, doubt or care than an earlier one did."""
    return (
        (request.max_lines or 1_000) > (earlier.max_lines or 1_000)
        or (request.deadline_ms or float("inf")) > (earlier.deadline_ms or float("inf"))
        or request.min_confidence < earlier.min_confidence
        or request.trust > earlier.trust
    )
