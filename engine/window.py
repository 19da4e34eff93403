"""What the model sees of a text: the context, which lives on in the KV memory, and the lead, which one request throws away.

    context   <bos> [<path> …] <suf> following lines <pre> prefix up to the last word
    lead      end of the last word <rol> rest of the line <mid>

Order and window are made for typing. The following lines come first because they rarely change; the prefix only grows; the rest of the line is
volatile and comes last. The window's start is a function of the text alone, so equal requests see equal windows whatever came before, and it stays put
while the text grows: of the lines at which the prefix would fill between three quarters of its budget and all of it, the one with the smallest
checksum (winnowing, Schleimer et al. 2003) stays the smallest until the window has moved past it.
"""

from __future__ import annotations

import bisect
import itertools
import zlib

import msgspec

from engine.contract import FillRequest
from engine.tokenizer import BLOCK, BOS, MID, PATH, PRE, ROL, SUF, Tokenizer

PATH_TOKENS = 16
REST_TOKENS = 24
FOLLOWING_SHARE = 0.25
STEP = (
    64  # tokens: short prefixes lend their room to the following lines in steps, so that a keystroke seldom moves them
)


class Prompt(msgspec.Struct, frozen=True):
    """`newline` tells that the fill is a line of its own before the text that stands at the cursor."""

    context: list[int]
    lead: list[int]
    newline: bool


def prompt(request: FillRequest, tokenizer: Tokenizer, budget: int) -> Prompt:
    """`budget` is the most tokens of context."""
    prefix = request.prefix.replace("\r\n", "\n")
    rest, newline, following = _after_cursor(prefix, request.suffix.replace("\r\n", "\n"))
    head = [BOS]
    if request.path:
        path = "/".join(request.path.replace("\\", "/").split("/")[-3:])
        head += [PATH, *tokenizer.encode(path)[:PATH_TOKENS]]
    room = budget - len(head) - 2
    share = int(room * FOLLOWING_SHARE)
    lines = _recent_lines(prefix, tokenizer, room - share)
    spare = (room - share - sum(map(len, lines))) // STEP * STEP
    context = [*head, SUF, *_first(following, tokenizer, share + max(0, spare)), PRE]
    last = lines.pop() if lines else ()
    context += [token for line in lines for token in line]
    kept = max(0, len(last) - 1)  # all but the last token stay as they are, whatever is typed next
    middle = MID if request.max_lines == 1 or request.max_lines is None else BLOCK
    lead = [*last[kept:], ROL, *tokenizer.encode(rest)[:REST_TOKENS], middle]
    return Prompt([*context, *last[:kept]], lead, newline)


def _after_cursor(prefix: str, suffix: str) -> tuple[str, bool, str]:
    """Rest of the line, whether the fill is a line of its own, following lines with the newline before them.

    At the start of a line that has text, what is missing is a line before it: an editor's cursor would be on an empty line there.
    """
    rest, newline, following = suffix.partition("\n")
    if rest.strip() and (not prefix or prefix.endswith("\n")):
        return "", True, "\n" + suffix
    return rest, False, newline + following


def _recent_lines(prefix: str, tokenizer: Tokenizer, budget: int) -> list[tuple[int, ...]]:
    """The tokens of the prefix's last lines, as many as the window holds, the cursor's line last."""
    text = prefix[-budget * 12 :]  # characters: no line need be encoded that cannot be seen
    lines = tokenizer.encode_lines(text if len(text) == len(prefix) else text[max(0, text.find("\n")) :])
    used = list(itertools.accumulate(map(len, reversed(lines))))  # by the last 1, 2, … lines
    fitting = bisect.bisect_right(used, budget)
    if fitting == len(lines):
        return lines
    if fitting == 0:  # one line longer than the window
        return [lines[-1][-budget:]]
    enough = min(fitting, bisect.bisect_left(used, budget * 3 // 4) + 1)
    return lines[-min(range(enough, fitting + 1), key=lambda count: _checksum(lines[-count:][:2])) :]


def _checksum(lines: list[tuple[int, ...]]) -> int:
    return zlib.crc32(repr(lines).encode())


def _first(text: str, tokenizer: Tokenizer, budget: int) -> list[int]:
    return tokenizer.encode(text[: budget * 12])[:budget]
