"""Completions by the text that the model saw: an answer at once for what was asked before or typed as suggested.

An entry answers a request whose prefix is the entry's plus a beginning of what was suggested, with the same text after
the cursor. So typing a suggestion shortens it, and a backspace finds the longer one again, with no pass of the model.
The most recent entries are kept, a list short enough to search from end to end.
"""

from __future__ import annotations

import msgspec

from engine import Fill, FillRequest

SIZE = 64  # entries of at most 48 KiB of context: 3 MB


class Entry(msgspec.Struct, frozen=True):
    uri: str
    request: FillRequest
    fill: Fill

    def answer(self, uri: str, request: FillRequest) -> Fill | None:
        """What is left of the fill for this request, if it is one that the entry answers."""
        if (
            uri != self.uri
            or request.suffix != self.request.suffix
            or not request.prefix.startswith(self.request.prefix)
        ):
            return None
        typed = request.prefix[len(self.request.prefix) :]
        if not self.fill.text.startswith(typed) or (typed and typed == self.fill.text):
            return None
        if asks_for_more(request, self.request) and not typed:
            return None
        return msgspec.structs.replace(self.fill, text=self.fill.text[len(typed) :])


class Cache:
    """The last completions, most recent first."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._entries: list[Entry] = []

    def find(self, uri: str, request: FillRequest) -> Fill | None:
        for index, entry in enumerate(self._entries):
            if (fill := entry.answer(uri, request)) is not None:
                self._entries.insert(0, self._entries.pop(index))
                return fill
        return None

    def add(self, uri: str, request: FillRequest, fill: Fill) -> None:
        self._entries.insert(0, Entry(uri, request, fill))
        del self._entries[self._size :]

    def clear(self) -> None:
        self._entries.clear()


def asks_for_more(request: FillRequest, earlier: FillRequest) -> bool:
    """Whether a request would have allowed more lines or more time than an earlier one did."""
    more_lines = (request.max_lines or 1_000) > (earlier.max_lines or 1_000)
    more_time = (request.deadline_ms or float("inf")) > (earlier.deadline_ms or float("inf"))
    return more_lines or more_time
