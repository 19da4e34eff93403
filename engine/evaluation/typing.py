"""The typing replay: what people's typing costs, asked of the engine itself or of the language server as editors do.

On the engine nothing sleeps: a request that is not answered before the next key is cancelled. Over LSP keys come in
real time, for what the server does between them is part of the cost; of a pause only its beginning is waited for.
Two clients are played: VS Code asks some time after a key and cancels what is unanswered at the next; Neovim asks at
once and cancels nothing. A reply after the next key is late; if it has text, it and the key have crossed on their way,
and the editor must not show it.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from engine import Cancelled, Engine, FillRequest
from engine.evaluation.editor import Editor, EditorAnswer, Reply, position, reply
from engine.evaluation.places import read
from engine.evaluation.report import Meter, Report, Row, matrix_product_ms, times
from engine.evaluation.typist import SCENARIOS, Key, Screen, TypedFile, Typist
from engine.options import ModelChoice

FILES, LONG_ENOUGH = 8, 60  # of a corpus; lines
JUMP_MS, PAUSE_MS = 1000, 500  # time for the first request of a place; of a pause, what is waited for


class TypingClient(msgspec.Struct, frozen=True):
    """How an editor asks: how long after a key, and whether it cancels what is unanswered at the next."""

    name: str
    after_ms: float
    cancels: bool


CLIENTS = (TypingClient("VS Code", 50, True), TypingClient("Neovim", 0, False))


Work: TypeAlias = dict[str, float]  # what requests have cost; see lsp_server.completer.Work


class Replay(msgspec.Struct, kw_only=True):
    """What a scenario cost. `reply_ms` is of the replies before the next key, `memory_mb` the most resident."""

    client: str
    scenario: str
    work: Work = msgspec.field(default_factory=lambda: defaultdict(float))
    reply_ms: list[float] = []
    keys: int = 0
    late: int = 0
    crossed: int = 0
    shown: int = 0
    accepted_characters: int = 0
    cpu_seconds_per_1000_keys: float = 0.0
    memory_mb: float = 0.0

    def row(self) -> Row:
        """For a table. Passes, and tokens of context encoded and reused, are a request's."""
        spent, work = times(self.reply_ms), self.work
        requests = max(1, work["requests"])
        return {
            "client": self.client,
            "scenario": self.scenario,
            "keys": self.keys,
            "requests": work["requests"],
            "p50 ms": spent.p50,
            "p95 ms": spent.p95,
            "p99 ms": spent.p99,
            "passes": work["passes"] / requests,
            "encoded": work["encoded"] / requests,
            "reused": work["reused"] / requests,
            "hits": work["fromCache"],
            "joined": work["joined"],
            "prefetched": work["prefetched"],
            "cancelled": work["cancelled"],
            "wasted ms": work["wastedMs"],
            "late": self.late,
            "crossed": self.crossed,
            "shown": self.shown,
            "accepted": self.accepted_characters,
            "CPU s/1000 keys": self.cpu_seconds_per_1000_keys,
            "MB": self.memory_mb,
        }


def pressed(result: Replay, key: Key) -> None:
    result.keys += 1
    result.accepted_characters += len(key.left) if key.left.strip() and len(key.left) > 1 else 0


# ---------------------------------------------------------------- on the engine


def replay(engine: Engine, typist: Typist) -> Replay:
    result, meter = Replay(client="engine", scenario=typist.scenario.name), Meter(os.getpid())
    before = meter.cpu_seconds()
    for key in typist.pressed():
        if key is not None:
            typist.screen.press(key)
            pressed(result, key)
        cancel = threading.Event()
        timer = threading.Timer((key.wait_ms if key else JUMP_MS) / 1000, cancel.set)
        timer.start()
        typist.suggestion = _filled(engine, request(typist.screen), cancel, result)
        timer.cancel()
        result.memory_mb = max(result.memory_mb, meter.memory_mb())
    result.cpu_seconds_per_1000_keys = (meter.cpu_seconds() - before) / max(1, result.keys) * 1000
    return result


def request(screen: Screen) -> FillRequest:
    return FillRequest(prefix=screen.before, suffix=screen.after, path=screen.path, max_lines=1, deadline_ms=60)


def _filled(engine: Engine, asked: FillRequest, cancel: threading.Event, result: Replay) -> str:
    start, work = time.perf_counter(), result.work
    work["requests"] += 1
    try:
        fill = engine.fill(asked, cancel)
    except Cancelled:
        work["cancelled"] += 1
        work["wastedMs"] += (time.perf_counter() - start) * 1000
        result.late += 1
        return ""
    result.reply_ms.append((time.perf_counter() - start) * 1000)
    work["passes"] += fill.passes
    work["encoded"] += fill.encoded
    work["reused"] += fill.reused
    result.shown += bool(fill.text.strip())
    return fill.text


