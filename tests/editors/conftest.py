"""Neovim in each version, with the scripted server; and VS Code's installation, which takes a while.

One editor serves most tests, for each start of an editor and its server takes seconds. It logs all messages.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vscode_install
from neovim import SCRIPTED, VERSIONS, Neovim, Open, binary, setup

AT_ANY_TIME = {"menu", "display", "debounce_ms", "filetypes"}  # options that a second setup() changes
VSCODE = pytest.StashKey[subprocess.Popen[str]]()  # its installation


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with VS Code's installation while other tests run."""
    if any(item.path.name == "test_vscode.py" for item in session.items) and not session.config.option.collectonly:
        session.config.stash[VSCODE] = vscode_install.begin()


@pytest.fixture(scope="session")
def tools(request: pytest.FixtureRequest) -> vscode_install.Tools:
    try:
        return vscode_install.end(request.config.stash[VSCODE])
    except vscode_install.InstallError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session", params=VERSIONS)
def executable(request: pytest.FixtureRequest) -> str:
    return binary(request.param)


@pytest.fixture(scope="session")
def common(executable: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neovim]:
    """The editor that tests without wishes of their own share."""
    file = tmp_path_factory.mktemp("common") / "a.py"
    file.touch()
    with Neovim.start(executable, file, f"vim.lsp.set_log_level('trace')\n{setup({'cmd': SCRIPTED})}") as editor:
        editor.wait_for_status("idle")
        yield editor


@pytest.fixture
def edit(executable: str, common: Neovim, tmp_path: Path) -> Iterator[Open]:
    """Opens a file of a text in a Neovim with the plugin, `options` to its setup() and the user's Lua `init` before it.

    It waits for the plugin to reach the status `ready`.
    """
    with contextlib.ExitStack() as stack:

        def start(text: str, name: str = "a.py", init: str = "", ready: str = "idle", **options: Any) -> Neovim:
            file = tmp_path / name
            file.write_bytes(text.encode())
            lua = setup({"cmd": SCRIPTED, **options})
            if init or options.keys() - AT_ANY_TIME:
                editor = stack.enter_context(Neovim.start(executable, file, f"{init}\n{lua}"))
            else:
                editor = common
                editor.restart_with(file, lua)
            editor.wait_for_status(ready)
            return editor

        yield start
    common.watchdog.cancel()  # it may wait long for the next test that uses it
