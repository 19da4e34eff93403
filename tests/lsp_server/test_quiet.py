"""No socket is opened, no name resolved and, once the weights are unpacked, no file written: by the server, by `fill`,
by any library in them.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lsp_client import INVOKED, REAL, ROOT, LspClient, LspError
from sandbox import ENDED, QUIET, no_sockets_no_writes

from engine import unpacked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the filter is the Linux kernel's")
URI = "file:///project/a.py"


@pytest.mark.parametrize(
    "act", ["import socket; socket.socket()", "import socket; socket.getaddrinfo('a.b', 1)", "open('written', 'w')"]
)
def test_the_filter_ends_who_does_it(act: str) -> None:
    done = subprocess.run([sys.executable, "-c", act], env=QUIET, preexec_fn=no_sockets_no_writes, check=False)
    assert done.returncode == ENDED


@pytest.fixture(scope="module")
def unpacked_before() -> dict[str, str]:
    """The environment of a user whose cache has the model's weights, which are written once."""
    unpacked.read(unpacked.WEIGHTS / "small")
    return {**QUIET, "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]}


async def test_the_server(tmp_path: Path, unpacked_before: dict[str, str]) -> None:
    env = {**unpacked_before, "HOME": str(tmp_path)}
    async with LspClient.start(REAL, cwd=ROOT, env=env, preexec_fn=no_sockets_no_writes) as client:
        await client.initialize(initializationOptions={"status": True, "deadlineInvokedMs": 60_000})
        await client.wait_for("inpaint/status", '"idle"')
        client.open(URI, "import os\n\nfor name in os.listdir('.'):\n    print(name)\n\nfor name in ")
        await client.complete(URI, 5, 12, INVOKED)
        assert (await client.request("inpaint/statistics"))["work"]["passes"] > 0
        assert await client.leave() == 0


def test_fill(unpacked_before: dict[str, str]) -> None:
    line = b'{"id": 1, "prefix": "import numpy as ", "suffix": "\\n"}\n'
    done = subprocess.run(
        [sys.executable, "-m", "engine", "fill", "--jsonl"],
        input=line,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=unpacked_before,
        preexec_fn=no_sockets_no_writes,
        check=False,
    )
    assert (done.returncode, done.stdout[:8]) == (0, b'{"id":1,')


async def test_the_log_and_the_weights_are_all_that_is_written_and_the_log_has_no_text(tmp_path: Path) -> None:
    home = {name: str(tmp_path) for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR")}
    command = [part for part in REAL if part not in ("--log", "none")]
    async with LspClient.start(command, cwd=ROOT, env={**QUIET, **home}) as client:
        await client.initialize()
        client.open(URI, "secret_word = 1\nprint(")
        logged = tmp_path / "inpaint" / "log" / "server.log"
        for _ in range(600):  # the model is loading
            await client.complete(URI, 1, 6, INVOKED)
            if re.search(r"passes: \d", logged.read_text()):
                break
            await asyncio.sleep(0.1)
        with pytest.raises(LspError):
            await client.request("secret_word")
        client._writer.write(b"secret_word\r\n\r\n")
        assert await client.gone() == 2
    written = {path.relative_to(tmp_path).parts for path in tmp_path.rglob("*") if path.is_file()}
    assert {parts for parts in written if parts[:2] != ("inpaint", "weights")} == {("inpaint", "log", "server.log")}
    log = (tmp_path / "inpaint" / "log" / "server.log").read_text()
    assert re.search(r"INFO lsp_server.requests: request \d+: \d+\.\d ms, passes: \d+", log)
    assert "cannot be understood" in log
    assert "secret_word" not in log


async def test_of_a_workspace_an_index_is_kept_in_the_users_cache_and_no_text_elsewhere(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    folders = {name: str(home) for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR")}
    for folder in (home, project):
        folder.mkdir()
    (project / "a.py").write_text("print(1)\n")
    async with LspClient.start(REAL, cwd=ROOT, env={**QUIET, **folders}) as client:
        await client.initialize(rootUri=project.as_uri(), initializationOptions={"status": True})
        await client.wait_for("inpaint/status", '"state": "ready"')
        assert await client.leave() == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != project / "a.py"]
    assert written
    kept = {path.relative_to(home).parts[:2] for path in written}
    assert ("inpaint", "index") in kept
    assert kept <= {("inpaint", "index"), ("inpaint", "weights")}
    assert all((home / folder / name).stat().st_mode & 0o077 == 0 for folder, name in kept)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("file", ["/dev/full", "/dev/full/server.log"])
async def test_a_log_that_cannot_be_written_is_done_without(file: str) -> None:
    async with LspClient.start([*REAL, "--log", file], cwd=ROOT) as client:
        await client.initialize()
        client.open(URI, "x = ")
        await client.complete(URI, 0, 4, INVOKED)
        assert await client.leave() == 0
        assert await client.stderr() == ""
