"""Neovim's folder as it is published, and installed by the line of its README for vim.pack, a part of Neovim 0.12.

lazy.nvim and packer.nvim are on no package index; their lines were run by hand.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from neovim import PLUGIN, SCRIPTED, Neovim, binary, script, setup

ADDRESS = "https://github.com/inpaint/inpaint.nvim"  # in the README
GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The repository that the script pushes to."""
    source, remote = tmp_path / "source", tmp_path / "remote" / "inpaint.nvim.git"
    (source / "editors").mkdir(parents=True)
    remote.mkdir(parents=True)
    subprocess.run(["cp", "-r", str(PLUGIN), str(source / "editors")], check=True)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*GIT, *command], cwd=source, check=True)
    subprocess.run([*GIT, "init", "-q", "--bare"], cwd=remote, check=True)
    subprocess.run([str(PLUGIN / "publish.sh"), str(remote)], cwd=source, check=True)
    return remote


def test_what_is_published_is_laid_out_as_a_plugin_and_a_rock(published: Path, tmp_path: Path) -> None:
    subprocess.run([*GIT, "clone", "-q", str(published), str(clone := tmp_path / "clone")], check=True)
    names = {file.name for file in clone.iterdir()}
    assert {"lua", "lsp", "doc", "LICENSE", "README.md", "ghost-text.svg"} <= names
    [rockspec] = clone.glob("*.rockspec")
    assert ADDRESS in rockspec.read_text()
    copied = re.search(r"copy_directories = \{(.*?)\}", rockspec.read_text())
    assert copied is not None
    assert set(json.loads(f"[{copied[1]}]")) == {"doc", "lsp"}  # a rock has lua/ by itself


def test_the_line_of_the_readme_for_vim_pack_installs_it(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{published}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", ADDRESS)
    (tmp_path / "a.txt").touch()
    (tmp_path / "a.py").write_text(script("urn a + b"))
    lines = re.search(r"vim\.pack.*?```lua\n(.*?)\n```", (PLUGIN / "README.md").read_text(), re.DOTALL)
    init = f"""
        vim.opt.runtimepath:remove([[{PLUGIN}]])
        vim.opt.packpath:prepend(vim.fn.stdpath("data") .. "/site")
        vim.fn.confirm = function() return 1 end -- the user's answer
        {lines and lines[1]}
    """
    with Neovim.start(binary("0.12"), tmp_path / "a.txt", init) as editor:
        editor.wait_for(lambda: editor.lua("return vim.v.vim_did_enter == 1"))  # it answers while it installs
        [found] = editor.lua("return vim.api.nvim_get_runtime_file('lua/inpaint/init.lua', true)")
        assert Path(found).is_relative_to(editor.lua("return vim.fn.stdpath('data')"))
        editor.lua(setup({"cmd": SCRIPTED}))
        editor.type(f":edit {tmp_path / 'a.py'}<CR>Goret")
        editor.wait_for_ghost("urn a + b")
        editor.type("<Esc>:help :Inpaint<CR>")
        editor.wait_for(lambda: Path(editor.nvim.current.buffer.name).name == "inpaint.txt")
