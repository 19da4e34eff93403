"""Whether a fill is worth showing, and what of it.

Each rule answers a complaint about other tools: blank lines at the end, the closing bracket that the editor has already
typed, the line that stands above or below already, guesses nobody believes in, a right line with wrong ones after it.
"""

from __future__ import annotations

from engine import Fill
from lsp_server.cursor import Gap

PAIRS = {")": "(", "]": "[", "}": "{"}
QUOTES = "\"'`"
LIKELIER = 0.5
LINE = 8  # characters: a shorter line, such as a closing bracket, may well stand twice


def presentable(fill: Fill, gap: Gap, min_confidence: float = 0.0) -> str:
    """What to show of the fill; empty where nothing is worth it. One line only where the line goes on."""
    if fill.confidence < min_confidence:
        return ""
    text, rest = without_doubtful_lines(fill), gap.rest.strip()
    if rest:
        text = without_rest_of_line(text.partition("\n")[0], rest)
    text = without_lines_below(text, gap).rstrip()
    return "" if repeats_line_above(text, gap) else text


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


def without_rest_of_line(text: str, rest: str) -> str:
    """The text without its end, where that repeats what stands right of the cursor.

    `rest` as a whole is a repetition when it is not just a character or two; the beginning of it only where it is a
    closer or quote that nothing in the text opens: `foo(|)` filled with `x)`.
    """
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


def repeats_line_above(text: str, gap: Gap) -> bool:
    """Whether the cursor's line would become the one above it over again."""
    above = gap.prefix.rpartition("\n")[0].rpartition("\n")[2].strip()
    first, goes_on, _ = text.partition("\n")
    line = gap.head + first + ("" if goes_on else gap.rest)
    return len(above) >= LINE and line.strip() == above


def balanced(text: str) -> bool:
    """Whether every closing bracket in the text has its opening one, and quotes come in pairs; literals count too."""
    open_brackets: list[str] = []
    for character in text:
        if character in PAIRS.values():
            open_brackets.append(character)
        elif character in PAIRS and (not open_brackets or open_brackets.pop() != PAIRS[character]):
            return False
    return all(text.count(quote) % 2 == 0 for quote in QUOTES)
