"""No socket is opened, no name resolved and no file written: by the server, by `fill`, by any library in them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from lsp_client import INVOKED, REAL, ROOT, LspClient
from sandbox import ENDED, QUIET, no_sockets_no_writes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the filter is the Linux kernel's")
URI = "file:///project/a.py"


@pytest.mark.parametrize(
    "act", ["import socket; socket.socket()", "import socket; socket.getaddrinfo('a.b', 1)", "open('written', 'w')"]
)
def test_the_filter_ends_who_does_it(act: str) -> None:
    done = subprocess.run([sys.executable, "-c", act], env=QUIET, preexec_fn=no_sockets_no_writes, check=False)
    assert done.returncode == ENDED


async def test_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    async with LspClient.start(
        REAL, cwd=ROOT, env={**QUIET, "HOME": str(home)}, preexec_fn=no_sockets_no_writes
    ) as client:
        await client.initialize()
        client.open(URI, "import os\n\nfor name in os.listdir('.'):\n    print(name)\n\nfor name in ")
        await client.complete(URI, 5, 12, INVOKED)
        assert await client.leave() == 0


def test_fill() -> None:
    line = b'{"id": 1, "prefix": "import numpy as ", "suffix": "\\n"}\n'
    done = subprocess.run(
        [sys.executable, "-m", "engine", "fill", "--jsonl"],
        input=line,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=QUIET,
        preexec_fn=no_sockets_no_writes,
        check=False,
    )
    assert (done.returncode, done.stdout[:8]) == (0, b'{"id":1,')
