"""Neovim in each version, with the scripted server."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from neovim import ROOT, VERSIONS, Neovim, Open, binary, setup

SCRIPTED = [sys.executable, str(ROOT / "tests" / "lsp_server" / "scripted_server.py"), "--stdio"]


@pytest.fixture(scope="session", params=VERSIONS)
def executable(request: pytest.FixtureRequest) -> str:
    return binary(request.param)


@pytest.fixture
def edit(executable: str, tmp_path: Path) -> Iterator[Open]:
    """Opens a file of a text in a Neovim with the plugin, `options` to its setup() and the user's Lua `init` before it.

    It waits for the plugin to reach the status `ready`.
    """
    with contextlib.ExitStack() as stack:

        def start(text: str, name: str = "a.py", init: str = "", ready: str = "idle", **options: Any) -> Neovim:
            file = tmp_path / name
            file.write_bytes(text.encode())
            lua = f"{init}\n{setup({'cmd': SCRIPTED, **options})}"
            editor = stack.enter_context(Neovim.start(executable, file, lua))
            editor.wait_for_status(ready)
            return editor

        yield start
