"""Beside nvim-cmp and blink.cmp as they are, and in their menus.

They are on no package index: these tests are there where INPAINT_PLUGINS names a folder with clones of them.
test_neovim.py has stand-ins for what the plugin uses of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from neovim import Neovim, Open, script

PLUGINS = Path(os.environ.get("INPAINT_PLUGINS", "/nowhere"))
CMP = """
local cmp = require("cmp")
cmp.register_source("words", {
    new = nil,
    complete = function(_, _, callback) callback({ { label = "retrieve" }, { label = "returned" } }) end,
})
cmp.register_source("inpaint", require("inpaint.cmp"))
cmp.setup({
    snippet = { expand = function() end },
    mapping = { ["<C-y>"] = cmp.mapping.confirm({ select = true }), ["<C-e>"] = cmp.mapping.abort() },
    sources = { { name = SOURCE } },
})
"""
BLINK = """
package.preload.words = function()
    return { new = function() return {
        get_completions = function(_, _, callback)
            callback({ items = { { label = "retrieve" }, { label = "returned" } } })
        end,
    } end }
end
require("blink.cmp").setup({
    fuzzy = { implementation = "lua" },
    keymap = { preset = "none", ["<C-y>"] = { "select_and_accept" }, ["<C-e>"] = { "cancel" } },
    sources = {
        default = { SOURCE },
        providers = {
            words = { name = "Words", module = "words" },
            inpaint = { name = "Inpaint", module = "inpaint.blink", async = true },
        },
    },
})
"""
INSTALLED = [name for name in ("nvim-cmp", "blink.cmp") if (PLUGINS / name).exists()]


def init(plugin: str, source: str) -> str:
    """The user's Lua: the plugin with one source."""
    lua = {"nvim-cmp": CMP, "blink.cmp": BLINK}[plugin].replace("SOURCE", json.dumps(source))
    return f"vim.opt.runtimepath:append('{PLUGINS / plugin}')\nvim.cmd.runtime('plugin/cmp.lua')\n{lua}"


def has_menu(editor: Neovim, entry: str) -> bool:
    return any(entry in row for row in editor.look().text()[2:])


@pytest.mark.parametrize("plugin", INSTALLED)
def test_its_menu_hides_the_ghost_text_while_it_is_open(edit: Open, plugin: str) -> None:
    editor = edit(script("urn a + b"), init=init(plugin, "words"))
    editor.type_slowly("Goret")  # nvim-cmp looks at keys, not at what comes in one go
    editor.wait_for(lambda: has_menu(editor, "retrieve"))
    editor.wait_for_ghost("")
    editor.type("<C-e>")
    editor.wait_for_ghost("urn a + b")
    editor.type("<Tab>")
    assert editor.lines[-1] == "return a + b"


@pytest.mark.parametrize("plugin", INSTALLED)
def test_completions_in_its_menu(edit: Open, plugin: str) -> None:
    editor = edit(script("eturn a + b"), init=init(plugin, "inpaint"), show="key")
    editor.type_slowly("Gor")
    editor.wait_for(lambda: has_menu(editor, "return a + b"))
    editor.type("<C-y>")
    editor.wait_for(lambda: editor.lines[-1] == "return a + b")
    editor.wait_for(lambda: editor.lua("return require('inpaint.server').status.counts.accepted") == 1)
