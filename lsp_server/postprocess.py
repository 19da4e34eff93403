"""What of a fill could be shown: not what stands around the cursor already, no blank lines at the end, no bracket that
it does not close.

What else is wrong is for the gate to keep away. `python -m engine eval typing --without all` tells what each of these
rules keeps away, and ratio and precision without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from engine import Fill
from engine.languages import NAMES
from lsp_server.cursor import CursorContext, is_word

Rule: TypeAlias = Callable[[str, CursorContext], str]

PAIRS = {")": "(", "]": "[", "}": "{"}
QUOTES = "\"'`"
GOES_ON = ("(", "[", "{", ",")
LEARNED = frozenset(NAMES.values())  # languages
LIKELIER = 0.5
AGAIN = 3  # characters of a beginning
NAME = re.compile(r"[^\W\d]\w*")
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"?|\'(?:\\.|[^\'\\\n])*\'|`(?:\\.|[^`\\])*`?')  # or the beginning of one
WORDS_AGAIN = re.compile(r"\b([^\W\d]\w*(?: +\w+){1,5}) +\0 *\1\b")  # around the cursor, two words or a few more
LONG = 400  # characters of a line that are looked at


def postprocess(fill: Fill, gap: CursorContext) -> str:
    """What of the fill could be shown; empty where nothing is worth it."""
    return apply_rules(without_doubtful_lines(fill), gap)


def apply_rules(text: str, gap: CursorContext) -> str:
    """What is left of a text."""
    for rule in RULES:
        text = rule(text, gap).rstrip()
        if not text:
            return ""
    return text


def without_doubtful_lines(fill: Fill) -> str:
    """The first line that has text, and the next ones as far as all of it is likelier right than not."""
    if not fill.pieces:
        return fill.text
    lines = fill.text.split("\n")
    first = next((count for count, line in enumerate(lines, 1) if line.strip()), 1)
    for count in range(len(lines), first, -1):
        beginning = fill.before(len("\n".join(lines[:count])))
        if beginning.confidence >= LIKELIER:
            return beginning.text
    return "\n".join(lines[:first])


def without_rest_of_line(text: str, gap: CursorContext) -> str:
    """The text without its end, where that repeats what stands right of the cursor; one line where that goes on.

    The rest of the line as a whole is a repetition when it is not just a character or two; the beginning of it only
    where it is a closer or quote that nothing in the text opens: `foo(|)` filled with `x)`.
    """
    rest = gap.rest.strip()
    text = text.partition("\n")[0] if rest else text
    bare = text.rstrip()
    for length in range(min(len(rest), len(bare)), 0, -1):
        if not bare.endswith(rest[:length]):
            continue
        kept = bare[: len(bare) - length]
        if (length == len(rest) and length > 2 and balanced(kept)) or (not balanced(bare) and balanced(kept)):
            return kept
    return text


def without_lines_below(text: str, gap: CursorContext) -> str:
    """The text without its last lines, where these are the lines that stand below the cursor."""
    below = [line.rstrip() for line in gap.following.split("\n") if line.strip()]
    lines = text.rstrip().split("\n")
    whole = [(gap.head + lines[0]).rstrip(), *(line.rstrip() for line in lines[1:])]
    for count in range(min(len(lines), len(below)), 0, -1):
        if whole[-count:] == below[:count]:
            return "\n".join(lines[:-count])
    return text


def without_line_above(text: str, gap: CursorContext) -> str:
    """Nothing where the cursor's line would become the one above it over again."""
    first, goes_on, _ = text.partition("\n")
    line = gap.head + first + ("" if goes_on else gap.rest)
    above = gap.prefix.removesuffix(gap.head)[:-1].rpartition("\n")[2]
    return "" if line.rstrip() == above.rstrip() and NAME.search(line) else text


def without_line_again(text: str, gap: CursorContext) -> str:
    """Nothing where it begins the cursor's line once more, what of that a bracket still has open, or its last words:
    `import numpy as |` filled with `numpy as np`.
    """
    head = gap.head[:LONG]
    open_at = unclosed(head)
    beginning = head[: open_at[0] + 1 if open_at else None].strip()
    again = len(beginning) >= AGAIN and NAME.search(beginning) and text.lstrip().startswith(beginning)
    return "" if again or WORDS_AGAIN.search(f"{gap.head[-LONG:]}\0{text}") else text


def without_indentation_again(text: str, gap: CursorContext) -> str:
    """Where the user has indented the line, in a language that no model of ours has learned, not once more."""
    again = gap.language not in LEARNED and gap.head and not gap.head.strip()
    return text.lstrip(" \t") if again else text


def without_split_word(text: str, gap: CursorContext) -> str:
    """Nothing where its end would grow together with a word right of the cursor."""
    return "" if is_word(text[-1:]) and is_word(gap.rest[:1]) else text


def closed(text: str, gap: CursorContext) -> str:
    """The text before the first bracket that it opens and does not close. Where nothing stands right of the cursor, a
    line that ends within one goes on below; else a quote is closed too.
    """
    head, rest = gap.head[-LONG:], gap.rest[:LONG]
    own = [at - len(head) for at in unclosed(head + text) if at >= len(head)]
    if rest.strip():
        strings = ((one.start() - len(head), one.end() - len(head)) for one in STRING.finditer(head + text + rest))
        text = next((text[:start] for start, end in strings if 0 <= start < len(text) < end), text)
        own = [at for at in own if at < len(text)]
        more = len(unclosed(head + text + rest)) - len(unclosed(head + rest))
        own = own[max(0, len(own) - more) :]
    else:
        own = [at for at in own if not text[at:].partition("\n")[0].rstrip().endswith(GOES_ON)]
    return text[: own[0]] if own else text


def unclosed(text: str) -> list[int]:
    """Where the brackets are that nothing in the text closes."""
    left: list[int] = []
    text = STRING.sub(lambda found: " " * len(found.group()), text)  # blanks in the place of strings
    for at, character in enumerate(text):
        if character in PAIRS.values():
            left.append(at)
        elif left and text[left[-1]] == PAIRS.get(character):
            left.pop()
    return left


def balanced(text: str) -> bool:
    """Whether every closing bracket in the text has its opening one, and quotes come in pairs; literals count too."""
    open_brackets: list[str] = []
    for character in text:
        if character in PAIRS.values():
            open_brackets.append(character)
        elif character in PAIRS and (not open_brackets or open_brackets.pop() != PAIRS[character]):
            return False
    return all(text.count(quote) % 2 == 0 for quote in QUOTES)


RULES: tuple[Rule, ...] = (
    without_rest_of_line,
    without_lines_below,
    without_indentation_again,
    without_line_again,
    closed,
    without_line_above,
    without_split_word,
)
