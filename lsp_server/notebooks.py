"""Notebooks: the cells of one are context for each other, in the order that they stand in.

A client that knows `notebookDocument/*` sends cells in these in place of documents of their own. Each becomes a
document like any other, in as short stretches of work; beside it is kept which cells a notebook has, and so what stands
before and after a cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec
from lsprotocol import types

from lsp_server.cursor import AFTER, BEFORE, Gap
from lsp_server.messages import (
    Breath,
    Content,
    Identifier,
    Item,
    Notebook,
    NotebookDidChange,
    NotebookDidClose,
    NotebookDidOpen,
    NotebookDidSave,
    Splice,
)

if TYPE_CHECKING:
    from lsp_server.server import InpaintServer

ANY = types.NotebookDocumentFilterWithNotebook(notebook="*")  # all kinds of notebooks, and all their cells
BETWEEN = "\n\n"  # two cells


class Notebooks:
    """The cells of the notebooks that are open, by the notebook's URI."""

    def __init__(self) -> None:
        self._cells: dict[str, list[str]] = {}

    def open(self, notebook: Notebook) -> None:
        self._cells[notebook.uri] = [cell.document for cell in notebook.cells]

    def splice(self, uri: str, change: Splice) -> None:
        new = [cell.document for cell in change.cells or []]
        self._cells.get(uri, [])[change.start : change.start + change.delete_count] = new

    def close(self, uri: str) -> None:
        self._cells.pop(uri, None)

    def cells(self, uri: str) -> list[str]:
        """Those of a notebook, in their order; none of one that is unknown."""
        return self._cells.get(uri, [])

    def beside(self, cell: str) -> tuple[list[str], list[str]]:
        """The cells before and after one of the same notebook; none for a document that is no cell."""
        for cells in self._cells.values():
            if cell in cells:
                index = cells.index(cell)
                return cells[:index], cells[index + 1 :]
        return [], []


async def did_open(ls: InpaintServer, params: NotebookDidOpen) -> None:
    ls.notebooks.open(params.notebook_document)
    await open_cells(ls, params.cell_text_documents, Breath())


async def did_change(ls: InpaintServer, params: NotebookDidChange) -> None:
    cells, breath = params.change.cells, Breath()
    if cells is None:
        return
    if cells.structure is not None:
        ls.notebooks.splice(params.notebook_document.uri, cells.structure.array)
        await open_cells(ls, cells.structure.did_open or [], breath)
        await close_cells(ls, cells.structure.did_close or [], breath)
    for written in cells.text_content or []:
        content = msgspec.json.decode(written, type=Content)
        await ls.change_document(content.document.uri, content.changes, breath)


async def did_save(ls: InpaintServer, params: NotebookDidSave) -> None:
    uri = params.notebook_document.uri
    await ls.saved(uri, ls.notebooks.cells(uri))


async def did_close(ls: InpaintServer, params: NotebookDidClose) -> None:
    ls.notebooks.close(params.notebook_document.uri)
    await close_cells(ls, params.cell_text_documents, Breath())


async def open_cells(ls: InpaintServer, items: Iterable[msgspec.Raw], breath: Breath) -> None:
    """Raises ValueError or DecodeError where one is none."""
    documents = [await ls.open_document(msgspec.json.decode(item, type=Item), breath) for item in items]
    ls.announce()  # one may be where the user looks
    await ls.index_imports(documents, breath)


async def close_cells(ls: InpaintServer, cells: Iterable[Identifier], breath: Breath) -> None:
    for cell in cells:
        ls.close_document(cell.uri)
        await breath.take()


def with_cells(ls: InpaintServer, uri: str, gap: Gap) -> Gap:
    """The gap with the text of the notebook's other cells of the language around it, where the document is a cell."""
    before, after = ls.notebooks.beside(uri)
    language = ls.documents[uri].language
    above = [*texts(ls, language, reversed(before), BEFORE - len(gap.prefix))]
    below = texts(ls, language, after, AFTER - len(gap.suffix))
    prefix = "".join(text + BETWEEN for text in reversed(above)) + gap.prefix
    suffix = gap.suffix + "".join(BETWEEN + text for text in below)
    return msgspec.structs.replace(gap, prefix=prefix[-3 * BEFORE :], suffix=suffix[:AFTER])


def texts(ls: InpaintServer, language: str, cells: Iterable[str], room: int) -> Iterator[str]:
    """Of the first of the cells that are in the language, as many as fill `room` characters."""
    for cell in cells:
        document = ls.documents.get(cell)
        if room > 0 and document is not None and document.language == language:
            yield document.beginning
            room -= len(document.beginning) + len(BETWEEN)
