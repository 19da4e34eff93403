"""The Neovim plugin in real Neovims, as a user meets it; with a scripted engine where a text must be known before."""

from __future__ import annotations

import html
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from neovim import GHOST, PLUGIN, ROOT, SCRIPTED, Neovim, Open, script
from screenshot import picture_neovim

REAL = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "lsp_server", "--stdio"]
ALONE = "-- an editor of its own"
ENDLESS = 100_000  # passes: many minutes
STATISTICS = """\
def mean(values):
    return sum(values) / len(values)


class Point:
    def __init__(self, x, y):
        self.x = x
"""


def shown(edit: Open, text: str, typed: str = "Goret", **options: object) -> Neovim:
    """An editor with ghost text: those keys typed into a file whose script says that text."""
    editor = edit(script(text), **options)
    editor.type(typed)
    editor.wait_for_ghost(text)
    return editor


# ---------------------------------------------------------------- the main job


def test_what_the_shipped_model_shows_is_what_tab_inserts(edit: Open) -> None:
    editor = edit(STATISTICS, cmd=REAL, server={"minConfidence": 0, "deadlineAutomaticMs": 10_000})
    editor.type("Goself.y = ")
    editor.wait_for(editor.ghost)
    ghost = editor.ghost()
    assert editor.row("        self.y = ") == "        self.y = " + ghost
    editor.type("<Tab>")
    assert "\n".join(editor.lines) == STATISTICS + "        self.y = " + ghost


def test_the_picture_of_the_readme(tmp_path: Path) -> None:
    ghost = picture_neovim(tmp_path / "ghost-text.svg")
    assert f">{html.escape(ghost)}</text>" in (tmp_path / "ghost-text.svg").read_text()


def test_accepting_is_one_step_of_undo(edit: Open) -> None:
    editor = shown(edit, "urn a + b")
    editor.type("<Tab><Esc>")
    assert editor.lines[1:] == ["return a + b"]
    editor.type("u")
    assert editor.lines[1:] == ["ret"]
    editor.type("u")
    assert editor.lines[1:] == []
    editor.type("2<C-r>")
    assert editor.lines[1:] == ["return a + b"]


def test_dot_repeats_what_was_accepted(edit: Open) -> None:
    editor = shown(edit, "urn a + b")
    editor.type("<Tab><Esc>.")
    assert editor.lines[1:] == ["return a + b", "return a + b"]


def test_accepting_by_words(edit: Open) -> None:
    editor = shown(edit, "urn über(x)")
    for expected in ("return", "return über", "return über(", "return über(x"):
        editor.type("<M-Right>")
        assert editor.lines[-1] == expected
    editor.wait_for_ghost(")")


def test_accepting_by_lines(edit: Open) -> None:
    editor = shown(edit, "a = 1\n    b = 2\n    c = 3", typed="Godef f():<CR>")
    editor.type("<M-C-Right>")
    assert editor.lines[2:] == ["    a = 1"]
    editor.type("<M-C-Right>")
    assert editor.lines[2:] == ["    a = 1", "    b = 2"]
    editor.wait_for_ghost("    c = 3")


# ---------------------------------------------------------------- what the server hears of it


def counts(editor: Neovim) -> dict[str, int]:
    """What became of the suggestions; how many were shown depends on how fast the keys are typed.

    It is asked for, for the status may be of before what the last test did.
    """
    answers = editor.lua("return vim.tbl_values(vim.lsp.buf_request_sync(0, 'inpaint/statistics', vim.NIL, 60000))")
    counts = answers[0]["result"]["counts"]
    assert counts.pop("shown") >= sum(counts.values())
    return dict(counts)


def counted(editor: Neovim, before: dict[str, int], **more: int) -> bool:
    """Whether the counts are those of before and so many more."""
    return counts(editor) == {kind: number + more.get(kind, 0) for kind, number in before.items()}


def test_the_server_hears_of_what_was_accepted(edit: Open) -> None:
    editor = edit(script("urn a"))
    before = counts(editor)
    editor.type("Goret")
    editor.wait_for_ghost("urn a")
    editor.type("<Tab>")
    editor.wait_for(lambda: counted(editor, before, accepted=1))


