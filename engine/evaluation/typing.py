"""People typing: a source file is typed again as an editor shows it, key by key, and a completion is asked for at each.

A scenario is a way of typing. Auto-closed brackets and quotes stand right of the cursor until they are typed over, a
new line comes with its indentation, a wrong character is noticed a few keys later and taken back, a suggestion that
is right is accepted whole or by its first word, and a jump goes on at another place of the file. Keys come in bursts
with pauses: a request that is not answered before the next key is cancelled, as an editor does. Nothing sleeps; the
time to the next key only decides what is cancelled.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from engine import Cancelled, Engine, FillRequest
from engine.evaluation.latency import Times, read, times

PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}
LINES = 12  # typed at one place of a file


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds between keys, and how likely a key is followed by a pause, a slip, an acceptance of what is
    right."""

    name: str
    key_ms: tuple[float, float] = (60, 140)
    pause: float = 0.05
    pause_ms: tuple[float, float] = (400, 2000)
    slip: float = 0.0
    accept: float = 0.0
    accept_word: float = 0.0
    places: int = 1  # of the file, jumped between


SCENARIOS = (
    Scenario(name="steady"),
    Scenario(name="bursts", key_ms=(15, 60), pause=0.08),
    Scenario(name="corrections", slip=0.06),
    Scenario(name="jumps", places=4),
    Scenario(name="accepting", accept=0.4, accept_word=0.3),
)


class Key(msgspec.Struct, frozen=True):
    """An edit at the cursor, and how long it is until the next one: `take` characters left of the cursor go, `left` and
    `right` come left and right of it, then it moves right by `over` characters that stand there already."""

    wait_ms: float
    take: int = 0
    left: str = ""
    right: str = ""
    over: int = 0


class Screen:
    """A text with a cursor, and what of it is still to be typed."""

    def __init__(self, before: str, todo: str, after: str) -> None:
        self.before, self.todo, self.after = before, todo, after

    def press(self, key: Key) -> None:
        self.before = self.before[: len(self.before) - key.take] + key.left
        self.after = key.right + self.after
        self.before, self.after = self.before + self.after[: key.over], self.after[key.over :]


class Typist:
    """Types one place after another; `pressed` yields the keys, and looks at the suggestion that is shown then."""

    def __init__(self, scenario: Scenario, text: str, seed: int = 0) -> None:
        self.scenario, self.dice = scenario, random.Random(f"{scenario.name} {seed}")
        self.lines = text.split("\n")
        self.suggestion = ""  # set by who shows it
        self.screen = Screen("", "", text)

    def pressed(self) -> Iterator[Key | None]:
        """Keys; None where the cursor has jumped and `screen` is another."""
        for _ in range(self.scenario.places):
            first = self.dice.randrange(max(1, len(self.lines) - LINES))
            typed = "\n".join(self.lines[first : first + LINES])
            before, after = "\n".join([*self.lines[:first], ""]), "\n".join(["", *self.lines[first + LINES :]])
            self.screen, self.suggestion = Screen(before, typed, after), ""
            yield None
            while self.screen.todo:
                yield from self._next()

    def _next(self) -> Iterator[Key]:
        screen, dice, scenario = self.screen, self.dice, self.scenario
        word = self.suggestion.partition(" ")[0] or self.suggestion
        if self._right(self.suggestion) and dice.random() < scenario.accept:
            yield self._typed(self.suggestion)
        elif self._right(word) and dice.random() < scenario.accept_word:
            yield self._typed(word)
        elif dice.random() < scenario.slip:
            slips = dice.randint(1, 3)
            for _ in range(slips):
                yield Key(self._wait(), left=dice.choice("abcdefghijklmnopqrstuvwxyz"))
            for _ in range(slips):
                yield Key(self._wait(), take=1)
        elif screen.todo[0] == "\n":
            indent = len(screen.todo) - len(screen.todo[1:].lstrip(" ")) - 1
            yield self._typed(screen.todo[: 1 + indent])
        else:
            yield self._typed(screen.todo[0])

    def _right(self, text: str) -> bool:
        return bool(text) and self.screen.todo.startswith(text)

    def _typed(self, text: str) -> Key:
        """The key that types the next characters; an opening one brings its closing one, which is then typed over."""
        screen = self.screen
        screen.todo = screen.todo[len(text) :]
        if len(text) == 1 and screen.after.startswith(text) and text in PAIRS.values():
            return Key(self._wait(), over=1)
        free = not screen.after.partition("\n")[0].strip(")]}\"'")
        return Key(self._wait(), left=text, right=PAIRS.get(text, "") if free else "")

    def _wait(self) -> float:
        pause = self.dice.random() < self.scenario.pause
        return self.dice.uniform(*(self.scenario.pause_ms if pause else self.scenario.key_ms))


