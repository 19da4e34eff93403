"""What became of the completions: counts, latencies and confidences, in this process's memory and nowhere else.

A completion stays the same one as long as it leads to the same text. Typing what it suggests or accepting a word of it
asks the server again, but it keeps its id, is counted once, and has one outcome: the best that a client told. Beside
the confidence it says whether the model's confidence deserves the name (`minConfidence`).

Several that are offered at once are one, of which the user sees the first until another is accepted.

The one dismissed last stays away while it leads to the same text: typing what it suggests does not bring it back,
closing the document does.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import msgspec

from lsp_server.statistics import WORST_FIRST, Outcome, Statistics, none_yet

ACCEPTED = "inpaint.accepted"  # the command that a client runs after it inserted a completion
STATISTICS = "inpaint/statistics"  # the request for all that is kept
RESET_STATISTICS = "inpaint/resetStatistics"  # the request to forget it, on disk too
KEPT = 1_000  # completions

WORTH: dict[Outcome, float] = {"shown": 0.0, "dismissed": 0.0, "partlyAccepted": 0.5, "accepted": 1.0}


class ResultingText(NamedTuple):
    """What a document says once a completion has been accepted."""

    uri: str
    text: str


class ShownCompletion(msgspec.Struct, kw_only=True, rename="camel"):
    """One that was shown. `characters` were accepted of it in parts, `left` are left to accept, in UTF-16 units."""

    id: str
    language: str
    left: int
    confidence: float
    latency_ms: float
    outcome: Outcome = "shown"
    characters: int = 0


class Feedback:
    """A session's counts, and its last completions with what became of them.

    `counts` has how many were shown, and of these how many came to each other outcome; most are just typed past.
    """

    def __init__(self) -> None:
        self.counts = none_yet()
        self.statistics = Statistics()
        self._completions: dict[str, ShownCompletion] = {}  # by id, oldest first
        self._leads_to: ResultingText | None = None  # what the newest one makes
        self._line: Hashable = None  # that the newest one was shown on
        self._tried = 0  # on that line, and not accepted
        self._learned_from = 0  # completions that `judged` has forgotten
        self._dismissed: ResultingText | None = None  # what the one dismissed last would have made
        self._instead: dict[str, int] = {}  # the UTF-16 units of what was offered beside the newest one, by id

    @property
    def completions(self) -> list[ShownCompletion]:
        return list(self._completions.values())

    def judged(self) -> list[tuple[float, float]]:
        """Of completions that the user is done with, oldest first: the confidence, and from 0 to 1 how it went."""
        done = list(self._completions.values())[:-1]
        return [(one.confidence, WORTH[one.outcome]) for one in done if int(one.id) > self._learned_from]

    def unlearn(self) -> None:
        """Forget how completions went so far."""
        self._learned_from = self.counts["shown"]

    def reset(self) -> None:
        """Forget the statistics too."""
        self.statistics.reset()
        self.unlearn()

    def tried(self, line: Hashable) -> int:
        """How many completions were shown on a line, one after the other, and not accepted."""
        return self._tried if line == self._line else 0

    def show(
        self,
        leads_to: ResultingText,
        text: str,
        language: str,
        confidence: float,
        latency_ms: float,
        line: Hashable = None,
    ) -> str:
        """Note a completion that the client will show; `line` stands for the line that it is on. Returns its id."""
        left = units(text)
        self._instead = {}
        self.statistics.took(language, latency_ms)
        if leads_to == self._dismissed:
            self._dismissed = None  # asked for by key, and so wanted after all
        if leads_to == self._leads_to:
            newest = next(reversed(self._completions))
            self._completions[newest].left = left
            return newest
        self._leads_to = leads_to
        self._line, self._tried = line, self.tried(line) + 1
        self.counts["shown"] += 1
        self.statistics.count(language, "shown")
        number = str(self.counts["shown"])
        new = ShownCompletion(id=number, language=language, left=left, confidence=confidence, latency_ms=latency_ms)
        self._completions[new.id] = new
        if len(self._completions) > KEPT:
            del self._completions[next(iter(self._completions))]
        return new.id

    def offer(self, identifier: str, text: str) -> str:
        """Note what a client will offer beside the newest completion, whose id is given. Returns an id of its own."""
        own = f"{identifier}.{len(self._instead) + 1}"
        self._instead[own] = units(text)
        return own

    def is_dismissed(self, leads_to: ResultingText) -> bool:
        return leads_to == self._dismissed

    def closed(self, uri: str) -> None:
        """Forget what was dismissed in a document, and what is yet to be: who opens it again starts over."""
        if self._dismissed is not None and self._dismissed.uri == uri:
            self._dismissed = None
        if self._leads_to is not None and self._leads_to.uri == uri:
            self._leads_to = None

    def note(self, identifier: str, outcome: Outcome, characters: int = 0) -> None:
        """Note what became of a completion; one that is unknown or forgotten is passed over."""
        completion = self._completions.get(identifier.partition(".")[0])
        if completion is None:
            return
        completion.left = self._instead.get(identifier, completion.left)
        completion.characters += characters
        self.statistics.accepted(completion.language, completion.left if outcome == "accepted" else characters)
        if outcome == "dismissed" and completion.id == next(reversed(self._completions)):
            self._dismissed = self._leads_to
        if WORST_FIRST.index(outcome) <= WORST_FIRST.index(completion.outcome):
            return
        if completion.outcome != "shown":
            self.counts[completion.outcome] -= 1
            self.statistics.count(completion.language, completion.outcome, -1)
        self.counts[outcome] += 1
        self.statistics.count(completion.language, outcome)
        completion.outcome = outcome
        if outcome == "accepted":
            self._tried -= 1
            self._leads_to = None  # the same again, after an undo, is another


def units(text: str) -> int:
    """The length in UTF-16 units, as clients count."""
    return len(text.encode("utf-16-le")) // 2
