"""How much typing the suggestions save, and how often they are in the way: lines typed again into the language server.

A typist types a place key by key and looks at what an editor shows: the answer to an automatic request after each key.
A suggestion is one thing as long as it leads to the same text, so ghost text that is typed through counts once. What is
right is accepted: all of it, where it is a beginning of what is still to be typed and ends where a word does, or word
by word its right beginning. What is wrong is dismissed by the editors' key the first time it is seen, as the server is
told, and typed over. An acceptance takes a key, so less than two characters are typed.

    completed-code ratio   characters accepted / characters of the lines, indentation left out
    precision              suggestions that were right as a whole / suggestions shown
    edit similarity        of a suggestion and as much of the line (difflib's ratio, 2 · matches / characters of both)

The server's deadlines are lifted, so that a busy machine shows in the latency alone: all else is the same for the same
corpus, model and seed.
"""

from __future__ import annotations

import asyncio
import difflib
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.contract import EngineError
from engine.evaluation import baselines
from engine.evaluation.editor import SERVER, Editor, position
from engine.evaluation.places import Place, Workspace
from engine.evaluation.report import Report, Row, times
from engine.evaluation.typist import acceptable, counted, is_right, next_key
from engine.options import Choice

WITHOUT = "without "
UNHURRIED = {"deadlineAutomaticMs": 60_000, "deadlineInvokedMs": 60_000}
COMMENT = {"python": "#", "ruby": "#", "lua": "--"}
DOCSTRING = re.compile(r'"""|\'\'\'')

Json = Any
KINDS = ("line start", "inside", "after a block opener", "comment", "docstring")


class Suggestion(msgspec.Struct):
    """What was shown at a place, once: of which kind, how it went, and how sure the server was of it.

    `line` is the number of the line among all that were typed; `accepted` are the characters that were taken, all of
    the text where it was right; `outcome` is what the server was told.
    """

    line: int
    package: str
    language: str
    kind: str
    text: str
    right: bool
    accepted: int
    similarity: float
    confidence: float
    outcome: str = ""


class Session(msgspec.Struct):
    """Lines that were typed with one kind of suggestions."""

    name: str
    lines: Counter[str] = msgspec.field(default_factory=Counter)  # by language
    characters: Counter[str] = msgspec.field(default_factory=Counter)
    keys: int = 0
    suggestions: list[Suggestion] = []
    reply_ms: list[float] = []


class Figures(msgspec.Struct):
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
    similarity: float

    def row(self) -> Row:
        return {
            "": self.part,
            "lines": self.lines,
            "ratio": f"{self.ratio:.3f}",
            "prec.": f"{self.precision:.2f}",
            "shown": f"{self.shown:.2f}",
            "wrong": f"{self.wrong:.2f}",
            "partly": f"{self.partly:.2f}",
            "helped": f"{self.helped:.2f}",
            "alike": f"{self.similarity:.2f}",
        }


class Effect(msgspec.Struct):
    """What a rule is good for, against the same lines without it: the suggestions that are shown with and only with
    it, and without and only without it, how many of each are right, and the ratio and the precision without it.
    """

    rule: str
    instead: int
    instead_right: int
    kept_away: int
    kept_away_right: int
    ratio: float
    precision: float

    def row(self) -> Row:
        return {
            "rule": self.rule,
            "instead": self.instead,
            "instead, right": self.instead_right,
            "kept away": self.kept_away,
            "kept away, right": self.kept_away_right,
            "ratio without": f"{self.ratio:.3f}",
            "precision without": f"{self.precision:.2f}",
        }


class Way(NamedTuple):
    """A kind of suggestions: a server, and its options."""

    name: str
    command: tuple[str, ...]
    options: dict[str, Json]


