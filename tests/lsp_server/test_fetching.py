"""A better model is fetched by command alone, and offered once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from lsp_client import SCRIPTED, Json, LspClient, script

from lsp_server.fetching import ENOUGH, YES

URI = "file:///project/a.py"
ASKS = "window/showMessageRequest"
WINDOW = {"window": {"workDoneProgress": True, "showMessage": {}}}


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[LspClient]:
    places = {name: str(tmp_path) for name in ("INPAINT_MODELS", "XDG_DATA_HOME", "LOCALAPPDATA", "HOME")}
    async with LspClient.start(SCRIPTED, env={**os.environ, **places}) as client:
        await client.initialize(capabilities=WINDOW, initializationOptions={"status": True, "model": "auto"})
        await client.wait_for("inpaint/status", '"idle"')
        client.received.clear()
        yield client


def get(client: LspClient, *names: Json) -> Json:
    return client.request("workspace/executeCommand", {"command": "inpaint.getModel", "arguments": [*names]})


async def test_it_is_fetched_while_answers_go_on_and_used_then(client: LspClient, tmp_path: Path) -> None:
    assert await get(client, "base") is None
    await client.wait_for("$/progress", "some of it is there")
    client.open(URI, script("hello") + "x = ")
    assert len(await client.complete(URI, 1, 4)) == 1
    (tmp_path / "come").touch()
    await client.wait_for("inpaint/status", '"there": true')
    assert (await client.wait_for("window/showMessage"))["message"] == "Inpaint: base is there."
    client.open(URI, script(report=True) + "x")
    items: list[Json] = []
    while not items:  # it is being loaded
        items = await client.complete(URI, 1, 1)
    assert '"filled":0' in items[0]["insertText"]  # by this engine, which is another


async def test_the_user_may_stop_it(client: LspClient) -> None:
    await get(client, "base")
    token = (await client.wait_for("$/progress", '"cancellable": true'))["token"]
    client.notify("window/workDoneProgress/cancel", {"token": token})
    assert "not fetched" in (await client.wait_for("window/showMessage"))["message"]
    await client.wait_for("$/progress", '"end"')


async def test_what_is_wrong_is_said(client: LspClient) -> None:
    await get(client, ["odd"])
    assert "there is no model" in (await client.wait_for("window/showMessage"))["message"]


async def used(client: LspClient, first: int, last: int) -> None:
    for number in range(first, last):
        client.change(URI, {"text": script(f"hello{number}", model="small") + "x = "})
        assert len(await client.complete(URI, 1, 4)) == 1


async def test_it_is_offered_once_and_not_fetched_where_nobody_says_yes(client: LspClient, tmp_path: Path) -> None:
    client.open(URI, "")
    await used(client, 0, ENOUGH - 1)
    assert not [each for each in client.received if each["method"] == ASKS]
    await used(client, ENOUGH, ENOUGH + 3)
    offer = await client.wait_for(ASKS)
    assert "491 MB to fetch" in offer["message"]
    assert len([each for each in client.received if each["method"] == ASKS]) == 1
    assert (tmp_path / "inpaint" / "base.offered").exists()
    assert not (tmp_path / "base").exists()


async def test_who_says_yes_has_it_fetched(client: LspClient, tmp_path: Path) -> None:
    client.answers[ASKS] = {"title": YES}
    client.open(URI, "")
    await used(client, 0, ENOUGH)
    await client.wait_for("$/progress", "some of it is there")
    (tmp_path / "come").touch()
    await client.wait_for("inpaint/status", '"there": true')
