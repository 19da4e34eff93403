"""The sources for the menus of nvim-cmp and blink.cmp, and our plugin beside these two as they are.

They are on no package index. So the sources are driven by stand-ins, which ask them as the two document it (`:help
cmp-develop`, "Source Boilerplate" of blink.cmp) and apply an entry as they do; beside the plugins as they are it is
tested where INPAINT_PLUGINS names a folder with clones of them. test_neovim.py has stand-ins for their menus.
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
STAND_INS = {
    "nvim-cmp": """
        local source, encoding, item = require("inpaint.cmp"), nil, nil
        function Complete()
            encoding = source:get_position_encoding_kind()
            assert(source:is_available() and vim.islist(source:get_trigger_characters()))
            local before = vim.api.nvim_get_current_line():sub(1, vim.api.nvim_win_get_cursor(0)[2])
            local offset = #before:match("^(.-)[%w_]*$") + 1 -- where the keyword begins, from 1
            local params = { offset = offset, context = { cursor_before_line = before } }
            params.completion_context = { triggerKind = 1 }
            source:complete(params, vim.schedule_wrap(function(response)
                Entries, Again = response.items, response.isIncomplete
            end))
        end
        function Confirm()
            Apply(Entries[1], encoding)
            source:execute(Entries[1], function() Executed = true end)
        end
    """,
    "blink.cmp": """
        local source = require("inpaint.blink").new({}, { name = "Inpaint", module = "inpaint.blink" })
        local function context()
            return { bufnr = 0, line = vim.api.nvim_get_current_line(), cursor = vim.api.nvim_win_get_cursor(0) }
        end
        function Complete()
            assert(source:enabled() and vim.islist(source:get_trigger_characters()))
            Cancel = source:get_completions(context(), function(response)
                Entries, Again = response.items, response.is_incomplete_forward and response.is_incomplete_backward
            end)
        end
        function Confirm()
            local function executed() Executed = true end
            source:execute(context(), Entries[1], executed, function() Apply(Entries[1], "utf-8") end)
        end
    """,
}
APPLY = """
    Entries, Again, Executed = nil, nil, nil
    function Apply(item, encoding) -- in the place of what stands from the entry's beginning to the cursor
        local line, column = vim.api.nvim_get_current_line(), vim.api.nvim_win_get_cursor(0)[2]
        local edit = vim.deepcopy(item.textEdit)
        edit.range["end"].character = vim.str_utfindex(line, encoding, column)
        local typed = line:sub(vim.str_byteindex(line, encoding, edit.range.start.character) + 1, column)
        assert(vim.startswith(item.filterText, typed), "no entry for what is typed")
        vim.lsp.util.apply_text_edits({ edit }, vim.api.nvim_get_current_buf(), encoding)
    end
"""
NEOVIMS_OWN = """
    local function request(method, _, callback)
        if method == "textDocument/completion" then
            function Answer() callback(nil, { { label = "retrieve" }, { label = "returned" } }) end
        else
            callback(nil, { capabilities = { completionProvider = { triggerCharacters = { "t" } } } })
        end
        return true, 1
    end
    local function nothing() end
    local server = { request = request, notify = nothing, is_closing = nothing, terminate = nothing }
    vim.api.nvim_create_autocmd("BufReadPost", { callback = function()
        local client = vim.lsp.start({ name = "words", cmd = function() return server end })
        vim.lsp.completion.enable(true, client, 0, { autotrigger = true })
    end })
"""
INSTALLED = [name for name in ("nvim-cmp", "blink.cmp") if (PLUGINS / name).exists()]


def init(plugin: str, source: str) -> str:
    """The user's Lua: the plugin with one source."""
    lua = {"nvim-cmp": CMP, "blink.cmp": BLINK}[plugin].replace("SOURCE", json.dumps(source))
    return f"vim.opt.runtimepath:append('{PLUGINS / plugin}')\nvim.cmd.runtime('plugin/cmp.lua')\n{lua}"


def with_source(edit: Open, plugin: str, text: str) -> Neovim:
    editor = edit(text, display="key")
    editor.lua(APPLY + STAND_INS[plugin])
    return editor


@pytest.mark.parametrize("plugin", STAND_INS)
def test_a_source_completes_and_tells_what_was_accepted(edit: Open, plugin: str) -> None:
    editor = with_source(edit, plugin, script("eturn a + b"))
    before = editor.lua("return require('inpaint.server').status.counts.accepted")
    editor.type("Go'😀'; r")
    editor.lua("Complete()")
    editor.wait_for(lambda: editor.lua("return Entries"))
    [entry] = editor.lua("return Entries")
    assert (entry["label"], entry["filterText"]) == ("return a + b", "return a + b")
    assert editor.lua("return Again")  # or it would be asked once a word
    editor.lua("Confirm()")
    assert editor.lines[-1] == "'😀'; return a + b"
    editor.wait_for(lambda: editor.lua("return require('inpaint.server').status.counts.accepted") == before + 1)
    assert editor.lua("return Executed")


@pytest.mark.parametrize("plugin", STAND_INS)
def test_a_source_answers_although_it_is_typed_on(edit: Open, plugin: str, tmp_path: Path) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    editor = with_source(edit, plugin, script("turn a + b", gate=str(gate), started=str(started)))
    editor.type("Gor")
    editor.lua("Complete()")
    editor.wait_for(started.exists)
    changes = editor.log.read_text().count("textDocument/didChange")
    editor.type("e")
    editor.wait_for(lambda: editor.log.read_text().count("textDocument/didChange") > changes)  # the server knows
    gate.touch()
    editor.wait_for(lambda: editor.lua("return Entries"))
    assert editor.lua("return Entries[1].filterText") == "return a + b"
    editor.lua("Confirm()")
    assert editor.lines[-1] == "return a + b"


@pytest.mark.parametrize("plugin", STAND_INS)
def test_an_entry_of_several_lines_says_that_there_are_more(edit: Open, plugin: str) -> None:
    editor = with_source(edit, plugin, script("a = 1\n    b = 2"))
    editor.type("Godef f():<CR>")
    editor.lua("Complete()")
    editor.wait_for(lambda: editor.lua("return Entries"))
    assert editor.lua("return Entries[1].label") == "a = 1 …"
    editor.lua("Confirm()")
    assert editor.lines[-2:] == ["    a = 1", "    b = 2"]


def has_menu(editor: Neovim, entry: str) -> bool:
    return any(entry in row for row in editor.look().text()[2:])


def test_neovims_own_menu_hides_the_ghost_text_when_it_opens_late(edit: Open) -> None:
    editor = edit(script("urn a + b"), init=NEOVIMS_OWN)
    editor.type_slowly("Goret")
    editor.wait_for_ghost("urn a + b")
    editor.wait_for(lambda: editor.lua("return Answer ~= nil"))
    editor.lua("Answer()")
    editor.wait_for(lambda: has_menu(editor, "retrieve"))
    editor.wait_for_ghost("")
    editor.type("<C-e>")
    editor.wait_for_ghost("urn a + b")


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
    editor = edit(script("eturn a + b"), init=init(plugin, "inpaint"), display="key")
    editor.type_slowly("Gor")
    editor.wait_for(lambda: has_menu(editor, "return a + b"))
    editor.type("<C-y>")
    editor.wait_for(lambda: editor.lines[-1] == "return a + b")
    editor.wait_for(lambda: editor.lua("return require('inpaint.server').status.counts.accepted") == 1)
