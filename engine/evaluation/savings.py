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
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.contract import EngineError
from engine.evaluation import baselines
from engine.evaluation.editor import SERVER, Editor, position
from engine.evaluation.latency import Times, times
from engine.evaluation.places import Place, Workspace
from engine.options import Choice

WITHOUT = "without "
LEAST = 2  # characters that are worth a key that accepts them
UNHURRIED = {"deadlineAutomaticMs": 60_000, "deadlineInvokedMs": 60_000}
WORD = re.compile(r"\s*(\w+|[^\w\s]+)")
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
    lines: dict[str, int] = {}  # by language
    characters: dict[str, int] = {}
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


class Effect(msgspec.Struct):
    """What a filter is good for, against the same lines without it: the suggestions that are shown with and only with
    it, and without and only without it, how many of each are right, and the ratio and the precision without it.
    """

    filter: str
    instead: int
    instead_right: int
    kept_away: int
    kept_away_right: int
    ratio: float
    precision: float


class Way(NamedTuple):
    """A kind of suggestions: a server, and its options."""

    name: str
    command: tuple[str, ...]
    options: dict[str, Json]


def ways(options: dict[str, Json], with_baselines: bool, without: Sequence[str], with_index: bool = False) -> list[Way]:
    """The server on the open files; with the index of the workspace; its parts alone; without a filter at a time.

    Raises EngineError where there is no such filter.
    """
    known = baselines.filters() if without else []
    without = known if list(without) == ["all"] else without
    if unknown := [name for name in without if name not in known]:
        raise EngineError(f"no filter {', '.join(unknown)}: there are {', '.join(known)}")
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
    _count(session.lines, place.language, place.todo.count("\n") + 1)
    _count(session.characters, place.language, counted(place.todo))


def _count(counts: dict[str, int], language: str, more: int) -> None:
    counts[language] = counts.get(language, 0) + more


def acceptable(text: str, todo: str) -> str:
    """What a typist takes of a suggestion: all of it, or its right words from the beginning on; nothing so short that
    it is as well typed.
    """
    end = len(text) if is_right(text, todo) else 0
    for word in () if end else WORD.finditer(text):
        if not is_right(text[: word.end()], todo):
            break
        end = word.end()
    return text[:end] if counted(text[:end]) >= LEAST else ""


def is_right(text: str, todo: str) -> bool:
    """Whether a text is a beginning of what is to be typed, and ends no word too early."""
    goes_on = todo[len(text) :][:1]
    inside_word = (text[-1:].isalnum() or text[-1:] == "_") and (goes_on.isalnum() or goes_on == "_")
    return bool(text.strip()) and todo.startswith(text) and not inside_word


def counted(text: str) -> int:
    """Characters, without the line ends and indentations, which the editor types."""
    return len(re.sub(r"\n[ \t]*", "", text))


def next_key(todo: str) -> str:
    """A character; a line end comes with the indentation after it."""
    line_end = re.match(r"\n[ \t]*", todo)
    return line_end.group() if line_end else todo[0]


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
    """Of each filter that a session was typed without, against the first session, which has all of them."""
    first, made = sessions[0], []
    for session in sessions:
        if session.name.startswith(WITHOUT):
            whole = figures(session)[0]
            instead, kept_away = _only(first, session), _only(session, first)
            made.append(
                Effect(
                    filter=session.name.removeprefix(WITHOUT),
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


class Report(msgspec.Struct):
    """All of a run, for `--json`. Latencies are those of a server without deadlines."""

    seed: int
    model: str
    figures: list[Figures]
    effects: list[Effect]
    reply_ms: dict[str, Times]
    suggestions: dict[str, list[Suggestion]]


def run(choice: Choice, workspaces: Sequence[Workspace], ways: Sequence[Way]) -> list[Session]:
    """Every way in turn, with progress on stderr. Raises EngineError."""
    from tqdm import tqdm

    lines = sum(place.todo.count("\n") + 1 for workspace in workspaces for place in workspace.places)
    sessions = []
    for way in ways:
        with tqdm(total=lines, desc=way.name, unit="line", disable=None) as bar:
            sessions.append(asyncio.run(typed(way, choice, workspaces, bar.update)))
    return sessions


def print_report(model: str, seed: int, sessions: Sequence[Session]) -> None:
    """As a table. A line without suggestions is nothing saved and nothing in the way."""
    print(f"{model}, seed {seed}")
    head = f"{'':24}{'lines':>7}{'ratio':>8}{'prec.':>7}{'shown':>8}{'wrong':>8}{'partly':>8}{'helped':>8}{'alike':>7}"
    for session in sessions:
        spent = times(session.reply_ms)
        print(f"\n{session.name}: {session.keys} keys, {spent.p50:.1f} ms, 95 % {spent.p95:.1f} ms\n{head}")
        for row in figures(session):
            print(
                f"{row.part:24}{row.lines:7}{row.ratio:8.3f}{row.precision:7.2f}{row.shown:8.2f}{row.wrong:8.2f}"
                f"{row.partly:8.2f}{row.helped:8.2f}{row.similarity:7.2f}"
            )
    print_effects(sessions)
    print(
        "\nnothing shown: ratio 0, shown 0; shown, wrong and partly accepted are a line's, helped is a share of lines"
    )


def print_effects(sessions: Sequence[Session]) -> None:
    made = effects(sessions)
    if made:
        names = "instead", "right", "kept away", "right", "ratio without", "precision without"
        print(f"\n{'filter':26}" + "".join(f"{name:>19}" for name in names))
    for one in made:
        counts = one.instead, one.instead_right, one.kept_away, one.kept_away_right
        print(f"{one.filter:26}" + "".join(f"{n:19}" for n in counts) + f"{one.ratio:19.3f}{one.precision:19.2f}")


def print_json(model: str, seed: int, sessions: Sequence[Session]) -> None:
    report = Report(
        seed=seed,
        model=model,
        figures=[row for session in sessions for row in figures(session)],
        effects=effects(sessions),
        reply_ms={session.name: times(session.reply_ms) for session in sessions},
        suggestions={session.name: session.suggestions for session in sessions},
    )
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")


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
