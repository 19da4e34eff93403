"""What of a fill could be shown.

Each rule answers a complaint about other tools, and takes from a text what is worth nothing: blank lines at the end,
the closing bracket that the editor has already typed, the line that stands above or below already, a right line's wrong
successors, a block's head without its block, a bracket that it does not close, what cannot stand in its place. What
each is good for is measured by `python -m engine eval typing --without all`: what each keeps away, and ratio and
precision without it.
"""

from __future__ import annotations

import builtins
import re
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from engine import Fill
from engine.languages import NAMES
from engine.syntax import Unknown, breaks, budget
from lsp_server.cursor import Gap, is_word

Filter: TypeAlias = Callable[[str, Gap], str]

PAIRS = {")": "(", "]": "[", "}": "{"}
QUOTES = "\"'`"
IN_BRACES = frozenset(NAMES.values()) - {"python"}
OPENERS = (":", "(", "[", "{", ",", "=", "\\")
GOES_ON = ("(", "[", "{", ",")
LIKELIER = 0.5
AGAIN = 3  # characters of a beginning
LINE = 8  # characters: a shorter line, such as a closing bracket, may well stand twice
NEAR = 4  # lines above
SAMPLE = 400  # lines of which indentation is learned
OVER_AND_OVER = 3
WORD = re.compile(r"\w+|[^\w\s]")
NAME = re.compile(r"[^\W\d]\w*")
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"?|\'(?:\\.|[^\'\\\n])*\'|`(?:\\.|[^`\\])*`?')  # or the beginning of one
IMPORT = re.compile(r"\s*(?:pub )?(?:import|use|from\b.*\bimport)\b")
BETWEEN_ITEMS = re.compile(r"[,{}()]")
LONG = 400  # characters of a line that are looked at
ROUND = 60  # words of a circle
WORDS = 12  # of a line, from its end, that are given up at most


def presentable(fill: Fill, gap: Gap) -> str:
    """What of the fill could be shown; empty where nothing is worth it."""
    return filtered(without_doubtful_lines(fill), gap)


def filtered(text: str, gap: Gap) -> str:
    """What is left of a text."""
    for left in FILTERS:
        text = left(text, gap).rstrip()
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


# ---------------------------------------------------------------- what is there already


def without_rest_of_line(text: str, gap: Gap) -> str:
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


def without_lines_below(text: str, gap: Gap) -> str:
    """The text without its last lines, where these are the lines that stand below the cursor."""
    below = [line.rstrip() for line in gap.following.split("\n") if line.strip()]
    lines = text.rstrip().split("\n")
    whole = [(gap.head + lines[0]).rstrip(), *(line.rstrip() for line in lines[1:])]
    for count in range(min(len(lines), len(below)), 0, -1):
        if whole[-count:] == below[:count]:
            return "\n".join(lines[:-count])
    return text


def without_lines_above(text: str, gap: Gap) -> str:
    """Nothing where the cursor's line would become one of the few above it, in its block, over again.

    Two functions may well end with the same line.
    """
    above: list[str] = []
    for line in reversed(gap.prefix.split("\n")[-NEAR - 1 : -1]):
        if line.strip() and len(indentation(line)) < len(indentation(gap.head)):
            break
        above.append(line.strip())
    first, goes_on, _ = text.partition("\n")
    line = gap.head + first + ("" if goes_on else gap.rest)
    directly = gap.prefix.removesuffix(gap.head)[:-1].rpartition("\n")[2]
    again = line.rstrip() == directly.rstrip() and NAME.search(line) is not None
    return "" if again or (len(line.strip()) >= LINE and line.strip() in above) else text


def without_line_again(text: str, gap: Gap) -> str:
    """Nothing where it begins the cursor's line once more, or what of that a bracket still has open."""
    head = gap.head[:LONG]
    open_at = unclosed(head)
    beginning = head[: open_at[0] + 1 if open_at else None].strip()
    return "" if len(beginning) >= AGAIN and NAME.search(beginning) and text.lstrip().startswith(beginning) else text


def without_repeated_imports(text: str, gap: Gap) -> str:
    """The text up to the first name that is imported by the same line already."""
    first = text.partition("\n")[0]
    line = without_strings(gap.head + first)
    if (found := IMPORT.match(line, 0, LONG)) is None:
        return text
    known, start = set[str](), found.end()
    for end in [*(between.start() for between in BETWEEN_ITEMS.finditer(line, start)), len(line)]:
        item = line[start:end].strip()
        if item in known and end > len(gap.head):
            return text[: max(0, start - len(gap.head))].rstrip(" ,")
        known |= {item} - {""}
        start = end + 1
    return text


def without_circles(text: str, gap: Gap) -> str:
    """Nothing where it says the same word over and over, or ends with several that are said for the third time;
    numbers, constants and types are said so at times.
    """
    words = NAME.findall(text)
    same = (words[n:] for n in range(OVER_AND_OVER))
    runs = [run for run in zip(*same, strict=False) if len(set(run)) == 1]
    last = NAME.findall(gap.head[-LONG:] + text)[-2 * ROUND - 1 :]
    for period in range(2, min(ROUND, len(words)) + 1):
        around = last[-2 * period - 1 :]
        if len(around) > 2 * period and around[period:] == around[:-period]:
            runs.append(tuple(around))
    return "" if any(not hasattr(builtins, word) for run in runs for word in run) else text


