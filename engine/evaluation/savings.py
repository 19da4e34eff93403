"""How much typing the suggestions save, and how often they are in the way: lines typed again into the language server.

A typist types a place key by key and looks at what an editor shows: the answer to an automatic request after each key.
A suggestion is one thing as long as it leads to the same text, so ghost text that is typed through counts once. What is
right is accepted: all of it, where it is a beginning of what is still to be typed and ends where a word does, or word
by word its right beginning. What is wrong is dismissed by the editors' key the first time it is seen, as the server is
told, and typed over. An acceptance takes a key, so less than two characters are typed.

    completed-code ratio   characters accepted / characters of the lines, indentation left out
    precision              suggestions that were right as a whole / suggestions shown

The server's deadlines are lifted, so that a busy machine shows in the latency alone: all else is the same for the same
corpus, model and seed.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.contract import EngineError
from engine.evaluation import baselines
from engine.evaluation.editor import SERVER, Editor, position
from engine.evaluation.places import EvaluationWorkspace, Place, write
from engine.evaluation.report import Report, times
from engine.evaluation.typist import acceptable, counted, is_right, next_key
from engine.options import ModelChoice

WITHOUT = "without "
UNHURRIED = {"deadlineAutomaticMs": 60_000, "deadlineInvokedMs": 60_000}

Json = Any


class Suggestion(msgspec.Struct):
    """What was shown at a place, once, and how it went.

    `line` is the number of the line among all that were typed; `accepted` are the characters that were taken, all of
    the text where it was right; `outcome` is what the server was told.
    """

    line: int
    package: str
    language: str
    text: str
    right: bool
    accepted: int = 0
    outcome: str = ""


class TypingSession(msgspec.Struct):
    """Lines that were typed with one kind of suggestions."""

    name: str
    lines: Counter[str] = msgspec.field(default_factory=Counter)  # by language
    characters: Counter[str] = msgspec.field(default_factory=Counter)
    keys: int = 0
    suggestions: list[Suggestion] = []
    reply_ms: list[float] = []


class TypingFigures(msgspec.Struct):
    """Of a session, or of a part of what it showed: shares in [0, 1], counts a line."""

    name: str
    part: str
    lines: int
    ratio: float
    precision: float
    shown: float
    wrong: float
    partly: float
    helped: float


class Way(NamedTuple):
    """A kind of suggestions: a server, and its options."""

    name: str
    command: tuple[str, ...]
    options: dict[str, Json]


def ways(options: dict[str, Json], with_baselines: bool, without: Sequence[str], with_index: bool = False) -> list[Way]:
    """The server on the open files; with the index of the workspace; the model alone; without a rule at a time.

    Raises EngineError where there is no such rule.
    """
    known = baselines.rules() if without else []
    without = known if list(without) == ["all"] else without
    if unknown := [name for name in without if name not in known]:
        raise EngineError(f"no rule {', '.join(unknown)}: there are {', '.join(known)}")
    indexed, options = {**options, "workspace": True}, {**options, "workspace": False}
    return [
        Way("Inpaint", SERVER, options),
        *([Way("with the index", SERVER, indexed)] if with_index else []),
        *([Way("model alone", baselines.MODEL_ALONE, options)] if with_baselines else []),
        *(Way(WITHOUT + name, baselines.server_without(name), options) for name in without),
    ]


# ---------------------------------------------------------------- typing


async def typed(
    way: Way, choice: ModelChoice, workspaces: Sequence[EvaluationWorkspace], tell: Callable[[int], None]
) -> TypingSession:
    """Types all places, each package in a workspace of its own. Raises EngineError where the server cannot start."""
    session = TypingSession(way.name)
    for workspace in workspaces:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            write(workspace.files, root)
            async with Editor.start(choice, way.command, {**way.options, **UNHURRIED}, root.as_uri()) as editor:
                await editor.loaded()
                await editor.indexed()
                for place in workspace.places:
                    await _type_place(editor, root, workspace.package, place, session)
                    tell(place.todo.count("\n") + 1)
    return session


async def _type_place(editor: Editor, root: Path, package: str, place: Place, session: TypingSession) -> None:
    uri = (root / place.path).as_uri()
    before, todo = place.before, place.todo
    editor.open(uri, before + place.after, place.language)
    seen: dict[str, Suggestion] = {}  # by the text that they lead to
    named: dict[str, Suggestion] = {}  # by the server's id
    first = sum(session.lines.values()) - before.count("\n")
    while todo:
        session.keys += 1
        asked = time.perf_counter()
        reply = await editor.complete(uri, position(before))
        session.reply_ms.append(1000 * (reply.at - asked))
        accepted = ""
        if text := reply.text:
            accepted = acceptable(text, todo)
            identifier = reply.command["arguments"][0]
            suggestion = seen.get(before + text)
            if suggestion is None:
                line = first + before.count("\n")
                right = is_right(text, todo)
                suggestion = seen[before + text] = Suggestion(line, package, place.language, text, right)
                session.suggestions.append(suggestion)
                if not (accepted or suggestion.right):
                    editor.tell(identifier, "dismissed")
            named[identifier] = suggestion
            suggestion.accepted += counted(accepted)
            if accepted == text:
                editor.accept(reply.command)
            elif accepted:
                editor.tell(identifier, "partlyAccepted", len(accepted))
        typing = accepted or next_key(todo)
        editor.change(uri, position(before), position(before), typing)
        before, todo = before + typing, todo[len(typing) :]
    for completion in (await editor.statistics())["completions"]:
        if completion["id"] in named:
            named[completion["id"]].outcome = completion["outcome"]
    editor.close(uri)
    session.lines[place.language] += place.todo.count("\n") + 1
    session.characters[place.language] += counted(place.todo)


# ---------------------------------------------------------------- figures


def figures(session: TypingSession) -> list[TypingFigures]:
    """Of all, and by language where there are several."""
    languages = list(session.lines)
    parts = {"all": languages} | ({each: [each] for each in languages} if len(languages) > 1 else {})
    return [_figures(session, part, its) for part, its in parts.items()]


def _figures(session: TypingSession, part: str, languages: list[str]) -> TypingFigures:
    shown = [one for one in session.suggestions if one.language in languages]
    lines, characters = (sum(map(counts.__getitem__, languages)) for counts in (session.lines, session.characters))
    right = sum(one.right for one in shown)
    return TypingFigures(
        name=session.name,
        part=part,
        lines=lines,
        ratio=sum(one.accepted for one in shown) / max(1, characters),
        precision=right / max(1, len(shown)),
        shown=len(shown) / max(1, lines),
        wrong=(len(shown) - right) / max(1, lines),
        partly=sum(bool(one.accepted) and not one.right for one in shown) / max(1, lines),
        helped=len({one.line for one in shown if one.right}) / max(1, lines),
    )


def run(choice: ModelChoice, workspaces: Sequence[EvaluationWorkspace], ways: Sequence[Way]) -> list[TypingSession]:
    """Every way in turn, with progress on stderr. Raises EngineError."""
    from tqdm import tqdm

    lines = sum(place.todo.count("\n") + 1 for workspace in workspaces for place in workspace.places)
    sessions = []
    for way in ways:
        with tqdm(total=lines, desc=way.name, unit="line", disable=None) as bar:
            sessions.append(asyncio.run(typed(way, choice, workspaces, bar.update)))
    return sessions


def report(model: str, seed: int, sessions: Sequence[TypingSession]) -> Report:
    """Latencies are those of a server without deadlines. A line without suggestions is nothing saved and nothing in the
    way.
    """
    shown = {
        "seed": seed,
        "model": model,
        "figures": [row for session in sessions for row in figures(session)],
        "reply_ms": {session.name: times(session.reply_ms) for session in sessions},
    }
    return Report(shown | {"suggestions": {session.name: session.suggestions for session in sessions}}, shown)
