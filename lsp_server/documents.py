"""The documents that are open, and what of the others is context for one: cells of its notebook, texts to copy from.

A client that knows `notebookDocument/*` sends cells in these in place of documents of their own. Each becomes a
document like any other, in as short stretches of work; beside it is kept which cells a notebook has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath

import msgspec
from lsprotocol import types
from pygls.uris import to_fs_path, urlparse

from engine.languages import language_of_id
from lsp_server import messages
from lsp_server.buffers import Buffer, Point, split_lines, without_end
from lsp_server.cursor import AFTER, BEFORE, CursorContext
from lsp_server.edits import GONE, EditHistory, numbers
from lsp_server.messages import LoopPauser

RELATED = 6  # documents that a completion may copy from
LOOKED_AT = 4 * RELATED  # of the language, at most
BETWEEN = "\n\n"  # two cells


def path_of(uri: str, of_any_scheme: bool = False) -> str:
    """Where a URI leads in the file system; empty where it does not. The path of any scheme may be one of no file."""
    try:
        return to_fs_path(uri) or (urlparse(uri)[2] if of_any_scheme else "")
    except ValueError:  # it is none
        return ""


class Document(Buffer):
    """An open document: its text, its language and what the client calls that, its file, and the path that the model is
    told.
    """

    def __init__(self, uri: str, language: str, encoding: str, root: str | None) -> None:
        super().__init__(encoding=encoding)
        self.file = PurePath(path_of(uri, of_any_scheme=True))
        self.language, self.language_id = language_of_id(language, self.file.name), language
        self.edits, self.unsaved = EditHistory(), False
        self.version: int | None = None  # what the client calls this text
        inside = root is not None and self.file.is_relative_to(root)
        self.path = self.file.relative_to(root).as_posix() if root and inside else self.file.name

    def at(self, position: messages.Position | types.Position) -> Point:
        return self.point(position.line, position.character)

    def edit(self, start: Point, end: Point, text: str) -> None:
        """See Buffer.edit; changes within a line are noted."""
        old = without_end(self.lines[start.line])
        super().edit(start, end, text)
        if start.line == end.line and "\n" not in text and "\r" not in text:
            self.edits.note(start.line, old, without_end(self.lines[start.line]))
        else:
            self.edits.move(start.line, end.line, len(split_lines(text)) - 1 + start.line - end.line)

    def position(self, place: Point) -> types.Position:
        return types.Position(place.line, self.character(place))

    async def apply(self, changes: list[msgspec.Raw], pauser: LoopPauser) -> None:
        """Make the changes. Raises ValueError or DecodeError where one is none."""
        self.unsaved, since = True, next(numbers)
        for written in changes:
            change = msgspec.json.decode(written, type=messages.ContentChange)
            if change.range is None:
                await self.rewrite(change.text, pauser)
            else:
                self.edit(self.at(change.range.start), self.at(change.range.end), "".join(messages.pieces(change.text)))
            await pauser.pause()
        self.edits.end(since)

    async def rewrite(self, text: msgspec.Raw, pauser: LoopPauser) -> None:
        """Start over with a text that may be long."""
        self.edits.move(GONE, len(self), 0)
        for _ in self.replace(messages.pieces(text)):
            await pauser.pause()


class Documents(dict[str, Document]):
    """By their URIs; the one that was asked about last comes last. `notebooks` are the URIs of each one's cells."""

    def __init__(self) -> None:
        super().__init__()
        self.notebooks: dict[str, list[str]] = {}

    async def open(self, item: messages.DocumentItem, encoding: str, root: str | None, pauser: LoopPauser) -> Document:
        document = Document(item.uri, item.language_id, encoding, root)
        document.version = item.version
        await document.rewrite(item.text, pauser)
        self[item.uri] = document
        return document

    async def change(
        self, identifier: messages.DocumentIdentifier, changes: list[msgspec.Raw], pauser: LoopPauser
    ) -> None:
        """Raises ValueError or DecodeError where a change is none; then nobody knows the text, which is forgotten."""
        if (document := self.get(identifier.uri)) is None:
            return
        document.version = identifier.version
        try:
            await document.apply(changes, pauser)
        except (ValueError, msgspec.DecodeError):
            del self[identifier.uri]
            raise

    def saved(self, uris: Iterable[str]) -> list[Document]:
        """Those of the documents that are known, which the disk has now."""
        known = [self[uri] for uri in uris if uri in self]
        for document in known:
            document.unsaved = False
        return known

    def use(self, uri: str) -> None:
        """A document is asked about."""
        self[uri] = self.pop(uri)

    def related(self, document: Document, allow: Callable[[Document], bool]) -> list[Document]:
        """The other documents of the language, the one used last first; never one that completion is off in."""
        others = (
            other
            for other in reversed(self.values())
            if other is not document
            and other.language == document.language
            and other.file != document.file  # the cells of its own notebook stand around it
        )
        return list(itertools.islice(filter(allow, itertools.islice(others, LOOKED_AT)), RELATED))

    # ---------------------------------------------------------------- notebooks

    def open_notebook(self, notebook: messages.NotebookDocument) -> None:
        self.notebooks[notebook.uri] = [cell.document for cell in notebook.cells]

    def splice_notebook(self, uri: str, change: messages.CellArrayChange) -> None:
        new = [cell.document for cell in change.cells or []]
        self.notebooks.get(uri, [])[change.start : change.start + change.delete_count] = new

    def with_cells(self, uri: str, gap: CursorContext) -> CursorContext:
        """The gap with the text of the notebook's other cells of the language around it, where it is in a cell."""
        cells = next((cells for cells in self.notebooks.values() if uri in cells), [uri])
        index, language = cells.index(uri), self[uri].language
        above = [*self._texts(language, reversed(cells[:index]), BEFORE - len(gap.prefix))]
        below = self._texts(language, cells[index + 1 :], AFTER - len(gap.suffix))
        prefix = "".join(text + BETWEEN for text in reversed(above)) + gap.prefix
        suffix = gap.suffix + "".join(BETWEEN + text for text in below)
        return msgspec.structs.replace(gap, prefix=prefix[-3 * BEFORE :], suffix=suffix[:AFTER])

    def _texts(self, language: str, cells: Iterable[str], room: int) -> Iterator[str]:
        """Of the first of the cells that are in the language, as many as fill `room` characters."""
        for cell in cells:
            document = self.get(cell)
            if room > 0 and document is not None and document.language == language:
                yield document.beginning
                room -= len(document.beginning) + len(BETWEEN)
