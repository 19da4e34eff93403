"""People typing: source files are typed again as an editor shows them, key by key.

A scenario is a way of typing. Auto-closed brackets and quotes stand right of the cursor until they are typed over, a
new line comes with its indentation, a wrong character is noticed a few keys later and taken back, a suggestion that
is right is accepted whole or by its first word, and a jump goes on at another place, of another file where there is
one. Keys come in bursts with pauses between them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

import msgspec

PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}
LINES = 12  # typed at one place of a file
LEAST = 2  # characters that are worth a key that accepts them
WORD = re.compile(r"\s*(\w+|[^\w\s]+)")


class TypedFile(msgspec.Struct, frozen=True):
    """A file that is typed again, and its path as the model is told it."""

    path: str
    text: str


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds between keys, and how likely a key is followed by a pause, a slip, an acceptance of what is
    right. The places are gone through so many times, with a part of the lines typed at each."""

    name: str
    key_ms: tuple[float, float] = (60, 140)
    pause: float = 0.05
    pause_ms: tuple[float, float] = (400, 2000)
    slip: float = 0.0
    accept: float = 0.0
    accept_word: float = 0.0
    places: int = 1
    rounds: int = 1


SCENARIOS = (
    Scenario(name="steady"),
    Scenario(name="bursts", key_ms=(15, 60), pause=0.08),
    Scenario(name="corrections", slip=0.06),
    Scenario(name="jumps", places=4),
    Scenario(name="back and forth", places=2, rounds=4),
    Scenario(name="accepting", accept=0.6, accept_word=0.6, places=3),
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

    def __init__(self, before: str, todo: str, after: str, path: str = "") -> None:
        self.before, self.todo, self.after, self.path = before, todo, after, path

    def press(self, key: Key) -> None:
        self.before = self.before[: len(self.before) - key.take] + key.left
        self.after = key.right + self.after
        self.before, self.after = self.before + self.after[: key.over], self.after[key.over :]


class Typist:
    """Types at one place after another; `pressed` yields the keys, and looks at the suggestion that is shown then."""

    def __init__(self, scenario: Scenario, sources: Sequence[TypedFile], lines: int = LINES, seed: int = 0) -> None:
        self.scenario, self.dice = scenario, random.Random(f"{scenario.name} {seed}")
        self.sources, self.lines = sources, lines
        self.suggestion = ""  # set by who shows it
        self.screen = Screen("", "", "")

    def pressed(self) -> Iterator[Key | None]:
        """Keys; None where the cursor has jumped and `screen` is another, or one from before."""
        first = self.dice.randrange(len(self.sources))
        places = range(first, first + self.scenario.places)
        screens = [self._place(self.sources[place % len(self.sources)]) for place in places]
        for turn in range(self.scenario.rounds, 0, -1):
            for screen in screens:
                self.screen, self.suggestion = screen, ""
                yield None
                left = screen.todo.count("\n") * (turn - 1) // turn  # lines for the next turns
                while screen.todo and (turn == 1 or screen.todo.count("\n") > left):
                    yield from self._next()

    def _place(self, source: TypedFile) -> Screen:
        lines = source.text.split("\n")
        first = self.dice.randrange(max(1, len(lines) - self.lines))
        typed = "\n".join(lines[first : first + self.lines])
        before, after = "\n".join([*lines[:first], ""]), "\n".join(["", *lines[first + self.lines :]])
        return Screen(before, typed, after, source.path)

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


# ---------------------------------------------------------------- suggestions


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
