"""The pictures of the editors in the README: the shipped model's ghost text in a file of this repository's kind.

python tests/editors/screenshot.py editors/neovim/ghost-text.svg
python tests/editors/screenshot.py editors/vscode/ghost-text.png
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from neovim import ROOT, Neovim, binary, setup
from vscode import Workbench
from vscode_install import install

TEXT = (ROOT / "editors" / "account.py").read_text()
LOOK = """
vim.opt.cmdheight = 1
vim.opt.number = true
vim.opt.statusline = " account.py  %=inpaint: %{v:lua.require'inpaint'.status()} "
vim.api.nvim_set_hl(0, "InpaintGhost", { link = "Comment" })
"""
VSCODE_LOOK = {
    "breadcrumbs.enabled": False,
    "editor.fontSize": 14,
    "editor.stickyScroll.enabled": False,
    "window.commandCenter": False,
    "workbench.activityBar.location": "hidden",
    "workbench.colorTheme": "Default Dark Modern",
    "workbench.layoutControl.enabled": False,
}


def picture_neovim(picture: Path) -> None:
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


def picture_vscode(picture: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "bank")
        folder.mkdir()
        with Workbench.start(install(), Path(home), folder, **VSCODE_LOOK) as editor:
            editor.page.set_viewport_size({"width": 760, "height": 400})
            editor.keys("Control+b")  # hides the side bar
            take(editor, folder, picture)


def take(editor: Workbench, folder: Path, picture: Path) -> None:
    """The picture of a workbench with this folder open."""
    file = folder / "account.py"
    file.write_text(TEXT)
    editor.open(file, TEXT.count("\n"), len(TEXT.splitlines()[-1]) + 1)
    editor.wait_for(lambda: editor.messages("client", "textDocument/didOpen"))  # the server has started
    editor.wait_for_state("idle")
    editor.insert(" ")
    editor.wait_for_ghost()
    editor.page.screenshot(path=picture)


if __name__ == "__main__":
    {".svg": picture_neovim, ".png": picture_vscode}[Path(sys.argv[1]).suffix](Path(sys.argv[1]))
