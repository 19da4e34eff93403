"""The index of a workspace over the wire: its progress, and that what is copied follows the files."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lsp_client import INVOKED, ROOT, Json, LspClient

INDEXING = [sys.executable, str(ROOT / "tests" / "lsp_server" / "indexing_server.py")]
OPTIONS = {"status": True, "model": "small", "deadlineInvokedMs": 60_000}
CREATED, CHANGED, DELETED = 1, 2, 3
AREA = "def area(width, height):\n    return scaled(width, height, {})\n"
TEXT = "def volume(width, height):\n    return scaled(width, height, "


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "other.py").write_text("answer = 42\n")
    return folder


@contextlib.asynccontextmanager
async def server(project: Path, gate: str = "", watches: bool = True, **options: Json) -> AsyncIterator[LspClient]:
    """A server with this workspace, and the text of a new file open in it."""
    command = [*INDEXING, *filter(None, [gate]), "--log", "none", "--stdio"]
    async with LspClient.start(command, cwd=ROOT) as client:
        capabilities = {
            "window": {"workDoneProgress": True},
            "workspace": {"didChangeWatchedFiles": {"dynamicRegistration": watches}},
        }
        settings = {**OPTIONS, **options}
        await client.initialize(rootUri=project.as_uri(), capabilities=capabilities, initializationOptions=settings)
        client.open((project / "volume.py").as_uri(), TEXT)
        await client.wait_for("inpaint/status", '"state": "idle"')  # the model is loaded
        yield client
        assert await client.leave() == 0


async def known(client: LspClient, files: int, state: str = "ready") -> None:
    """Wait for a status that has come since the last time and knows so many files."""

    def find() -> bool:
        indexes = [each["params"]["index"] for each in client.received if each["method"] == "inpaint/status"]
        return any((index["state"], index["files"]) == (state, files) for index in indexes)

    await client.until(find)
    client.received.clear()


async def copied(client: LspClient, project: Path) -> list[str]:
    items = await client.complete((project / "volume.py").as_uri(), 1, len(TEXT.partition("\n")[2]), INVOKED)
    return [item["insertText"].rstrip(")") for item in items]


def tell(client: LspClient, file: Path, kind: int) -> None:
    client.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": file.as_uri(), "type": kind}]})


async def test_progress_while_the_index_is_made_and_how_many_files_it_knows(project: Path) -> None:
    gate = project.parent / "gate"
    async with server(project, str(gate)) as client:
        begun = await client.wait_for("$/progress", "reading the workspace")
        assert begun["value"]["kind"] == "begin"
        report = await client.wait_for("$/progress", "1 of 2 files")
        assert (report["token"], report["value"]["percentage"]) == (begun["token"], 50)
        status = await client.wait_for("inpaint/status", '"read": 1, "of": 2')
        assert (status["index"]["state"], status["index"]["files"]) == ("building", 0)
        gate.touch()
        ended = await client.wait_for("$/progress", '"message": "1 files"')
        assert (ended["token"], ended["value"]["kind"]) == (begun["token"], "end")
        await known(client, 1)


async def test_what_is_copied_follows_what_the_client_says_of_files(project: Path) -> None:
    file = project / "area.py"
    async with server(project) as client:
        registered = await client.wait_for("client/registerCapability")
        assert registered["registrations"][0]["method"] == "workspace/didChangeWatchedFiles"
        await known(client, 1)
        file.write_text(AREA.format("first_factor"))
        tell(client, file, CREATED)
        await known(client, 2)
        assert "first_factor" in await copied(client, project)
        file.write_text(AREA.format("another_factor"))
        (project / "new.py").write_text("question = 6\n")  # so that it is seen when both are read
        tell(client, file, CHANGED)
        await known(client, 3)
        assert "another_factor" in await copied(client, project)
        file.unlink()
        tell(client, file, DELETED)
        await known(client, 2)
        assert not {"first_factor", "another_factor"}.intersection(await copied(client, project))


async def test_without_a_client_that_watches_the_server_does(project: Path) -> None:
    async with server(project, watches=False) as client:
        await known(client, 1)
        (project / "area.py").write_text(AREA.format("first_factor"))
        await known(client, 2)
        assert "first_factor" in await copied(client, project)
        assert not any(each["method"] == "client/registerCapability" for each in client.received)


async def test_the_command_reads_all_files_anew(project: Path) -> None:
    async with server(project) as client:
        await known(client, 1)
        (project / "area.py").write_text(AREA.format("first_factor"))  # and nobody says so
        assert await client.request("workspace/executeCommand", {"command": "inpaint.rebuildIndex"}) is None
        await known(client, 2)
        assert "first_factor" in await copied(client, project)


async def test_two_servers_keep_one_workspace(project: Path) -> None:
    file = project / "area.py"
    async with server(project) as one, server(project) as other:
        for each in (one, other):
            await known(each, 1)
        file.write_text(AREA.format("first_factor"))
        for each in (one, other):
            tell(each, file, CREATED)
        for each in (one, other):
            await known(each, 2)
            assert "first_factor" in await copied(each, project)


async def test_folders_and_packages_are_settings(project: Path) -> None:
    library = project.parent / "library"
    packages = project / ".venv" / "lib" / "python3.12" / "site-packages"
    for folder in (library, packages):
        folder.mkdir(parents=True)
    for number in range(3):
        (library / f"{number}.py").write_text(f"answer = {number}\n")
    (packages / "lone.py").write_text("def alone():\n    pass\n")
    async with server(project, folders=[str(library)], interpreter=str(project / ".venv")) as client:
        await known(client, 3)
        client.open((project / "new.py").as_uri(), "import lone\n")
        status = await client.wait_for("inpaint/status", '"packages": ["lone"]')
        assert status["index"]["folders"] == [str(library)]
        client.received.clear()
        client.notify("workspace/didChangeConfiguration", {"settings": {"packages": False, "folders": []}})
        await known(client, 1)
        client.notify("workspace/didChangeConfiguration", {"settings": {"workspace": False}})
        await known(client, 0, "off")