def ways(options: dict[str, Json], with_baselines: bool, without: Sequence[str], with_index: bool = False) -> list[Way]:
    """The server on the open files; with the index of the workspace; its parts alone; without a rule at a time.

    Raises EngineError where there is no such rule.
    """
    known = baselines.rules() if without else []
    without = known if list(without) == ["all"] else without
    if unknown := [name for name in without if name not in known]:
        raise EngineError(f"no rule {', '.join(unknown)}: there are {', '.join(known)}")
    indexed, options = {**options, "workspace": True}, {**options, "workspace": False}
    parts = {"model alone": "model_alone", "copies alone": "copies_alone"} if with_baselines else {}
    return [
        Way("Inpaint", SERVER, options),
        *([Way("with the index", SERVER, indexed)] if with_index else []),
        *(Way(name, baselines.server(load), options) for name, load in parts.items()),
        *(Way(WITHOUT + name, baselines.server_without(name), options) for name in without),
    ]


# ---------------------------------------------------------------- typing


async def typed(way: Way, choice: Choice, workspaces: Sequence[Workspace], tell: Callable[[int], None]) -> Session:
    """Types all places, each package in a workspace of its own. Raises EngineError where the server cannot start."""
    session = Session(way.name)
    for workspace in workspaces:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            workspace.write(root)
            async with Editor.start(choice, way.command, {**way.options, **UNHURRIED}, root.as_uri()) as editor:
                await editor.loaded()
                await editor.indexed()
                for place in workspace.places:
                    await _type_place(editor, root, workspace.package, place, session)
                    tell(place.todo.count("\n") + 1)
    return session


async def _type_place(editor: Editor, root: Path, package: str, place: Place, session: Session) -> None:
    uri = (root / place.path).as_uri()
    before, todo = place.before, place.todo
    editor.open(uri, before + place.after, place.language)
    seen: dict[str, Suggestion] = {}  # by the text that they lead to
    named: dict[str, Suggestion] = {}  # by the server's id
    first = sum(session.lines.values()) - before.count("\n")
    while todo:
        session.keys += 1
        asked = editor.ask(uri, position(before))
        reply = (await asked.future).get("result")
        shown = reply["items"][0] if reply and reply["items"] else None
        session.reply_ms.append(1000 * (asked.future.result()["at"] - asked.asked))
        accepted = ""
        if shown:
            text, identifier = shown["insertText"], shown["command"]["arguments"][0]
            accepted = acceptable(text, todo)
            suggestion = seen.get(before + text)
            if suggestion is None:
                line = first + before.count("\n")
                suggestion = seen[before + text] = _judged(line, package, place, before, text, todo)
                session.suggestions.append(suggestion)
                if not (accepted or suggestion.right):
                    editor.tell(identifier, "dismissed")
            named[identifier] = suggestion
            suggestion.accepted += counted(accepted)
            if accepted == text:
                editor.accept(shown["command"])
            elif accepted:
                editor.tell(identifier, "partlyAccepted", len(accepted))
        typing = accepted or next_key(todo)
        editor.change(uri, position(before), position(before), typing)
        before, todo = before + typing, todo[len(typing) :]
    for completion in (await editor.statistics())["completions"]:
        if completion["id"] in named:
            named[completion["id"]].confidence = completion["confidence"]
            named[completion["id"]].outcome = completion["outcome"]
    editor.close(uri)
    session.lines[place.language] += place.todo.count("\n") + 1
    session.characters[place.language] += counted(place.todo)


def _judged(line: int, package: str, place: Place, before: str, text: str, todo: str) -> Suggestion:
    alike = difflib.SequenceMatcher(None, text, todo[: len(text)], autojunk=False).ratio()
    kind = kind_of(before, place)
    return Suggestion(line, package, place.language, kind, text, is_right(text, todo), 0, alike, 0.0)


def kind_of(before: str, place: Place) -> str:
    """One of KINDS."""
    line = before[before.rfind("\n") + 1 :]
    if place.language == "python" and len(DOCSTRING.findall(before)) % 2:
        return "docstring"
    mark = COMMENT.get(place.language, "//")
    if line.lstrip().startswith(mark) or f" {mark}" in line:
        return "comment"
    if line.strip():
        return "inside"
    return "after a block opener" if place.opens and before == place.before else "line start"


# ---------------------------------------------------------------- figures


def figures(session: Session) -> list[Figures]:
    """Of all, by kind of place, by language. A kind's ratio is its part of the whole one."""
    shown, languages = session.suggestions, list(session.lines)
    parts = [_figures(session, "all", languages, shown)]
    parts += [_figures(session, kind, languages, [one for one in shown if one.kind == kind]) for kind in KINDS]
    for language in languages if len(languages) > 1 else ():
        parts.append(_figures(session, language, [language], [one for one in shown if one.language == language]))
    return parts


