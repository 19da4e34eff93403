"""The pictures of the editors in the README: the shipped model's ghost text in a file of this repository's kind.

python tests/editors/screenshot.py editors/neovim/ghost-text.svg
python tests/editors/screenshot.py editors/vscode/ghost-text.png
python tests/editors/screenshot.py editors/vscode/ghost-text.gif    # moves: a word accepted, then all
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from neovim import ROOT, Neovim, binary, setup
from PIL import Image
from vscode import Workbench
from vscode_install import install

TEXT = (ROOT / "editors" / "account.py").read_text()
COLOURS = 64
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


def picture_neovim(picture: Path) -> str:
    """Returns the ghost text that it shows."""
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
            return str(editor.lua("return require('inpaint').text()"))


def picture_vscode(picture: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "bank")
        folder.mkdir()
        with Workbench.start(install(), Path(home), folder, **VSCODE_LOOK) as editor:
            editor.page.set_viewport_size({"width": 760, "height": 400})
            editor.keys("Control+b")  # hides the side bar
            (film if picture.suffix == ".gif" else take)(editor, folder, picture)


def film(editor: Workbench, folder: Path, picture: Path) -> list[str]:
    """What `take` shows, and then a word of it accepted, and all of it. Returns the ghost text of each frame."""
    frames: list[tuple[Image.Image, int]] = []  # with milliseconds
    ghosts: list[str] = []

    def look(milliseconds: int) -> None:
        editor.settle(200)
        ghosts.append(editor.ghost())
        shot = Image.open(io.BytesIO(editor.page.screenshot(caret="initial"))).convert("RGB")
        frames.append((shot.quantize(COLOURS, dither=Image.Dither.NONE), milliseconds))

    begin(editor, folder)
    look(900)
    editor.insert(" ")
    ghost = editor.wait_for_ghost()
    look(1500)
    editor.keys("Control+ArrowRight")
    editor.wait_for(lambda: 0 < len(editor.ghost()) < len(ghost))
    look(1200)
    editor.keys("Tab")
    editor.wait_for(lambda: editor.ghost() == "")
    look(2000)
    images, durations = zip(*frames, strict=True)
    images[0].save(picture, save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=True)
    return ghosts


def take(editor: Workbench, folder: Path, picture: Path) -> str:
    """The picture of a workbench with this folder open. Returns the ghost text that it shows."""
    begin(editor, folder)
    editor.insert(" ")
    editor.wait_for_ghost()
    editor.page.screenshot(path=picture)
    return editor.ghost()


def begin(editor: Workbench, folder: Path) -> None:
    """Open the file where the next key brings a completion."""
    file = folder / "account.py"
    file.write_text(TEXT)
    editor.open(file, TEXT.count("\n"), len(TEXT.splitlines()[-1]) + 1)
    editor.wait_for(lambda: editor.messages("client", "textDocument/didOpen"))  # the server has started
    editor.wait_for_state("idle")
    editor.command("Notifications: Clear All Notifications")  # the welcome


if __name__ == "__main__":
    file = Path(sys.argv[1])
    (picture_neovim if file.suffix == ".svg" else picture_vscode)(file)
