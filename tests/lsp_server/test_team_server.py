"""The language server with a server in the model's place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from lsp_client import REAL, ROOT, LspClient
from servers import PATIENCE, Server, script, serving
from servers import SCRIPTED as SERVER

STATUS = {"status": True, "minConfidence": 0, "deadlineAutomaticMs": 60_000}


@pytest.fixture
def team() -> Iterator[Server]:
    with serving([*SERVER, "4"]) as server:
        while server.client.get("/health").status_code != 200:
            pass
        yield server


async def test_completions_come_from_the_server_and_the_user_knows(team: Server) -> None:
    async with LspClient.start([*REAL, "--model", team.url], cwd=ROOT) as client:
        await client.initialize(initializationOptions=STATUS)
        notice = await client.wait_for("window/showMessage")
        assert "127.0.0.1 is sent" in notice["message"]
        prompt = script("from_afar()")
        client.open("file:///a.py", f"{prompt}x = ")
        [item] = await client.complete("file:///a.py", 1, 4)
        assert item["insertText"] == "from_afar()"
        asked = team.metric("inpaint_fill_passes_count")
        client.open("file:///.env", f"{prompt}KEY = ")
        assert await client.complete("file:///.env", 1, 6) == []
        assert team.metric("inpaint_fill_passes_count") == asked
        assert await client.leave() == 0


async def test_the_status_says_that_the_embedded_model_answers_instead(team: Server) -> None:
    async with LspClient.start([*REAL, "--model", team.url], cwd=ROOT) as client:
        await client.initialize(initializationOptions=STATUS)
        await client.wait_for("window/showMessage")
        team.process.kill()
        client.open("file:///a.py", "import numpy as \n")
        [item] = await client.complete("file:///a.py", 0, 16)
        assert item["insertText"] == "np"
        await client.wait_for("inpaint/status", "127.0.0.1 is away")


async def test_a_url_that_is_none_is_said() -> None:
    async with LspClient.start([*REAL, "--model", "http://"], cwd=ROOT) as client:
        await client.initialize(initializationOptions=STATUS)
        await client.wait_for("window/showMessage", "https://HOST")


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
def test_the_doctor_says_whether_the_server_answers(team: Server, away: bool) -> None:
    url = "http://127.0.0.1:1" if away else team.url
    command = [sys.executable, "-m", "lsp_server", "--doctor", "--model", url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ("127.0.0.1 is away" in done.stdout) is away
    assert f"test fill with {url}" in done.stdout
    assert not away or done.returncode == 1