def test_the_server_hears_of_a_part_and_then_of_the_whole(edit: Open) -> None:
    editor = edit(script("urn '🎈' + b"))
    before = counts(editor)
    editor.type("Goret")
    editor.wait_for_ghost("urn '🎈' + b")
    editor.type("<M-Right><M-Right>")
    editor.wait_for(lambda: counted(editor, before, partlyAccepted=1))
    assert "characters = 3" in editor.log.read_text()  # urn
    editor.type("<Tab>")
    editor.wait_for(lambda: counted(editor, before, accepted=1))


def test_the_server_hears_of_what_was_dismissed(edit: Open) -> None:
    editor = edit(script("urn a"))
    before = counts(editor)
    editor.type("Goret")
    editor.wait_for_ghost("urn a")
    editor.type("<C-]>")
    editor.wait_for(lambda: counted(editor, before, dismissed=1))


# ---------------------------------------------------------------- ghost text


def test_typing_what_is_suggested_does_not_flicker(edit: Open) -> None:
    editor = shown(edit, "urn a + b")
    editor.frames()
    editor.type_slowly("urn a +")
    editor.wait_for_ghost(" b")
    frames = editor.frames()
    assert len(frames) >= 7
    for frame in frames:
        assert editor.screen.text(frame)[1] == "return a + b"
        assert editor.screen.coloured(GHOST, frame)


def test_typing_through_a_line_end_with_automatic_indentation(edit: Open) -> None:
    editor = shown(edit, "a = 1\n    b = 2", typed="Godef f():<CR>")
    editor.type_slowly("a = 1")
    editor.frames()
    editor.type("<CR>")
    editor.wait_for_ghost("b = 2")
    assert all("    b = 2" in editor.screen.text(frame) for frame in editor.frames())