def without_split_word(text: str, gap: Gap) -> str:
    """Nothing where its end would grow together with a word right of the cursor."""
    return "" if is_word(text[-1:]) and is_word(gap.rest[:1]) else text


# ---------------------------------------------------------------- what cannot stand in its place


def without_unfinished_tail(text: str, gap: Gap) -> str:
    """Several lines without the heads of blocks and the open brackets at their end, of which nothing follows."""
    lines = text.split("\n")
    while len(lines) > 1 and (lines[-1].rstrip().endswith(OPENERS) or lines[-1].lstrip().startswith("@")):
        lines.pop()
    return "\n".join(lines)


def closed(text: str, gap: Gap) -> str:
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


def well_indented(text: str, gap: Gap) -> str:
    """The lines before the first that is indented otherwise than its place in the file asks for. In a language without
    rules the first one is indented by the user, if by anybody.
    """
    in_braces = gap.language in IN_BRACES
    if gap.language != "python" and not in_braces:
        return text.lstrip(" \t") if gap.head and not gap.head.strip() else text
    unit, above = indentation_unit(gap), gap.prefix[: len(gap.prefix) - len(gap.head)].split("\n")[-SAMPLE:]
    before = next((line for line in reversed(above) if line.strip()), "")
    quotes = "`" if in_braces else '"""'
    free = "\n".join(above).count(quotes) % 2 == 1  # inside a docstring, or a template
    brackets = max(0, sum(map(opened, above)))
    starts_line = not gap.head.strip()
    kept: list[str] = []
    for number, line in enumerate((gap.head + text).split("\n")):
        given = number == 0 and (not starts_line or not text[:1].isspace())  # the user's own indentation
        if line.strip():
            fitting = fits_in_braces(line, before, unit) if in_braces else fits(line, before, unit, brackets)
            if not (given or free or fitting):
                break
            before, brackets = line, brackets + opened(line)
        kept.append(line)
    return "\n".join(kept)[len(gap.head) :]


def fits(line: str, before: str, unit: str, brackets: int) -> bool:
    """Whether a line is indented rightly after the one before it; within brackets it may stand anywhere."""
    level, above = indentation(line), indentation(before)
    if level.strip(unit[0]):
        return False
    if before.rstrip().endswith(":") and brackets <= 0:
        return level == above + unit
    if brackets > 0 or before.rstrip().endswith("\\"):
        return True
    return len(level) <= len(above) and len(level) % len(unit) == 0


def fits_in_braces(line: str, before: str, unit: str) -> bool:
    """Whether a line is indented with what the file is indented with, and at most a unit deeper than the one before it.
    Lines within a comment begin with a star.
    """
    level, above = indentation(line), indentation(before)
    return line.lstrip().startswith("*") or (not level.strip(unit[0]) and len(level) <= len(above) + len(unit))


def indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def opened(line: str) -> int:
    """Brackets that a line opens, less those that it closes."""
    return sum(line.count(opening) - line.count(closing) for closing, opening in PAIRS.items())


def indentation_unit(gap: Gap) -> str:
    """What most first lines of blocks are indented deeper than the one above them; four blanks where there is none, and
    in Go a tab.

    The cursor's line counts though it may be blank: in a new file it is all that there is.
    """
    *above, own = gap.prefix.split("\n")[-SAMPLE:]
    written = [line for line in above if line.strip()]
    lines = [*written, *filter(None, [own]), *(line for line in gap.following.split("\n")[:SAMPLE] if line.strip())]
    indents = list(map(indentation, lines))
    opener = "{" if gap.language in IN_BRACES else ":"
    openers = zip(indents, indents[1:], lines, strict=False)
    units = Counter(
        below.removeprefix(above)
        for above, below, line in openers
        if line.rstrip().endswith(opener) and len(below) > len(above) and below.startswith(above)
    )
    return units.most_common(1)[0][0] if units else "\t" if gap.language == "go" else "    "


def sound(text: str, gap: Gap) -> str:
    """As many lines as make no errors where they would stand; of a first line that does, as many words. All where that
    takes too long to tell.
    """
    lines = text.split("\n")
    words = [lines[0][: word.end()] for word in WORD.finditer(lines[0])][-WORDS:-1]
    beginnings = ["\n".join(lines[:count]) for count in range(1, len(lines) + 1)]
    try:
        with budget(gap.language):
            tried = reversed([*words, *beginnings])
            return next((kept for kept in tried if not breaks(gap.prefix, gap.suffix, gap.language, kept)), "")
    except Unknown:
        return text


def without_strings(text: str) -> str:
    """Blanks in the place of strings."""
    return STRING.sub(lambda found: " " * len(found.group()), text)


def unclosed(text: str) -> list[int]:
    """Where the brackets are that nothing in the text closes."""
    left: list[int] = []
    text = without_strings(text)
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


FILTERS: tuple[Filter, ...] = (
    without_rest_of_line,
    without_lines_below,
    without_unfinished_tail,
    well_indented,
    without_line_again,
    without_repeated_imports,
    without_circles,
    closed,
    sound,
    without_lines_above,
    without_split_word,
)
