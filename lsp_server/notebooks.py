"""Notebooks: the cells of one are context for each other, in the order that they stand in.

A client that knows `notebookDocument/*` sends cells in these in place of documents of their own. Each becomes a
document like any other; beside it is kept which cells a notebook has, and so what stands before and after a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from lsprotocol import types

from lsp_server.cursor import AFTER, BEFORE, Gap

if TYPE_CHECKING:
    from lsp_server.server import InpaintServer

ANY = types.NotebookDocumentFilterWithNotebook(notebook="*")  # all kinds of notebooks, and all their cells
BETWEEN = "\n\n"  # two cells


class Notebooks:
    """The cells of the notebooks that are open, by the notebook's URI."""

    def __init__(self) -> None:
        self._cells: dict[str, list[str]] = {}

    def open(self, notebook: types.NotebookDocument) -> None:
        self._cells[notebook.uri] = [cell.document for cell in notebook.cells]

    def splice(self, uri: str, change: types.NotebookCellArrayChange) -> None:
        new = [cell.document for cell in change.cells or []]
        self._cells.get(uri, [])[change.start : change.start + change.delete_count] = new

    def close(self, uri: str) -> None:
        self._cells.pop(uri, None)

    def beside(self, cell: str) -> tuple[list[str], list[str]]:
        """The cells before and after one of the same notebook; none for a document that is no cell."""
        for cells in self._cells.values():
            if cell in cells:
                index = cells.index(cell)
                return cells[:index], cells[index + 1 :]
        return [], []


def did_open(ls: InpaintServer, params: types.DidOpenNotebookDocumentParams) -> None:
    ls.notebooks.open(params.notebook_document)
    for item in params.cell_text_documents:
        open_cell(ls, item)


def did_change(ls: InpaintServer, params: types.DidChangeNotebookDocumentParams) -> None:
    cells = params.change.cells
    if cells is None:
        return
    if cells.structure is not None:
        ls.notebooks.splice(params.notebook_document.uri, cells.structure.array)
        for item in cells.structure.did_open or []:
            open_cell(ls, item)
        for closed in cells.structure.did_close or []:
            ls.close_document(closed.uri)
    for content in cells.text_content or []:
        edit_cell(ls, content.document.uri, content.changes)


def did_close(ls: InpaintServer, params: types.DidCloseNotebookDocumentParams) -> None:
    ls.notebooks.close(params.notebook_document.uri)
    for cell in params.cell_text_documents:
        ls.close_document(cell.uri)


def open_cell(ls: InpaintServer, item: types.TextDocumentItem) -> None:
    document = ls.new_document(item.uri, item.language_id)
    document.replace(item.text)
    ls.documents[item.uri] = document


def edit_cell(ls: InpaintServer, uri: str, changes: Sequence[types.TextDocumentContentChangeEvent]) -> None:
    document = ls.documents.get(uri)
    if document is None:
        return
    ls.completer.edited(uri)
    for change in changes:
        if isinstance(change, types.TextDocumentContentChangePartial):
            document.edit(document.at(change.range.start), document.at(change.range.end), change.text)
        else:
            document.replace(change.text)


def with_cells(ls: InpaintServer, uri: str, gap: Gap) -> Gap:
    """The gap with the text of the notebook's other cells of the language around it, where the document is a cell."""
    language = ls.documents[uri].language
    before, after = (
        [
            ls.documents[cell].beginning
            for cell in cells
            if cell in ls.documents and ls.documents[cell].language == language
        ]
        for cells in ls.notebooks.beside(uri)
    )
    prefix = "".join(text + BETWEEN for text in before)
    suffix = "".join(BETWEEN + text for text in after)
    return msgspec.structs.replace(
        gap, prefix=(prefix + gap.prefix)[-3 * BEFORE :], suffix=(gap.suffix + suffix)[:AFTER]
    )