def test_typing_something_else_hides_it_at_once(edit: Open, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    editor = edit(script("urn a + b", gate=str(gate)))
    editor.type("Goret")
    editor.wait_for_ghost("urn a + b")
    gate.unlink()  # so that nothing new comes
    editor.frames()
    editor.type("x")
    editor.wait_for(lambda: editor.row("retx"))
    assert {editor.screen.text(frame)[1] for frame in editor.frames()} <= {"return a + b", "retx"}
    gate.touch()  # or the engine would wait for it when all is over


def test_a_backspace_brings_the_longer_one_back(edit: Open) -> None:
    editor = shown(edit, "urn a + b")
    editor.type("urn")
    editor.wait_for_ghost(" a + b")
    editor.type("<BS>")
    editor.wait_for_ghost("n a + b")


def test_the_rest_of_the_line_stays_visible(edit: Open) -> None:
    editor = edit(script("a, b") + "print()  # tail\n")
    editor.type("j0f(a")
    editor.wait_for_ghost("a, b")
    assert editor.row("print") == "print(a, b)  # tail"
    editor.type("<Tab>")
    assert editor.lines[1] == "print(a, b)  # tail"


def test_tabs_are_drawn_as_wide_as_they_are(edit: Open) -> None:
    editor = edit(script("if a:\n\t\tb = 2"))
    editor.nvim.command("setlocal tabstop=4 noexpandtab")
    editor.type("Godef f():<CR>")
    editor.wait_for_ghost("if a:\n        b = 2")
    editor.type("<Tab>")
    assert editor.lines[-1] == "\t\tb = 2"


def test_dismissed_until_the_text_is_another(edit: Open) -> None:
    editor = shown(edit, "urn a + b")
    editor.type("<C-]>")
    editor.wait_for_ghost("")
    for key in ("<Left>", "<Right>"):
        editor.type(key)
        assert editor.status() == "idle"
    editor.type("urn")
    editor.wait_for(lambda: "was dismissed" in editor.said())
    assert editor.ghost() == ""
    editor.type("x")
    editor.wait_for_ghost("urn a + b")


def test_asked_for_by_key_after_a_move(edit: Open) -> None:
    editor = shown(edit, "urn a + b")
    editor.type("<Left>")
    editor.wait_for_ghost("")
    assert editor.status() == "idle"
    editor.type(r"<Right><M-\>")
    editor.wait_for_ghost("urn a + b")


def test_next_and_previous_of_several(edit: Open) -> None:
    two = [sys.executable, str(ROOT / "tests" / "editors" / "two_items.py")]
    editor = edit("", cmd=two)
    editor.type("iret")
    editor.wait_for_ghost("urn a")
    for key, text in (("<M-]>", "ire"), ("<M-]>", "urn a"), ("<M-[>", "ire"), ("<M-[>", "urn a")):
        editor.type(key)
        editor.wait_for_ghost(text)
    editor.type("u<M-]>")  # after what is typed only one of them holds
    editor.wait_for_ghost("rn a")
    editor.type("<Tab>")
    assert editor.lines == ["return a"]


def test_which_of_several_it_is(edit: Open) -> None:
    editor = edit("", cmd=[sys.executable, str(ROOT / "tests" / "editors" / "two_items.py")])
    editor.type("iret")
    editor.wait_for(lambda: editor.row("return a") == "return a 1/2")
    editor.type("<M-]>")
    editor.wait_for(lambda: editor.row("retire") == "retire 2/2")
    assert "workspace: reading, 3 of 12 files" in editor.said()


def test_next_where_there_is_one_asks_for_others_and_shows_the_second(edit: Open) -> None:
    editor = edit("", cmd=[sys.executable, str(ROOT / "tests" / "editors" / "two_items.py"), "one"])
    editor.type("iret")
    editor.wait_for(lambda: editor.row("return a") == "return a")
    editor.type("<M-]>")
    editor.wait_for(lambda: editor.row("retire") == "retire 2/3")
    editor.type("<M-[>")
    editor.wait_for_ghost("urn a")


def test_next_where_there_is_one_asks_for_more(edit: Open) -> None:
    editor = shown(edit, "urn a + b")
    editor.type("<M-]>")
    editor.wait_for(lambda: "triggerKind = 1" in editor.log.read_text())
    editor.wait_for_ghost("urn a + b")


def test_leaving_insert_mode_hides_it(edit: Open) -> None:
    editor = shown(edit, "urn a + b")
    editor.type("<Esc>")
    editor.wait_for_ghost("")
    assert editor.lines[1:] == ["ret"]


def test_a_completion_menu_hides_it_while_it_is_open(edit: Open) -> None:
    editor = edit(script("urn a + b") + "retrieve\nreturned\n")
    editor.type("Goret")
    editor.wait_for_ghost("urn a + b")
    editor.type("<C-n>")
    editor.wait_for(lambda: editor.nvim.funcs.pumvisible())
    editor.wait_for_ghost("")
    editor.type("<C-e>")
    editor.wait_for_ghost("urn a + b")


def test_a_completion_menu_leaves_it_where_that_is_asked_for(edit: Open) -> None:
    editor = edit(script("x") + "retrieve\nreturned\n", menu="keep")
    editor.type("Goret<C-n>")
    editor.wait_for(lambda: editor.nvim.funcs.pumvisible())
    editor.wait_for_ghost("x")


STAND_INS = {
    "nvim-cmp": """
        local listeners, open = {}, false
        package.loaded.cmp = {
            visible = function() return open end,
            event = { on = function(_, name, listener) listeners[name] = listener end },
        }
        function Menu(now)
            open = now
            listeners[now and "menu_opened" or "menu_closed"]()
        end
    """,
    "blink.cmp": """
        local open = false
        package.loaded["blink.cmp.completion.windows.menu"] = { win = { is_open = function() return open end } }
        function Menu(now)
            open = now
            vim.api.nvim_exec_autocmds("User", { pattern = now and "BlinkCmpMenuOpen" or "BlinkCmpMenuClose" })
        end
    """,
    "coc.nvim": """
        vim.g.open = 0
        local autoload = vim.fn.tempname() .. "/autoload/coc" -- elsewhere a function may not have such a name
        vim.fn.mkdir(autoload, "p")
        vim.fn.writefile({ "function! coc#pum#visible()", "return g:open", "endfunction" }, autoload .. "/pum.vim")
        vim.cmd.source(autoload .. "/pum.vim")
        function Menu(now) -- it tells of a window that opens, and of none that closes
            if now then
                vim.api.nvim_exec_autocmds("User", { pattern = "CocOpenFloat" })
            end
            vim.g.open = now and 1 or 0
        end
    """,
}


@pytest.mark.parametrize("plugin", STAND_INS)
def test_the_menu_of_a_plugin_hides_it_while_it_is_open(edit: Open, plugin: str) -> None:
    editor = shown(edit, "urn a + b", init=STAND_INS[plugin])
    editor.lua("Menu(true)")
    editor.wait_for_ghost("")
    editor.lua("Menu(false)")
    editor.wait_for_ghost("urn a + b")


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize("key", ["x", "<Esc>"])
def test_typing_on_or_leaving_cancels_the_request(edit: Open, tmp_path: Path, key: str) -> None:
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    editor = edit(script("late", passes=ENDLESS, started=str(started), stopped=str(stopped)))
    editor.type("Goret")
    editor.wait_for(started.exists)
    editor.wait_for_status("thinking")
    editor.type(key)
    editor.wait_for(stopped.exists)
    assert "$/cancelRequest" in editor.log.read_text()


def test_a_wait_after_each_key(edit: Open) -> None:
    editor = edit(script("urn a + b"), debounce_ms=300)
    editor.type("Goret")  # in one go, for which 300 ms is ample on any machine
    editor.wait_for_ghost("urn a + b")
    requests = [
        line for line in editor.log.read_text().splitlines() if "rpc.send" in line and "inlineCompletion" in line
    ]
    assert len([line for line in requests if "triggerKind" in line]) == 1


# ---------------------------------------------------------------- texts and files


def test_a_line_of_unicode(edit: Open) -> None:
    editor = edit(script('🎉")') + 's = "äöü 日本 🎈"\n')
    editor.type('Goprint("é🎈')
    editor.wait_for_ghost('🎉")')
    editor.type("<Tab>")
    assert editor.lines[-1] == 'print("é🎈🎉")'


def test_a_file_with_crlf_stays_one(edit: Open, tmp_path: Path) -> None:
    editor = edit(script("a = 1\n    b = 2").replace("\n", "\r\n") + "x = 1\r\n")
    assert editor.nvim.current.buffer.options["fileformat"] == "dos"
    editor.type("Godef f():<CR>")
    editor.wait_for_ghost("a = 1\n    b = 2")
    editor.type("<Tab><Esc>:w<CR>")
    editor.wait_for(lambda: b"    b = 2\r" in (tmp_path / "a.py").read_bytes())
    assert (tmp_path / "a.py").read_bytes().endswith(b"x = 1\r\ndef f():\r\n    a = 1\r\n    b = 2\r\n")


def test_two_files_and_one_server(edit: Open, tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(script("other"))
    editor = shown(edit, "urn a + b")
    editor.type(f"<Esc>:w<CR>:edit {tmp_path / 'b.py'}<CR>Goan")
    editor.wait_for_ghost("other")
    editor.type("<Esc>:w<CR>:edit #<CR>Ax")
    editor.wait_for_ghost("urn a + b")
    assert editor.lua("return #vim.lsp.get_clients()") == 1


# ---------------------------------------------------------------- the server's life


def server_pid(editor: Neovim) -> int:
    """The process of the server, the only child of Neovim; 0 while there is none."""
    return next(iter(editor.lua("return vim.api.nvim_get_proc_children(vim.uv.os_getpid())")), 0)


def test_a_killed_server_is_started_again(edit: Open) -> None:
    editor = shown(edit, "urn a + b", init=ALONE)
    first = server_pid(editor)
    os.kill(first, signal.SIGKILL)
    editor.wait_for_status("loading")
    editor.wait_for_status("idle", "shown")
    assert server_pid(editor) not in (0, first)
    editor.type("<Esc>Sxy")
    editor.wait_for_ghost("urn a + b")


def test_a_server_that_keeps_ending_is_given_up(edit: Open) -> None:
    editor = edit("x", ready="error", cmd=[sys.executable, "-c", "raise SystemExit(3)"])
    editor.wait_for(lambda: "keeps ending" in editor.messages())
    assert "keeps ending" in editor.said()


def test_restart_and_log(edit: Open) -> None:
    editor = shown(edit, "urn a + b", init=ALONE)
    first = server_pid(editor)
    editor.type("<Esc>:Inpaint restart<CR>")
    editor.wait_for(lambda: editor.status() == "idle" and server_pid(editor) not in (0, first))
    editor.type(":Inpaint log<CR>")
    editor.wait_for(lambda: editor.nvim.current.buffer.name.endswith("lsp.log"))


def test_a_model_that_loads_is_waited_for(edit: Open, tmp_path: Path) -> None:
    model = tmp_path / "model"
    editor = edit(script("urn a + b"), ready="loading", server={"model": str(model)})
    editor.type("Goret")
    editor.wait_for(lambda: editor.lines[1:] == ["ret"])
    assert editor.status() == "loading"
    model.touch()
    editor.wait_for_ghost("urn a + b")


def test_a_model_that_is_missing_is_said_to_be(edit: Open) -> None:
    editor = edit("x", ready="error", server={"model": "missing"})
    assert "is missing: install it again" in editor.said()


def test_without_a_server_there_is_one_notice_a_session(edit: Open, tmp_path: Path) -> None:
    (tmp_path / "b.py").touch()
    editor = edit("x", ready="error", cmd=["no-such-server"])
    editor.wait_for(lambda: "no server found" in editor.messages())
    editor.type(f":edit {tmp_path / 'b.py'}<CR>:edit #<CR>")
    assert not editor.waits_for_enter()
    assert editor.messages().count("Inpaint") == 1
    assert "traceback" not in editor.messages()
    editor.nvim.command("checkhealth inpaint")
    report = "\n".join(editor.lines)
    assert 'there is no "no-such-server"' in report
    assert "uv tool install" in report


def test_the_server_of_the_repository_is_found(edit: Open, tmp_path: Path) -> None:
    plugin, program = tmp_path / "editors" / "neovim", tmp_path / ".venv" / "bin" / "inpaint-lsp"
    shutil.copytree(PLUGIN, plugin)
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nexec {' '.join(SCRIPTED)}\n")
    program.chmod(0o755)
    init = f"vim.opt.runtimepath:prepend('{plugin}'); vim.env.PATH, vim.env.HOME = '/usr/bin:/bin', '{tmp_path}'"
    editor = edit(script("urn a + b"), init=init, cmd=[])
    assert editor.lua("return require('inpaint.server').command()") == [str(program), "--stdio"]
    editor.type("Goret")
    editor.wait_for_ghost("urn a + b")


def test_the_status_line(edit: Open, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    editor = edit(script("urn a + b", gate=str(gate)))
    documented = (PLUGIN / "doc" / "inpaint.txt").read_text().split("*inpaint-status*")[1]
    editor.lua(documented.split(">lua\n")[1].split("\n<\n")[0])
    editor.type("Goret")
    editor.wait_for(lambda: any(row.endswith("thinking") for row in editor.look().text()))
    gate.touch()
    editor.wait_for(lambda: any(row.endswith("shown") for row in editor.look().text()))
    editor.nvim.command("set statusline&")


def test_status(edit: Open) -> None:
    editor = shown(edit, "urn a + b")
    editor.wait_for(lambda: editor.lua("return require('inpaint.server').status.latencyMs"))
    said = editor.said()
    assert re.search(r"Inpaint: shown\nmodel: auto\nlast fill: \d+ ms, (1 passes|remembered)\n\d+ suggestions: ", said)
    editor.type("<Esc>:Inpaint status<CR>")
    editor.wait_for(lambda: "model: auto" in "".join(editor.look().text()))
    assert not editor.waits_for_enter()


def test_the_workspace_is_said_and_read_anew(edit: Open, tmp_path: Path) -> None:
    (project := tmp_path / "project").mkdir()
    (project / "area.py").write_text("def area(width, height):\n    return width * height\n")
    (project / "built.py").touch()
    (project / ".gitignore").write_text("built.py\n")
    editor = edit(script("urn a + b", copied=1), server={"folders": [str(project)]})
    editor.wait_for(lambda: re.search(r"workspace: 1 files known; left out: .*1 ignored", editor.said()))
    editor.type("Goret")
    editor.wait_for_ghost("urn a + b")
    editor.wait_for(lambda: f"copied from: {tmp_path / 'a.py'}:1" in editor.said())
    editor.lua("""
        States = {}
        vim.api.nvim_create_autocmd("User", { pattern = "InpaintStatus", callback = function()
            table.insert(States, require("inpaint.server").status.index.state)
        end })
    """)
    editor.nvim.command("Inpaint reindex")
    editor.wait_for(lambda: (states := editor.lua("return States")) and "building" in states and states[-1] == "ready")


# ---------------------------------------------------------------- why it is silent


@pytest.mark.parametrize(
    ("name", "text", "options", "state", "reason"),
    [
        ("a.py", script("x"), {"server": {"disabledGlobs": ["a.py"]}}, "excluded", "a pattern"),
        ("a.py", script("x"), {"server": {"disabledLanguages": ["python"]}}, "off", "language is turned off"),
        ("a.py", script("x"), {"display": "key"}, "idle", "until asked by key"),
        (
            "a.txt",
            "x",
            {"filetypes": ["python"]},
            "off",
            'The filetype "text" is none of those it completes in: python.',
        ),
    ],
)
def test_the_reason_is_said(
    edit: Open, name: str, text: str, options: dict[str, object], state: str, reason: str
) -> None:
    editor = edit(text, name=name, ready=state, **options)
    editor.wait_for(lambda: reason in editor.said())


def test_being_unsure_is_said(edit: Open) -> None:
    editor = edit(script("urn a", confidence=0.1))
    editor.type("Goret")
    editor.wait_for(lambda: "not sure enough" in editor.said())


def test_loading_is_said(edit: Open, tmp_path: Path) -> None:
    editor = edit("x", ready="loading", server={"model": str(tmp_path / "model")})
    assert "is being loaded" in editor.said()
    (tmp_path / "model").touch()


def test_a_language_that_the_model_does_not_know_is_said_to_be(edit: Open) -> None:
    editor = edit(script("x"), name="a.lua", ready="off", init=ALONE)
    editor.nvim.command("Inpaint enable lua")  # which starts the server
    editor.wait_for_status("idle")
    editor.wait_for(lambda: "expect little in lua" in editor.messages())
    assert "rust only: expect little of it here" in editor.said()


def test_snoozed_and_awake(edit: Open) -> None:
    editor = shown(edit, "urn a + b")
    editor.nvim.command("Inpaint snooze 10")
    editor.type("x")
    editor.wait_for_status("snoozed")
    assert re.search(r"snoozed until \d\d:\d\d", editor.said())
    assert editor.ghost() == ""
    editor.type(r"<M-\>")
    editor.wait_for_ghost("urn a + b")
    editor.nvim.command("Inpaint enable")
    editor.type("y")
    editor.wait_for_ghost("urn a + b")


def test_a_mark_until_asked_by_key(edit: Open) -> None:
    editor = edit(script("urn a + b"), display="mark")
    editor.type("Goret")
    editor.wait_for(lambda: editor.row("ret") == "ret »")
    assert editor.ghost() == ""
    editor.type(r"<M-\>")
    editor.wait_for_ghost("urn a + b")
    editor.type("<Tab>")
    assert editor.lines[-1] == "return a + b"


def test_nothing_until_asked_by_key(edit: Open) -> None:
    editor = edit(script("urn a + b"), display="key")
    editor.type("Goret")
    editor.wait_for(lambda: editor.lines[-1] == "ret")
    assert "inlineCompletion" not in "".join(line for line in editor.log.read_text() if "rpc.send" in line)
    editor.type(r"<M-\>")
    editor.wait_for_ghost("urn a + b")


def figures(editor: Neovim) -> str:
    """The page, once it is open; the screen has not all of it."""
    editor.wait_for(lambda: any("shown" in row and "half took" in row for row in editor.look().text()))
    page = editor.lua("return vim.api.nvim_buf_get_lines(vim.fn.winbufnr(vim.b.lsp_floating_preview), 0, -1, true)")
    editor.nvim.command("fclose!")
    return "\n".join(page)


def test_figures(edit: Open) -> None:
    editor = shown(edit, "urn a + b", init=ALONE)
    editor.type("<Tab><Esc>:Inpaint stats<CR>")
    page = figures(editor)
    assert re.search("shown +accepted +ratio +characters saved +half took", page)
    for name in ("all", "python", r"\d{4}-\d\d-\d\d"):
        assert re.search(name + r" +1 +1 +100 % +9 +(to|over) \d+ ms", page)
    assert re.search(r"(to|over) \d+ ms +1 █+", page)
    editor.type(":Inpaint stats reset<CR>")
    editor.wait_for(lambda: "the figures are forgotten" in editor.messages())
    editor.type(":Inpaint stats<CR>")
    assert "python" not in figures(editor)


def test_the_tutor(edit: Open) -> None:
    editor = edit("x = 1\n", init=ALONE)
    editor.nvim.command("Inpaint tutor")
    assert "<Tab> takes it all" in "\n".join(editor.lines)
    editor.lua(f"vim.api.nvim_buf_set_lines(0, 0, 1, true, {{ [[{script('self.balance').strip()}]] }})")
    editor.type("A ")
    editor.wait_for_ghost("self.balance")
    editor.type("<Tab>")
    assert "        return self.balance" in editor.lines


# ---------------------------------------------------------------- switches, keys, options


@pytest.mark.parametrize("scope", ["", "buffer", "python"])
def test_off_and_on(edit: Open, scope: str) -> None:
    editor = shown(edit, "urn a + b")
    editor.nvim.command(f"Inpaint disable {scope}")
    editor.wait_for_ghost("")
    editor.type("x")
    assert editor.status() == "off"
    editor.nvim.command(f"Inpaint toggle {scope}")
    editor.type("y")
    editor.wait_for_ghost("urn a + b")


def test_a_filetype_that_is_off_leaves_others_on(edit: Open, tmp_path: Path) -> None:
    (tmp_path / "b.lua").write_text("--\n")
    editor = edit(script("urn a + b"), filetypes=["python", "lua"])
    editor.nvim.command("Inpaint disable lua")
    editor.type(f":edit {tmp_path / 'b.lua'}<CR>")
    editor.wait_for_status("off")
    editor.type(":edit #<CR>Goret")
    editor.wait_for_ghost("urn a + b")


def test_a_file_of_another_type_is_left_alone(edit: Open) -> None:
    editor = edit("x", name="a.txt", ready="off")
    assert editor.lua("return #vim.lsp.get_clients({ bufnr = 0 })") == 0


def test_tab_without_ghost_text_is_what_it_was(edit: Open) -> None:
    before = "vim.keymap.set('i', '<Tab>', function() return 'mine' end, { expr = true })"
    editor = edit("x = 1\n", name="a.txt", ready="off", init=before)
    editor.type("Go<Tab>")
    assert editor.lines[-1] == "mine"
    assert editor.lua("return vim.fn.maparg('<C-]>', 'i') ~= ''")


def test_tab_without_mapping_or_ghost_text_indents(edit: Open) -> None:
    editor = edit("x = 1\n", name="a.txt", ready="off")
    editor.type("Go<Tab>y")
    assert editor.lines[-1] == "\ty"


def test_the_keys_are_taken_from_nobody(edit: Open) -> None:
    """A mapping of the buffer, as nvim-cmp and blink.cmp make them, that falls back on the mapping it hides."""
    editor = shown(edit, "urn a + b")
    editor.lua("""
        local hidden = vim.fn.maparg("<Tab>", "i", false, true)
        vim.keymap.set("i", "<Tab>", hidden.callback, { buffer = true, expr = true, remap = true })
    """)
    editor.type("<Tab>")
    assert editor.lines[-1] == "return a + b"


def test_off_by_the_servers_own_option(edit: Open) -> None:
    editor = edit("x = 1\n", ready="off", server={"enabled": False})
    assert editor.lua("return #vim.lsp.get_clients({ bufnr = 0 })") == 1


def test_off_from_the_start(edit: Open) -> None:
    editor = edit("x = 1\n", ready="off", enabled=False)
    editor.nvim.command("Inpaint enable")
    editor.wait_for_status("idle")


def test_keys_are_the_users(edit: Open) -> None:
    editor = shown(edit, "urn a + b", keys={"accept": "<C-l>", "dismiss": False})
    assert editor.lua("return vim.fn.maparg('<C-]>', 'i')") == ""
    editor.type("<C-l>")
    assert editor.lines[-1] == "return a + b"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filetype": "python"}, "Unknown option filetype."),
        ({"debounce_ms": "9"}, "Option debounce_ms must be a number."),
        ({"keys": {"aceept": "<Tab>"}}, "Unknown option keys.aceept."),
        ({"menu": "both"}, 'Option menu must be "hide" or "keep".'),
    ],
)
def test_a_wrong_option_is_named(edit: Open, options: dict[str, object], message: str) -> None:
    editor = edit("x", name="a.txt", ready="off", **options)
    assert message in editor.lua("return vim.fn.execute('messages')")


def test_health(edit: Open) -> None:
    editor = edit("x")
    editor.nvim.command("checkhealth inpaint")
    report = "\n".join(editor.lines)
    assert "server runs for 1 buffer" in report
    assert re.search(r"test completion: `return ` goes on with `.+`, after \d+ ms", report)
    assert "ERROR" not in report
    assert "WARNING" not in report


def test_the_help_names_the_defaults(edit: Open) -> None:
    editor = edit("x", name="a.txt", ready="off")
    documented = (PLUGIN / "doc" / "inpaint.txt").read_text().split("inpaint-options*")[1]
    documented = documented.split("setup(")[1].split("\n    })")[0]
    assert editor.lua(f"return vim.deep_equal({documented}\n}}, require('inpaint.config').defaults)")


def test_the_help_is_found_by_its_tags(edit: Open, tmp_path: Path) -> None:
    editor = edit("x", name="a.txt", ready="off")
    editor.nvim.command("help :Inpaint")
    assert editor.nvim.current.buffer.name == str(PLUGIN / "doc" / "inpaint.txt")
    shutil.copy(PLUGIN / "doc" / "inpaint.txt", tmp_path)
    editor.nvim.command(f"bwipeout | helptags {tmp_path}")
    assert (tmp_path / "tags").read_text() == (PLUGIN / "doc" / "tags").read_text()


def test_neovims_own_client_does_with_the_configuration_alone(executable: str, tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(script("urn a + b"))
    start = f"vim.lsp.config('inpaint', {{ cmd = {lua_list(SCRIPTED)} }}); vim.lsp.enable('inpaint')"
    with Neovim.start(executable, file, start) as editor:
        editor.wait_for(lambda: editor.lua("return vim.lsp.get_clients({ bufnr = 0 })[1] ~= nil"))
        if not editor.lua("return vim.lsp.inline_completion ~= nil"):
            return  # Neovim 0.11 has none: the server runs, and that is all
        editor.lua("vim.lsp.inline_completion.enable()")
        editor.type("Goret")
        editor.wait_for(lambda: editor.row("return a + b"))
        assert editor.lua("return vim.lsp.inline_completion.get()")
        editor.wait_for(lambda: editor.lines[-1] == "return a + b")


def lua_list(words: list[str]) -> str:
    return "{" + ", ".join(f"[[{word}]]" for word in words) + "}"


# ---------------------------------------------------------------- the next edit

CALLS = "load(a)\nload(b)\n\nload(c)\nload(d)\n"


def test_the_next_edit_is_hinted_at_then_previewed_then_made(edit: Open) -> None:
    editor = edit(CALLS, next_edit=True)
    editor.type("cwread<Esc>jciwread")
    editor.look()
    assert "more like this" not in "\n".join(editor.look().text())  # not while it is typed
    editor.type("<Esc>")
    editor.wait_for(lambda: "<M-l>: line 4, 1 more like this" in "\n".join(editor.look().text()))
    assert editor.lines == ["read(a)", "read(b)", "", "load(c)", "load(d)"]
    assert editor.nvim.current.window.cursor[0] == 2  # nothing moves unasked
    editor.type("<M-l>")
    editor.wait_for(lambda: "loadread(c)" in "\n".join(editor.look().text()))
    assert editor.nvim.current.window.cursor == (4, 0)
    assert editor.lines[3] == "load(c)"
    editor.type("<M-l>")
    editor.wait_for(lambda: editor.lines[3] == "read(c)")
    editor.wait_for(lambda: "line 5, the last like this" in "\n".join(editor.look().text()))
    editor.type("<M-L>")
    editor.wait_for(lambda: "line 5" not in "\n".join(editor.look().text()))
    editor.type("<C-o>")
    assert editor.nvim.current.window.cursor[0] == 2
    editor.type("u")
    editor.wait_for(lambda: editor.lines == ["read(a)", "read(b)", "", "load(c)", "load(d)"])
    editor.wait_for(lambda: "next edit: This change was rejected in this session." in editor.said())
