"""What the model sees of a text: the context, which lives on in the KV cache, and the uncached tail, which one request
throws away.

    context         <bos> [<path> … snippet]* [<path> …] <suf> following lines <pre> prefix up to the last word
    uncached tail   end of the last word [<rol> rest of the line] <mid>

Order and window are made for typing. The following lines come first because they rarely change; the prefix only
grows; the rest of the line is volatile and comes last. The window's start is a function of the text alone, so equal
requests see equal windows whatever came before, and it stays put while the text grows: of the lines at which the
prefix would fill between three quarters of its budget and all of it, the one with the smallest checksum (winnowing,
Schleimer et al. 2003) stays the smallest until the window has moved past it.

base, whose authors trained it to read what follows first, has the rest of the line before the cursor's line, in the
same way, and none where that is empty; nothing of it is thrown away:

    <bos> [<path> … snippet]* [<path> …] <suf> following lines <pre> lines above [<rol> rest of the line <mid>] the line

Snippets of other files come first. They are chosen by the lines above the cursor's, so that they stay while a line is
typed: whatever changes there has the whole context read again.
"""

from __future__ import annotations

import bisect
import itertools
import zlib
from functools import lru_cache

import msgspec

from engine.contract import FillRequest
from engine.retrieval.snippets import snippets
from engine.tokenizer import BLOCK, BOS, MID, PATH, PRE, ROL, SUF, Tokenizer

PATH_TOKENS = 16
REST_TOKENS = 24
FOLLOWING_SHARE = 0.25
SNIPPETS_SHARE, SNIPPET_CHARACTERS = 0.25, 3  # characters a token, about
CHARACTERS = 12  # a token has at most so many on average: what is further away is out of the window
LINE = 32  # tokens: room for the cursor's line is set aside in steps of this
STEP = 64  # tokens: short prefixes lend their room to the following lines in steps of this


class Prompt(msgspec.Struct, frozen=True):
    """`newline` tells that the fill is a line of its own before the text that stands at the cursor; `blank` is the
    blank before the cursor that the fill begins with, if it does (see Tokenizer.split_blank).
    """

    context: list[int]
    uncached_tail: list[int]
    newline: bool
    blank: str


def prompt(request: FillRequest, tokenizer: Tokenizer, budget: int, rest_first: bool = False) -> Prompt:
    """`budget` is the most tokens of context, `rest_first` whether the line's rest stands before the line."""
    prefix, blank = tokenizer.split_blank(request.prefix)
    rest, newline, following = after_cursor(request.prefix, request.suffix[: budget * CHARACTERS])
    if tokenizer.ended and rest:
        rest += following[:1]
    head = [BOS]
    if request.snippets:
        head += shown(request.prefix[: request.prefix.rfind("\n") + 1], request, tokenizer, budget)
    if request.path:
        head += _path(request.path, tokenizer)
    room = budget - len(head) - 2
    share = int(room * FOLLOWING_SHARE)
    *above, line = _last_lines(prefix, tokenizer, room - share)
    line = line[share - room :]
    left = room - share - (len(line) // LINE + 1) * LINE
    above = _window(above, left)
    spare = (left - sum(map(len, above))) // STEP * STEP
    following_tokens = tokenizer.encode(following[: room * CHARACTERS])[: share + max(0, spare)]
    if rest_first:
        marked = [ROL, *tokenizer.encode(rest)[:REST_TOKENS], MID] if rest.strip() else []
        written = [token for tokens in (*above, marked, line) for token in tokens]
        context = [*head, SUF, *following_tokens, PRE, *written]
        return Prompt(context[:-1], context[-1:], newline, blank)
    written = [token for tokens in (*above, line) for token in tokens]
    middle = BLOCK if request.max_lines is not None and request.max_lines > 1 else MID
    marked = [ROL, *tokenizer.encode(rest)[:REST_TOKENS]] if rest else []
    uncached_tail = [*written[-1:], *marked, middle]
    return Prompt([*head, SUF, *following_tokens, PRE, *written[:-1]], uncached_tail, newline, blank)


def shown(above: str, request: FillRequest, tokenizer: Tokenizer, budget: int) -> list[int]:
    """Snippets for the line below `above`, of the request's indexes, each with its path."""
    room, tokens = int(budget * SNIPPETS_SHARE), list[int]()
    seen = FillRequest(prefix=above, files=request.files, indexes=request.indexes)
    for snippet in _snippets(seen, room * SNIPPET_CHARACTERS):
        piece = [*_path(snippet.source.path, tokenizer), *tokenizer.encode(snippet.text)]
        if len(tokens) + len(piece) <= room:
            tokens += piece
    return tokens


_snippets = lru_cache(maxsize=4)(snippets)  # asked for at every key, but the line is a new one seldom


def _path(path: str, tokenizer: Tokenizer) -> list[int]:
    return [PATH, *tokenizer.encode("/".join(path.replace("\\", "/").split("/")[-3:]))[:PATH_TOKENS]]


def after_cursor(prefix: str, suffix: str) -> tuple[str, bool, str]:
    """Rest of the line, whether the fill is a line of its own, following lines with the newline before them.

    At the start of a line that has text, what is missing is a line before it: an editor's cursor would be on an empty
    line there.
    """
    rest, newline, following = suffix.partition("\n")
    if rest.strip() and (not prefix or prefix.endswith("\n")):
        return "", True, "\n" + suffix
    return rest, False, newline + following


def _last_lines(prefix: str, tokenizer: Tokenizer, budget: int) -> list[tuple[int, ...]]:
    """The tokens of the last lines, more of them than the window holds; the cursor's comes last, if it is empty too."""
    text = prefix[-budget * CHARACTERS :]
    whole = text if len(text) == len(prefix) else text[max(0, text.find("\n") + tokenizer.ended) :]
    lines = tokenizer.encode_lines(whole)
    return [*lines, ()] if not lines or (tokenizer.ended and whole.endswith("\n")) else lines


def _window(lines: list[tuple[int, ...]], budget: int) -> list[tuple[int, ...]]:
    """As many of the last lines as the budget of tokens holds, or some fewer, for a start that stays put."""
    used = list(itertools.accumulate(map(len, reversed(lines))))  # by the last 1, 2, … lines
    fitting = bisect.bisect_right(used, budget)
    if fitting in (0, len(lines)):
        return lines[len(lines) - fitting :]
    enough = min(fitting, bisect.bisect_left(used, budget * 3 // 4) + 1)
    return lines[-min(range(enough, fitting + 1), key=lambda count: zlib.crc32(repr(lines[-count:][:2]).encode())) :]