# ---------------------------------------------------------------- over LSP


async def replay_over_lsp(editor: Editor, client: TypingClient, typist: Typist) -> Replay:
    """Plays a scenario in real time on a server that has loaded its model."""
    result, meter = Replay(client=client.name, scenario=typist.scenario.name), Meter(editor.pid)
    cpu, before = meter.cpu_seconds(), await editor.work()
    opened, late, shown = dict[Screen, str](), list[EditorAnswer](), Reply(0)
    for key in typist.pressed():
        next_key = time.perf_counter() + (min(key.wait_ms, PAUSE_MS) if key else JUMP_MS) / 1000
        screen = typist.screen
        if screen not in opened:
            opened[screen] = f"file:///replay/{client.name}/{result.scenario}/{len(opened)}/{Path(screen.path).name}"
            editor.open(opened[screen], screen.before + screen.after)
        if key is not None:
            _press(editor, opened[screen], screen, key, shown)
            pressed(result, key)
        answer = await _asked(editor, client, opened[screen], screen, next_key)
        late += [answer] if answer and not answer.done() else []
        shown = _shown(answer, result)
        typist.suggestion = shown.text
        result.memory_mb = max(result.memory_mb, meter.memory_mb())
        await asyncio.sleep(next_key - time.perf_counter())
        if client.cancels and answer and not answer.done():
            editor.cancel(answer.number)
    result.late = len(late)
    for answer in late:
        result.crossed += bool(reply(await answer.future).text)
    result.cpu_seconds_per_1000_keys = (meter.cpu_seconds() - cpu) / max(1, result.keys) * 1000
    result.work = {name: count - before[name] for name, count in (await editor.work()).items()}
    return result


def _press(editor: Editor, uri: str, screen: Screen, key: Key, shown: Reply) -> None:
    """A key as a change, and that a suggestion was accepted."""
    start, end = position(screen.before[: len(screen.before) - key.take]), position(screen.before)
    if key.take or key.left or key.right:
        editor.change(uri, start, end, key.left + key.right)
    screen.press(key)
    if shown.text and key.left == shown.text:
        editor.accept(shown.command)


async def _asked(
    editor: Editor, client: TypingClient, uri: str, screen: Screen, next_key: float
) -> EditorAnswer | None:
    """A request, and its answer where that comes before the next key; none where the client would still wait."""
    if time.perf_counter() + client.after_ms / 1000 > next_key:
        return None
    await asyncio.sleep(client.after_ms / 1000)
    answer = editor.ask(uri, position(screen.before))
    await asyncio.wait({answer.future}, timeout=max(0.0, next_key - time.perf_counter()))
    return answer


def _shown(answer: EditorAnswer | None, result: Replay) -> Reply:
    """What there is to see until the next key."""
    if answer is None or not answer.done():
        return Reply(0)
    came = reply(answer.future.result())
    result.reply_ms.append((came.at - answer.asked) * 1000)
    result.shown += bool(came.text)
    return came


async def over_lsp(choice: ModelChoice, sources: Sequence[TypedFile], lines: int) -> list[Replay]:
    async with Editor.start(choice) as editor:
        await editor.loaded()
        return [
            await replay_over_lsp(editor, client, Typist(scenario, sources, lines))
            for client in CLIENTS
            for scenario in SCENARIOS
        ]


# ---------------------------------------------------------------- command line


def from_corpus(folder: Path, language: str = "python") -> list[TypedFile]:
    """Some files of a corpus in one language, the same each time. Raises EngineError where there is none."""
    corpus = read(folder)
    numbers = (number for number, file in enumerate(corpus.files) if file.language == language)
    files = (TypedFile(corpus.files[number].path, corpus.text(number)) for number in numbers)
    return random.Random(0).sample([file for file in files if file.text.count("\n") >= LONG_ENOUGH], FILES)


def played(choice: ModelChoice, sources: Sequence[TypedFile], lines: int, lsp: bool) -> list[Replay]:
    """All scenarios. Raises EngineError."""
    if lsp:
        return asyncio.run(over_lsp(choice, sources, lines))
    engine = choice.load()
    return [replay(engine, Typist(scenario, sources, lines)) for scenario in SCENARIOS]


def report(results: Sequence[Replay]) -> Report:
    product = matrix_product_ms()
    shown = {"matrix_product_ms": product, "replays": [result.row() for result in results]}
    return Report({"matrix_product_ms": product, "replays": results}, shown)
