"""From a place in a buffer to the gap that the model is asked to fill, and whether to ask at all.

A fill of several lines is asked for where the user asks for one, or has just opened a block: the cursor is on an empty
line directly below a line that ends with a colon or an opening bracket. Everywhere else one line is quick and seldom in
the way. An automatic request inside a word, in an empty document or in binary content is not worth a pass.
"""

from __future__ import annotations

import msgspec

from engine import FillRequest
from engine.contract import Edit, Source
from engine.plain import plain
from engine.retrieval.index import Index
from lsp_server.buffers import Buffer, Point
from lsp_server.settings import Settings

BEFORE, AFTER = 32_768, 16_384  # characters: more than any window of the model
HOPELESS = 0.3  # confidence of a fill that no gate would let through
OPENERS = (":", "(", "[", "{")


class CursorContext(msgspec.Struct, frozen=True):
    """What stands around the cursor, with `\\n` line ends; `suffix` begins with the rest of the line. The language is
    LSP's name of it.
    """

    prefix: str
    suffix: str
    language: str = ""

    def filled(self, text: str) -> CursorContext:
        """What is left of the gap after the text."""
        return CursorContext(self.prefix + text, self.suffix, self.language)

    @property
    def head(self) -> str:
        """The line up to the cursor."""
        return self.prefix[self.prefix.rfind("\n") + 1 :]

    @property
    def rest(self) -> str:
        """The line from the cursor on."""
        return self.suffix.partition("\n")[0]

    @property
    def following(self) -> str:
        """The lines below the cursor's."""
        return self.suffix.partition("\n")[2]


def context_at(
    buffer: Buffer, start: Point, end: Point | None = None, selected: str = "", language: str = ""
) -> CursorContext:
    """The gap at a place; or the one after `selected`, put in the place of what stands between `start` and `end`."""
    return CursorContext(buffer.before(start, BEFORE) + selected, buffer.after(end or start, AFTER), language)


def fill_request(
    gap: CursorContext,
    path: str,
    related: tuple[str, ...],
    settings: Settings,
    invoked: bool,
    files: tuple[str, ...] = (),
    indexes: tuple[Index, ...] = (),
    edits: tuple[Edit, ...] = (),
) -> FillRequest | None:
    """What to ask the engine; None where an automatic request is not worth it. See FillRequest."""
    if not invoked and not worth_asking(gap):
        return None
    return FillRequest(
        prefix=gap.prefix,
        suffix=gap.suffix,
        path=path,
        related=related,
        files=files,
        indexes=indexes,
        edits=edits,
        max_lines=settings.max_lines if several_lines(gap, settings, invoked) else 1,
        deadline_ms=settings.deadline_invoked_ms if invoked else settings.deadline_automatic_ms,
        min_confidence=0 if invoked else HOPELESS if settings.min_confidence is None else settings.min_confidence,
        steps=settings.steps,
        trust=settings.trust,
    )


def source_location(source: Source, request: FillRequest, line: int) -> str:
    """PATH:LINE of what was copied; `line` is the cursor's, from 0."""
    first = line - request.prefix.count("\n") if source.path == request.files[0] else 0
    return f"{plain(source.path)}:{max(1, first + source.line)}"


def worth_asking(gap: CursorContext) -> bool:
    inside_word = is_word(gap.head[-1:]) and is_word(gap.rest[:1])
    empty = not gap.prefix.strip() and not gap.suffix.strip()
    binary = "\0" in gap.prefix or "\0" in gap.suffix
    return not (inside_word or empty or binary)


def several_lines(gap: CursorContext, settings: Settings, invoked: bool) -> bool:
    if settings.multiline != "auto" or gap.rest.strip():
        return settings.multiline == "always" and not gap.rest.strip()
    return invoked or opens_block(gap)


def opens_block(gap: CursorContext) -> bool:
    """Whether the cursor's line is empty and the line directly above opens a block."""
    above, line_end, head = gap.prefix.rpartition("\n")
    if head.strip() or not line_end:
        return False
    code = above[above.rfind("\n") + 1 :].partition(" #")[0]
    return code.rstrip().endswith(OPENERS)


def is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
