"""The cells of a notebook are context for each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lsp_client import LspClient, span

from lsp_server.cursor import AFTER, BEFORE, CursorContext
from lsp_server.documents import Document, Documents
from lsp_server.messages import NotebookCell, NotebookDocument

NOTEBOOK = "file:///project/a.ipynb"


def uri(name: str) -> str:
    return f"vscode-notebook-cell:/project/a.ipynb#{name}"


def item(name: str, text: str, language: str = "python") -> dict[str, Any]:
    return {"uri": uri(name), "languageId": language, "version": 1, "text": text}


def open_notebook(client: LspClient, *items: dict[str, Any]) -> None:
    cells = [{"kind": 2 if item["languageId"] == "python" else 1, "document": item["uri"]} for item in items]
    notebook = {"uri": NOTEBOOK, "notebookType": "jupyter-notebook", "version": 1, "cells": cells}
    client.notify("notebookDocument/didOpen", {"notebookDocument": notebook, "cellTextDocuments": items})


def change(client: LspClient, **cells: Any) -> None:
    params = {"notebookDocument": {"uri": NOTEBOOK, "version": 2}, "change": {"cells": cells}}
    client.notify("notebookDocument/didChange", params)


async def seen(client: LspClient, name: str, line: int, character: int) -> tuple[str, str]:
    """What the engine is given before and after a place; without a script it says that."""
    [item] = await client.complete(uri(name), line, character)
    request = json.loads(item["insertText"])
    return request["prefix"], request["suffix"]


async def test_the_cells_before_and_after_are_context(scripted: LspClient) -> None:
    await scripted.initialize()
    open_notebook(scripted, item("a", "import os"), item("m", "# Title", "markdown"), item("b", "x = "), item("c", "y"))
    assert await seen(scripted, "b", 0, 4) == ("import os\n\nx = ", "\n\ny")


async def test_cells_come_go_and_change(scripted: LspClient) -> None:
    await scripted.initialize()
    open_notebook(scripted, item("a", "one"), item("b", "x = "))
    new = {"start": 1, "deleteCount": 0, "cells": [{"kind": 2, "document": uri("n")}]}
    change(scripted, structure={"array": new, "didOpen": [item("n", "two")]})
    change(
        scripted,
        textContent=[{"document": {"uri": uri("n"), "version": 2}, "changes": [{"range": span(0, 3), "text": "!"}]}],
    )
    assert await seen(scripted, "b", 0, 4) == ("one\n\ntwo!\n\nx = ", "")
    gone = {"start": 0, "deleteCount": 1}
    change(scripted, structure={"array": gone, "didClose": [{"uri": uri("a")}]})
    assert await seen(scripted, "b", 0, 4) == ("two!\n\nx = ", "")


def test_as_much_of_the_cells_as_the_model_may_read() -> None:
    documents = Documents()
    cells = {name: Document(uri(name), "python", "utf-16", None) for name in ("far", "near", "here", "below", "last")}
    for name, document in cells.items():
        assert [*document.replace([f"# {name}\n" * 6_000])]
        documents[uri(name)] = document
    documents.open_notebook(NotebookDocument(NOTEBOOK, [NotebookCell(uri(name)) for name in cells]))
    gap = documents.with_cells(uri("here"), CursorContext("x = ", "", "python"))
    assert set(gap.prefix.split()) == {"#", "near", "x", "="}
    assert set(gap.suffix.rpartition("\n")[0].split()) == {"#", "below"}
    assert len(gap.prefix) > BEFORE
    assert len(gap.suffix) == AFTER


async def test_packages_that_a_cell_imports_are_indexed(scripted: LspClient, tmp_path: Path) -> None:
    packages = tmp_path / ".venv" / "lib" / "python3.12" / "site-packages"
    for name in ("first", "second"):
        (packages / name).mkdir(parents=True)
        (packages / name / "a.py").write_text("x = 1\n")
    options = {"status": True, "interpreter": str(tmp_path / ".venv")}
    await scripted.initialize(rootUri=tmp_path.as_uri(), initializationOptions=options)
    open_notebook(scripted, item("a", "import first"), item("b", "x = "))
    await scripted.wait_for("inpaint/status", '"packages": ["first"]')
    edited = {"document": {"uri": uri("b"), "version": 2}, "changes": [{"text": "import second"}]}
    change(scripted, textContent=[edited])
    scripted.notify("notebookDocument/didSave", {"notebookDocument": {"uri": NOTEBOOK}})
    await scripted.wait_for("inpaint/status", '"packages": ["first", "second"]')
