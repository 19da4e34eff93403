"""The picture of Neovim in the README: the shipped model's ghost text in a file of this repository's kind.

python tests/editors/screenshot.py editors/neovim/ghost-text.svg
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from neovim import ROOT, Neovim, binary, setup

TEXT = """\
class Account:
    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount):
        self.balance += amount
        return self.balance

    def withdraw(self, amount):
        self.balance -= amount
        return
"""
LOOK = """
vim.opt.cmdheight = 1
vim.opt.number = true
vim.opt.statusline = " account.py  %=inpaint: %{v:lua.require'inpaint'.status()} "
vim.api.nvim_set_hl(0, "InpaintGhost", { link = "Comment" })
"""


def main(picture: Path) -> None:
    server = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "lsp_server", "--stdio"]
    options = {"cmd": server, "server": {"deadlineAutomaticMs": 1000, "minConfidence": 0}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "account.py")
        file.write_text(TEXT)
        with Neovim.start(binary("0.12"), file, setup(options) + LOOK, width=72, height=15) as editor:
            editor.wait_for_status("idle")
            editor.type("GA ")
            editor.wait_for_status("shown")
            editor.nvim.command("redrawstatus")
            picture.write_text(editor.look().svg())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
