"""Which place is due for what was just done twice: the nearest one that is like both, where none was passed over.

Who changes one thing in many places goes through them in one direction. A like place that was left behind says that
not all are meant, and then nothing is offered. The rules were found on the histories that README.md names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Literal, TypeAlias

import msgspec

from engine.next_edit.substitution import Replacement, Substitution
from engine.syntax import GRAMMARS, Unknown, budget, errors_of

KEPT = 8  # settled edits
PARSING = 0.2  # seconds, at most
NEAR = 30  # lines, of what must not be far: insertions, which agree with their place, and names without neighbours

NoOfferReason: TypeAlias = Literal["once", "nowhere", "passed", "far", "rejected", "reversal", "unsure", "error"]


class SettledEdit(msgspec.Struct, frozen=True):
    """An edit that is done: where, by document and line from 0."""

    document: str
    line: int
    substitution: Substitution


class LineEdit(msgspec.Struct, frozen=True):
    """To put `text` in the place of the columns from `start` to before `end` of a line; all from 0, in characters."""

    line: int
    start: int
    end: int
    text: str


class EditOffer(msgspec.Struct, frozen=True):
    """The changes that are due, the one to show first, and what they substitute."""

    changes: list[LineEdit]
    what: Replacement


def propose(
    settled: Sequence[SettledEdit], text: str, language: str, muted: Collection[Replacement] = ()
) -> EditOffer | NoOfferReason:
    """What is due in the document of the latest edit, or why nothing is. `settled` are the last edits, oldest first;
    `text` has lines that end with a newline, `language` is LSP's name.
    """
    made = without_reversals(settled)[-KEPT:]
    if not made or made[-1] != settled[-1]:
        return "once"
    latest, what = made[-1], made[-1].substitution.what
    examples = [each for each in made[:-1] if each.substitution.what == what]
    if not examples:
        return "once"
    if what in muted:
        return "rejected"
    if any(each.substitution.what == what[::-1] for each in made):
        return "reversal"
    alike = generalised(latest.substitution, [each.substitution for each in examples])
    if alike is None:
        return "unsure"
    return due(alike, latest.line, is_downward(latest, examples), text, language)


def without_reversals(settled: Sequence[SettledEdit]) -> list[SettledEdit]:
    """An edit that takes an earlier one of its line back leaves neither."""
    kept: list[SettledEdit] = []
    for edit in settled:
        undone = next((each for each in reversed(kept) if takes_back(edit, each)), None)
        if undone is None:
            kept.append(edit)
        else:
            kept.remove(undone)
    return kept


def takes_back(edit: SettledEdit, earlier: SettledEdit) -> bool:
    there = (edit.document, edit.line) == (earlier.document, earlier.line)
    return there and edit.substitution.what == earlier.substitution.what[::-1]


def generalised(latest: Substitution, examples: list[Substitution]) -> Substitution | None:
    """With the neighbours that it shares with the example that is most like it. None where too little is shared: a
    name, or what goes, may stand anywhere; else a token to each side is the same.
    """
    alike = max((latest.shared(each) for each in examples), key=lambda each: len(each.left) + len(each.right))
    return alike if alike.is_framed or alike.is_distinct else None


def is_downward(latest: SettledEdit, examples: list[SettledEdit]) -> bool:
    """Whether the user goes down through the document."""
    here = [each.line for each in examples if each.document == latest.document]
    return not here or here[-1] <= latest.line


def due(alike: Substitution, line: int, downward: bool, text: str, language: str) -> EditOffer | NoOfferReason:
    """The like places ahead of a line as an offer, or why there is none."""
    spans = places(alike, text)
    spans.pop(line, None)
    ahead = sorted((each for each in spans if (each > line) == downward), key=lambda each: abs(each - line))
    if not spans:
        return "nowhere"
    if len(ahead) < len(spans):
        return "passed"
    if abs(ahead[0] - line) > NEAR and not (alike.is_framed and alike.old.strip()):
        return "far"
    lines = text.split("\n")
    if is_mixed(alike, lines[ahead[0]], spans[ahead[0]]):
        return "unsure"
    changes = [changed(number, lines[number], spans[number], alike.new) for number in ahead]
    return "error" if makes_errors(lines, changes[0], language) else EditOffer(changes, alike.what)


def places(alike: Substitution, text: str) -> dict[int, list[tuple[int, int]]]:
    """The spans of like places by their line."""
    found = defaultdict[int, list[tuple[int, int]]](list)
    line = at = 0
    for match in alike.like().finditer(text):
        start, end = match.span("replaced")
        line, at = line + text.count("\n", at, start), start
        begin = text.rfind("\n", 0, start) + 1
        found[line].append((start - begin, end - begin))
    return found


def changed(line: int, content: str, spans: list[tuple[int, int]], new: str) -> LineEdit:
    """All spans of a line at once."""
    (start, _), (_, end) = spans[0], spans[-1]
    pieces, at = list[str](), start
    for first, stop in spans:
        pieces += content[at:first], new
        at = stop
    return LineEdit(line, start, end, "".join(pieces))


def is_mixed(alike: Substitution, content: str, spans: list[tuple[int, int]]) -> bool:
    """Whether the same stands elsewhere in the line too, between other neighbours."""
    anywhere = msgspec.structs.replace(alike, left=(), right=())
    return bool(alike.old.strip()) and len(places(anywhere, content)[0]) > len(spans)


def makes_errors(lines: list[str], change: LineEdit, language: str) -> bool:
    """Whether the parser finds more errors in the text than before, or does not come to an end in time."""
    if language not in GRAMMARS:
        return False
    old = lines[change.line]
    new = old[: change.start] + change.text + old[change.end :]
    then = [*lines[: change.line], new, *lines[change.line + 1 :]]
    try:
        with budget(language, PARSING):
            return errors_of("\n".join(then), language) > errors_of("\n".join(lines), language)
    except Unknown:
        return True