class Replay(msgspec.Struct):
    """What a scenario cost. `encoded` and `reused` are tokens of context a request."""

    scenario: str
    keys: int
    request_ms: Times
    passes: float
    encoded: float
    reused: float
    cancelled: int
    shown: int
    accepted_characters: int
    cpu_seconds_per_1000_keys: float
    histogram: list[float]


def replay(engine: Engine, scenario: Scenario, text: str, path: str) -> Replay:
    typist = Typist(scenario, text)
    spent, fills, keys, cancelled, accepted = [], [], 0, 0, 0
    cpu = time.process_time()
    for key in typist.pressed():
        screen = typist.screen
        if key is not None:
            accepted += len(key.left) if len(key.left) > 1 and key.left.strip() else 0
            screen.press(key)
            keys += 1
        cancel = threading.Event()
        timer = threading.Timer((key.wait_ms if key else 1000) / 1000, cancel.set)
        timer.start()
        start = time.perf_counter()
        typist.suggestion = ""
        try:
            fill = engine.fill(request(screen, path), cancel)
            typist.suggestion = fill.text
            fills.append(fill)
        except Cancelled:
            cancelled += 1
        spent.append((time.perf_counter() - start) * 1000)
        timer.cancel()
    return Replay(
        scenario=scenario.name,
        keys=keys,
        request_ms=times(spent),
        passes=float(np.mean([fill.passes for fill in fills])),
        encoded=float(np.mean([fill.encoded for fill in fills])),
        reused=float(np.mean([fill.reused for fill in fills])),
        cancelled=cancelled,
        shown=sum(bool(fill.text.strip()) for fill in fills),
        accepted_characters=accepted,
        cpu_seconds_per_1000_keys=(time.process_time() - cpu) / max(1, keys) * 1000,
        histogram=spent,
    )


def request(screen: Screen, path: str) -> FillRequest:
    return FillRequest(prefix=screen.before, suffix=screen.after, path=path, max_lines=1, deadline_ms=60)


def bench(model: str, file: Path, as_json: bool, picture: Path | None) -> None:
    engine, text = Engine.load(model), read(file)
    results = [replay(engine, scenario, text, file.name) for scenario in SCENARIOS]
    if picture:
        plot(results, picture)
    if as_json:
        sys.stdout.write(msgspec.json.encode(results).decode() + "\n")
    else:
        print_table(results)


def print_table(results: list[Replay]) -> None:
    print(
        f"{'scenario':12} keys   p50 ms   p95 ms   p99 ms  passes  encoded  reused  cancelled  shown  CPU s/1000 keys"
    )
    for one in results:
        t = one.request_ms
        print(
            f"{one.scenario:12}{one.keys:5} {t.p50:8.1f} {t.p95:8.1f} {t.p99:8.1f} {one.passes:7.2f} {one.encoded:8.1f}"
            f" {one.reused:7.0f} {one.cancelled:10} {one.shown:6} {one.cpu_seconds_per_1000_keys:16.1f}"
        )


def plot(results: list[Replay], path: Path) -> None:
    """A latency histogram of all scenarios as PNG; needs matplotlib, of the training extra."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    spans = np.linspace(0, 100, 51)
    axes.hist(
        [one.histogram for one in results], bins=list(spans), stacked=True, label=[one.scenario for one in results]
    )
    axes.set(xlabel="milliseconds from request to reply", ylabel="keys")
    axes.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")
