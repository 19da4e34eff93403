"""Text that is indented with tabs, as the embedded models see it: with blanks, which nearly all that they learned from
has.

Where most lines of the text around the cursor begin with a tab, a request is put to the model with four blanks for each
tab of an indentation, and what it writes gets tabs again. Other files are still found by their tabs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath

import msgspec

from engine.contract import Edit, FillRequest, Output, Watch, map_text
from engine.retrieval.index import BEFORE, Index, IndexMatch
from engine.retrieval.segment import AHEAD

UNIT = "    "
WITH_TABS = frozenset((".go",))  # suffixes of languages that models have seen with tabs alone
NEAR = 8_000  # characters each way that tell
TABS, BLANKS = re.compile(r"^\t+", re.MULTILINE), re.compile(rf"^(?:{UNIT})+", re.MULTILINE)


def without_tabs(text: str) -> str:
    return TABS.sub(lambda found: UNIT * len(found[0]), text)


def with_tabs(text: str) -> str:
    return BLANKS.sub(lambda found: "\t" * (len(found[0]) // len(UNIT)), text)


class DetabbedRequest(msgspec.Struct, frozen=True):
    """A request as the model sees it, and what of it was tabs: nothing, or all indentations."""

    request: FillRequest
    tabs: bool

    @classmethod
    def of(cls, request: FillRequest) -> DetabbedRequest:
        """With blanks, where the text has tabs."""
        near = f"\n{request.prefix[-NEAR:]}{request.suffix[:NEAR]}"
        tabs = near.count("\n\t") > near.count("\n  ") and PurePosixPath(request.path).suffix not in WITH_TABS
        if not tabs:
            return cls(request, False)
        head = head_of(request.prefix)
        return cls(
            msgspec.structs.replace(
                request,
                prefix=without_tabs(request.prefix),
                suffix=continued(without_tabs, head, request.suffix),
                related=tuple(map(without_tabs, request.related)),
                others=tuple(continued(without_tabs, head, other) for other in request.others),
                indexes=tuple(map(Untabbed, request.indexes)),
                edits=tuple(map(edit, request.edits)),
            ),
            True,
        )

    def restored(self, output: Output) -> Output:
        """With the tabs that the text around has."""
        if not self.tabs:
            return output
        return map_text(output, partial(continued, with_tabs, head_of(self.request.prefix)))

    def watched(self, watch: Watch | None) -> Watch | None:
        """What is told of the request, with tabs."""
        return watch if watch is None or not self.tabs else lambda progress: watch(self.restored(progress))


def head_of(prefix: str) -> str:
    return prefix[prefix.rfind("\n") + 1 :]


def continued(change: Callable[[str], str], head: str, text: str) -> str:
    """The text changed, which stands after the beginning of a line; that may be a part of its indentation."""
    whole, start = change(head + text), change(head)
    return whole.removeprefix(start) if whole.startswith(start) else text


def edit(made: Edit) -> Edit:
    return Edit(without_tabs(made.before), continued(without_tabs, made.before, made.text), made.after)


class Untabbed(Index):
    """An index that is asked with blanks and answers with blanks, though its files have tabs."""

    def __init__(self, index: Index) -> None:
        super().__init__(index.segments, index.manifest, index.installed, index.globs)

    def matches(
        self, written: str, hidden: frozenset[str] = frozenset(), most: int = 16, suffix: str = ""
    ) -> list[IndexMatch]:
        """See Index.matches."""
        tabbed = with_tabs(written)
        head = head_of(tabbed)
        return [
            msgspec.structs.replace(
                found,
                length=len(without_tabs(tabbed[len(tabbed) - found.length :])),
                after=continued(without_tabs, head, found.after),
            )
            for found in super().matches(tabbed, hidden, most, suffix)
        ]

    def around(self, match: IndexMatch, before: int = BEFORE, after: int = AHEAD) -> tuple[str, str]:
        """See Index.around."""
        above, below = super().around(match, before, after)
        return without_tabs(above), continued(without_tabs, head_of(above), below)