def _figures(session: Session, part: str, languages: list[str], shown: list[Suggestion]) -> Figures:
    lines = sum(session.lines[language] for language in languages)
    right = sum(one.right for one in shown)
    return Figures(
        name=session.name,
        part=part,
        lines=lines,
        ratio=sum(one.accepted for one in shown) / max(1, sum(session.characters[language] for language in languages)),
        precision=right / max(1, len(shown)),
        shown=len(shown) / max(1, lines),
        wrong=(len(shown) - right) / max(1, lines),
        partly=sum(bool(one.accepted) and not one.right for one in shown) / max(1, lines),
        helped=len({one.line for one in shown if one.right}) / max(1, lines),
        similarity=sum(one.similarity for one in shown) / max(1, len(shown)),
    )


def effects(sessions: Sequence[Session]) -> list[Effect]:
    """Of each rule that a session was typed without, against the first session, which has all of them."""
    first, made = sessions[0], []
    for session in sessions:
        if session.name.startswith(WITHOUT):
            whole = figures(session)[0]
            instead, kept_away = _only(first, session), _only(session, first)
            made.append(
                Effect(
                    rule=session.name.removeprefix(WITHOUT),
                    instead=len(instead),
                    instead_right=sum(one.right for one in instead),
                    kept_away=len(kept_away),
                    kept_away_right=sum(one.right for one in kept_away),
                    ratio=whole.ratio,
                    precision=whole.precision,
                )
            )
    return made


def _only(session: Session, other: Session) -> list[Suggestion]:
    """What was shown in one session and not in the other on the same line."""
    known = {(one.line, one.text) for one in other.suggestions}
    return [one for one in session.suggestions if (one.line, one.text) not in known]


def run(choice: Choice, workspaces: Sequence[Workspace], ways: Sequence[Way]) -> list[Session]:
    """Every way in turn, with progress on stderr. Raises EngineError."""
    from tqdm import tqdm

    lines = sum(place.todo.count("\n") + 1 for workspace in workspaces for place in workspace.places)
    sessions = []
    for way in ways:
        with tqdm(total=lines, desc=way.name, unit="line", disable=None) as bar:
            sessions.append(asyncio.run(typed(way, choice, workspaces, bar.update)))
    return sessions


def report(model: str, seed: int, sessions: Sequence[Session]) -> Report:
    """Latencies are those of a server without deadlines. A line without suggestions is nothing saved and nothing in the
    way.
    """
    spent = {session.name: times(session.reply_ms) for session in sessions}
    made = effects(sessions)
    data = {
        "seed": seed,
        "model": model,
        "figures": [row for session in sessions for row in figures(session)],
        "effects": made,
        "reply_ms": spent,
        "suggestions": {session.name: session.suggestions for session in sessions},
    }
    shown: list[str | list[Row]] = [f"{model}, seed {seed}"]
    for session in sessions:
        its = spent[session.name]
        shown.append(f"\n{session.name}: {session.keys} keys, {its.p50:.1f} ms, 95 % {its.p95:.1f} ms")
        shown.append([row.row() for row in figures(session)])
    shown += ["", [effect.row() for effect in made]] if made else []
    shown.append(
        "\nnothing shown: ratio 0, shown 0; shown, wrong and partly accepted are a line's, helped is a share of lines"
    )
    return Report(data, shown)


def plot(sessions: Sequence[Session], path: Path) -> None:
    """Precision over what is saved as PNG: of the suggestions that were shown, the surest first."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for session in sessions:
        characters, right, saved, curve = sum(session.characters.values()), 0, 0, []
        for count, one in enumerate(sorted(session.suggestions, key=lambda one: -one.confidence), 1):
            right, saved = right + one.right, saved + one.accepted
            curve.append((saved / characters, right / count))
        axes.plot(*zip(*curve[9:], strict=True) if len(curve) > 9 else ([], []), label=session.name)
    axes.set(xlabel="completed-code ratio", ylabel="precision", ylim=(0, 1), xlim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")
