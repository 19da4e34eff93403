"""What the workspace's files say: indexed in the background, kept true, seen in the status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from lsp_client import INVOKED, REAL, ROOT, LspClient

from lsp_server import workspace as module
from lsp_server.completer import Completer
from lsp_server.server import create_server
from lsp_server.settings import Settings
from lsp_server.workspace import Workspace

AREA = "def area(width, height):\n    return width * height * factor\n"
PATIENCE = 60


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "area.py").write_text(AREA)
    return folder


@pytest_asyncio.fixture
async def workspace(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workspace]:
    monkeypatch.setattr(module, "SETTLED", 0.05)
    monkeypatch.setattr(module, "SHARE", 100.0)
    opened = Workspace()
    yield opened
    opened.close()


async def until(true: Callable[[], Any]) -> None:
    for _ in range(PATIENCE * 50):
        if true():
            return
        await asyncio.sleep(0.02)
    pytest.fail("nothing happened")


async def test_it_is_kept_true_by_file_events(workspace: Workspace, project: Path) -> None:
    workspace.open([str(project)])
    await until(lambda: workspace.state == "ready")
    assert len(workspace.indexes[0]) == 1
    (project / "new.py").write_text("answer = 42\n")
    workspace.files_changed([str(project / ".git" / "index"), "/elsewhere/b.py"])
    assert workspace.state == "ready"
    workspace.files_changed([str(project / "new.py")])
    await until(lambda: len(workspace.index) == 2)
    (project / "area.py").unlink()
    workspace.files_changed([str(project / "area.py")])
    await until(lambda: len(workspace.index) == 1)
    report = workspace.report()
    assert (report["state"], report["files"], report["message"]) == ("ready", 1, None)
    (project / ".inpaintignore").write_text("new.py\n")
    workspace.files_changed([str(project / ".inpaintignore")])
    await until(lambda: len(workspace.index) == 0)


async def test_what_was_kept_is_used_at_once(workspace: Workspace, project: Path) -> None:
    workspace.open([str(project)])
    await until(lambda: workspace.state == "ready")
    again = Workspace()
    again.open([str(project)])
    await until(lambda: len(again.index) == 1)
    again.rebuild()
    assert again.state == "building"
    await until(lambda: again.state == "ready")
    assert len(again.index) == 1
    again.close("off")
    assert (again.indexes, again.report()["state"]) == ((), "off")


async def test_what_goes_wrong_is_said(workspace: Workspace, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.parent / "file").write_text("")
    monkeypatch.setattr(module, "store_of", lambda _: project.parent / "file" / "store")
    workspace.open([str(project)])
    await until(lambda: workspace.state == "error")
    assert "cannot be kept" in workspace.report()["message"]
    monkeypatch.setattr(module, "BUILD", ("/nowhere/python",))
    workspace.rebuild()
    await until(lambda: "cannot be built" in (workspace.error or ""))


async def test_the_packages_that_are_imported(workspace: Workspace, project: Path) -> None:
    packages = project / ".venv" / "lib" / "python3.12" / "site-packages"
    for name in ("shapes", "other"):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text("def scale(shape, by=2):\n    pass\n")
    (packages / "lone.py").write_text("def alone(by_itself):\n    pass\n")
    workspace.open([str(project)])
    await workspace.imports("import os\nfrom shapes import scale\nimport lone, missing\n", packages)
    await until(lambda: workspace.report()["packages"] == ["lone", "shapes"])
    for sought in ("def scale(", "def alone("):
        assert any(index.installed and index.matches(sought) for index in workspace.indexes)
    assert not workspace.index.installed


async def test_no_workspace_at_all(workspace: Workspace) -> None:
    workspace.open([])
    workspace.rebuild()
    workspace.watch()
    workspace.files_changed(["a.py"])
    await workspace.imports("import os", Path("/nowhere"))
    assert (workspace.state, workspace.indexes) == ("none", ())


async def test_the_server_copies_from_the_workspace_and_says_where_from(project: Path) -> None:
    async with LspClient.start(REAL, cwd=ROOT) as client:
        options = {"status": True, "deadlineInvokedMs": 60_000}
        await client.initialize(rootUri=project.as_uri(), initializationOptions=options)
        await client.wait_for("inpaint/status", '"state": "ready"')
        await client.wait_for("inpaint/status", '"state": "idle"')  # the model is loaded
        uri = (project / "volume.py").as_uri()
        client.open(uri, "def volume(width, height):\n    return width * height * fa")
        [item, *_] = await client.complete(uri, 1, 30, INVOKED)
        assert item["insertText"] == "ctor"
        source = f"{(project / 'area.py').as_posix()}:2"
        await client.wait_for("inpaint/status", source)
        assert await client.request("workspace/executeCommand", {"command": "inpaint.rebuildIndex"}) is None
        assert await client.leave() == 0


async def test_a_folder_that_is_closed_is_forgotten(project: Path) -> None:
    ls = create_server(Completer(), Settings())
    folder = {"uri": project.as_uri(), "name": "project"}
    opened = {"capabilities": {}, "processId": None, "rootUri": project.as_uri(), "workspaceFolders": [folder]}
    gone = {"event": {"added": [], "removed": [folder]}}
    for message in (
        {"method": "initialize", "params": opened, "id": 1},
        {"method": "initialized", "params": {}},
        {"method": "workspace/didChangeWorkspaceFolders", "params": gone},
    ):
        await ls.protocol.receive(json.dumps({"jsonrpc": "2.0", **message}).encode())
        if message["method"] == "initialized":
            assert ls.files.folders == (str(project),)
    assert (ls.files.folders, ls.files.indexes) == ((), ())
    ls.completer.close()


async def test_it_can_be_switched_off(project: Path) -> None:
    async with LspClient.start(REAL, cwd=ROOT) as client:
        options = {"status": True, "workspace": False}
        await client.initialize(rootUri=project.as_uri(), initializationOptions=options)
        report = await client.wait_for("inpaint/status", '"state": "off"')
        assert report["index"]["files"] == 0
        assert await client.leave() == 0
