"""Somebody typing: a text is typed again as an editor shows it, key by key.

Auto-closed brackets and quotes stand right of the cursor until they are typed over, a new line comes with its
indentation, a wrong character is noticed a few keys later and taken back, and a suggestion that is right may be
accepted.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator

PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}
LINES = 12  # typed at one place of a text
KEY_MS, JUMP_MS = (100, 300), 300  # between keys, five a second; at a new place before the first
SLIP, ACCEPT = 0.03, 0.3  # how likely a wrong character is, and that a right suggestion is accepted
LEAST = 2  # characters that are worth a key that accepts them
WORD = re.compile(r"\s*(\w+|[^\w\s]+)")


class Typist:
    """Types at one place of a text after another. `before` and `after` stand around the cursor, `todo` is still to be
    typed; `suggestion` is set by who shows it.
    """

    def __init__(self, text: str, seed: int = 0, lines: int = LINES) -> None:
        self.lines, self.typed, self.dice = text.split("\n"), lines, random.Random(seed)
        self.before = self.todo = self.after = self.suggestion = ""

    def pressed(self) -> Iterator[float]:
        """Press keys for ever; after each, and after a jump to another place, the milliseconds until the next."""
        while True:
            self._jump()
            yield JUMP_MS
            while self.todo:
                yield from self._next()

    def _jump(self) -> None:
        first = self.dice.randrange(max(1, len(self.lines) - self.typed))
        self.before = "\n".join([*self.lines[:first], ""])
        self.todo = "\n".join(self.lines[first : first + self.typed])
        self.after = "\n".join(["", *self.lines[first + self.typed :]])
        self.suggestion = ""

    def _next(self) -> Iterator[float]:
        dice = self.dice
        if self.suggestion and self.todo.startswith(self.suggestion) and dice.random() < ACCEPT:
            self._type(self.suggestion)
        elif dice.random() < SLIP:
            slips = dice.randint(1, 3)
            for _ in range(slips):
                self.before += dice.choice(string.ascii_lowercase)
                yield dice.uniform(*KEY_MS)
            for _ in range(slips):
                self.before = self.before[:-1]
                yield dice.uniform(*KEY_MS)
            return
        else:
            self._type(next_key(self.todo))
        yield dice.uniform(*KEY_MS)

    def _type(self, text: str) -> None:
        """An opening character brings its closing one, which is then typed over."""
        self.todo = self.todo[len(text) :]
        self.before += text
        if len(text) == 1 and self.after.startswith(text) and text in PAIRS.values():
            self.after = self.after[1:]
        elif not self.after.partition("\n")[0].strip(")]}\"'"):
            self.after = PAIRS.get(text, "") + self.after


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
