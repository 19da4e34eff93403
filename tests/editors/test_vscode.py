"""VS Code, with the real server and the real model, as a user has it.

What the model says changes with its weights, so what a test expects is what the server was seen to answer or says to
another client. One workbench serves all tests, for its start takes most of a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from llama_cpp import llama_cpp_server
from lsp_client import REAL, LspClient, script
from PIL import Image, ImageChops, ImageSequence
from playwright.sync_api import Error
from screenshot import film, take
from servers import REAL as TEAM
from servers import Server, serving
from vscode import USER_SETTINGS, StartError, Workbench, write
from vscode_install import EXTENSION, ROOT, Tools

from lsp_server.settings import Settings

BEFORE = '''\
"""Accounts of a bank."""


class Account:
    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount):
        self.balance = self.balance + amount
        return self.balance

    def withdraw(self, amount):
'''
LINE = BEFORE.count("\n") + 1  # the one to type in, 1-based
TYPED = ["return ", "if ", "self.", "for ", "while ", "self.balance = ", "raise ", "print(", "with ", "ret", "sel"]
INDENT = " " * 8
SHARED = {"inpaint.languages": ["python"]}  # the workspace's settings, where switches are written then
ENDLESS = 100_000  # passes: many minutes
OPTIONS = {name.removeprefix("inpaint."): value for name, value in USER_SETTINGS.items() if name.startswith("inpaint.")}


class Place(NamedTuple):
    """What to type into the line below BEFORE, and what the server then suggests."""

    typed: str
    suggested: str


async def find_place(folder: Path) -> Place:
    """Where the server says several words to a plain client, the first of more than a letter."""
    async with LspClient.start(REAL, cwd=ROOT) as client:
        await client.initialize(rootUri=folder.as_uri(), initializationOptions={**OPTIONS, "status": True})
        await client.wait_for("inpaint/status", '"idle"')
        for typed in TYPED:
            uri = (folder / "a.py").as_uri()
            client.open(uri, text_before() + typed)
            items = await client.complete(uri, LINE - 1, len(INDENT + typed))
            if items and re.match(r" ?\w{2,}\W+\w{2,}", items[0]["insertText"]):
                return Place(typed, items[0]["insertText"])
        raise AssertionError("The model never says several words.")


def text_before() -> str:
    return BEFORE + INDENT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    write(folder / ".vscode" / "settings.json", SHARED)
    return folder


@pytest.fixture(scope="module")
def place(folder: Path) -> Place:
    with ThreadPoolExecutor() as elsewhere:  # for here Playwright's event loop may be
        return elsewhere.submit(asyncio.run, find_place(folder)).result()


@pytest.fixture(scope="module")
def team() -> Iterator[Server]:
    """A server of ours, to be the model."""
    with serving(TEAM) as server:
        yield server


@pytest.fixture(scope="module")
def workbench(tools: Tools, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """The workbench as it starts, with a file open for which it starts no server. A start that comes to nothing is
    tried once more.
    """
    (folder / "first.rb").touch()
    with contextlib.ExitStack() as stack:

        def start() -> Workbench:
            home = tmp_path_factory.mktemp("home")
            editor = stack.enter_context(Workbench.start(tools, home, folder))
            editor.open(folder / "first.rb")
            return editor

        try:
            editor = start()
        except (*StartError, AssertionError) as error:
            print(f"The workbench did not start: {error}")
            stack.close()
            editor = start()
        yield editor


@pytest.fixture(scope="module")
def common(workbench: Workbench, folder: Path) -> Workbench:
    """The workbench, with the server running."""
    (folder / "first.py").touch()
    workbench.open(folder / "first.py")
    workbench.wait_for(lambda: "idle" in workbench.states())  # before, the status bar item may say it of no file
    return workbench


def clean(common: Workbench, server: str) -> Iterator[Workbench]:
    """The workbench with no file open and the settings as they were, and one of the servers."""
    common.configure(server=server)
    common.page.keyboard.press("Escape")
    yield common
    common.close_all()


@pytest.fixture
def editor(common: Workbench) -> Iterator[Workbench]:
    yield from clean(common, "real")


@pytest.fixture
def scripted(common: Workbench) -> Iterator[Workbench]:
    yield from clean(common, "scripted")


@pytest.fixture
def several(common: Workbench) -> Iterator[Workbench]:
    yield from clean(common, "several")


def opened(editor: Workbench, file: Path) -> Path:
    """A file with BEFORE in it, open with the cursor below, where nothing has been typed yet."""
    file.write_bytes(text_before().encode())
    editor.open(file, LINE, len(INDENT) + 1)
    editor.wait_for_state("idle")
    return file


def shown(editor: Workbench, file: Path, place: Place) -> str:
    """The ghost text after typing, in a file of its own."""
    opened(editor, file)
    editor.insert(place.typed)
    return editor.wait_for_ghost()


def feedback(editor: Workbench, since: int) -> list[dict[str, Any]]:
    return [message["params"] for message in editor.messages("client", "inpaint/feedback", since)]


def test_where_a_language_alone_is_open_it_says_that_the_model_may_not_know_it(
    workbench: Workbench, folder: Path
) -> None:
    welcome = "type in a Python file, Tab accepts"
    workbench.wait_for(lambda: any(welcome in text for text in workbench.notifications()))
    menu = workbench.menu()
    assert "Enable for ruby" in menu
    assert "which the model may not know" in menu
    workbench.command("Inpaint: Enable or Disable for This Language")  # which starts the server
    workbench.wait_for(lambda: any("only: expect little of it in ruby" in text for text in workbench.notifications()))
    first = workbench.server_pid()
    write(folder / ".vscode" / "settings.json", SHARED)
    workbench.wait_for_state("off")
    workbench.wait_for(lambda: workbench.server_pid() != first)  # the languages are settled at its start


# ---------------------------------------------------------------- ghost text


def test_ghost_text_is_what_the_model_says(editor: Workbench, folder: Path, place: Place) -> None:
    assert shown(editor, folder / "a.py", place) == place.suggested


def test_accept_and_undo(editor: Workbench, folder: Path, place: Place) -> None:
    before = editor.counts()["accepted"]
    ghost = shown(editor, file := folder / "b.py", place)
    editor.keys("Tab")
    editor.wait_for(lambda: editor.counts()["accepted"] == before + 1)
    assert editor.saved(file, expected := text_before() + place.typed + ghost) == expected
    editor.keys("Escape", "Control+z")
    assert editor.saved(file, expected := text_before() + place.typed) == expected


def test_accept_a_word(editor: Workbench, folder: Path, place: Place) -> None:
    ghost = shown(editor, file := folder / "c.py", place)
    before, since = editor.counts(), len(editor.wire())
    editor.keys("Control+ArrowRight")
    reports = editor.wait_for(lambda: feedback(editor, since))
    accepted = ghost[: reports[0]["characters"]]
    assert [report["kind"] for report in reports] == ["partlyAccepted"]
    assert 0 < len(accepted) < len(ghost)
    assert editor.saved(file, expected := text_before() + place.typed + accepted) == expected
    editor.wait_for(lambda: editor.counts()["partlyAccepted"] == before["partlyAccepted"] + 1)
    assert editor.counts()["accepted"] == before["accepted"]
    editor.wait_for(lambda: editor.ghost() == ghost.removeprefix(accepted))


def test_dismiss(editor: Workbench, folder: Path, place: Place) -> None:
    shown(editor, file := folder / "d.py", place)
    before, since = editor.counts()["dismissed"], len(editor.wire())
    editor.keys("Escape")
    editor.wait_for(lambda: editor.counts()["dismissed"] == before + 1)
    editor.settle()
    assert editor.ghost() == ""
    assert editor.state() == "idle"
    assert editor.saved(file, expected := text_before() + place.typed) == expected
    editor.keys("Escape")
    editor.settle()
    assert [report["kind"] for report in feedback(editor, since)] == ["dismissed"]


def test_typing_what_is_suggested_never_changes_the_line(editor: Workbench, folder: Path, place: Place) -> None:
    ghost = shown(editor, file := folder / "e.py", place)
    before, since = editor.counts(), len(editor.wire())
    with editor.looks() as looks:
        editor.type(ghost[:-1], delay=120)  # slower than VS Code's debounce: the server is asked at each
    assert looks == [INDENT + place.typed + ghost]
    assert len(editor.answers(since)) > 1
    assert editor.saved(file, expected := text_before() + place.typed + ghost[:-1]) == expected
    assert editor.counts() == before
    assert feedback(editor, since) == []


def test_typing_something_else_hides_it(editor: Workbench, folder: Path, place: Place) -> None:
    ghost = shown(editor, file := folder / "f.py", place)
    other = "q" if ghost[0] != "q" else "z"
    editor.type(other)
    editor.wait_for(lambda: editor.ghost() != ghost)
    assert editor.saved(file, expected := text_before() + place.typed + other) == expected


def test_two_files(editor: Workbench, folder: Path, place: Place) -> None:
    (folder / "k.py").write_text("import os\n\n\ndef size(path):\n    ")
    ghost = shown(editor, folder / "j.py", place)
    editor.open(folder / "k.py", 5, 5)
    editor.wait_for_state("idle")
    assert editor.ghost() == ""
    since = len(editor.wire())
    editor.insert("return os.path.")
    editor.wait_for(lambda: editor.answers(since))
    asked = editor.messages("client", "textDocument/inlineCompletion", since)[-1]["params"]
    assert asked["textDocument"]["uri"] == (folder / "k.py").as_uri()
    editor.keys("Escape", "Control+s")
    editor.open(folder / "j.py", LINE, len(INDENT + place.typed) + 1)
    editor.keys("Backspace")
    editor.insert(place.typed[-1])
    assert editor.wait_for_ghost() == ghost


def said_of_entries(editor: Workbench, since: int) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The entries of the menu that VS Code has asked with, and the items that it was answered."""
    answers = editor.answers(since)
    asked = [
        message
        for message in editor.messages("client", "textDocument/inlineCompletion", since)
        if message["params"]["context"].get("selectedCompletionInfo")
    ]
    return [
        (message["params"]["context"]["selectedCompletionInfo"], answers[message["id"]]["result"]["items"])
        for message in asked
        if "result" in answers.get(message["id"], {})
    ]


def test_with_the_menu_open(editor: Workbench, folder: Path) -> None:
    opened(editor, folder / "l.py")
    editor.type("self.bal")
    editor.wait_for(lambda: editor.answers())
    since = len(editor.wire())
    editor.keys("Control+Space")
    editor.wait_for(lambda: editor.texts(".suggest-widget.visible .monaco-list-row.focused"))
    selected, items = editor.wait_for(lambda: said_of_entries(editor, since))[-1]
    assert selected["text"] == "balance"
    for item in items:
        assert item["insertText"].startswith("balance")
        assert item["range"] == selected["range"]
        editor.wait_for(lambda item=item: editor.ghost() == item["insertText"].removeprefix("bal"))


def test_the_picture_of_the_readme(editor: Workbench, folder: Path, tmp_path: Path) -> None:
    assert take(editor, folder, picture := tmp_path / "ghost-text.png")
    assert picture.stat().st_size < 200_000


def test_the_picture_that_moves(editor: Workbench, folder: Path, tmp_path: Path) -> None:
    before, whole, rest, after = film(editor, folder, picture := tmp_path / "ghost-text.gif")
    assert (before, after) == ("", "")
    assert rest
    assert whole.endswith(rest)
    assert whole != rest
    with Image.open(picture) as image:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    assert len(frames) == 4
    assert all(ImageChops.difference(*pair).getbbox() for pair in itertools.pairwise(frames))
    assert picture.stat().st_size < 500_000


# ---------------------------------------------------------------- server, status and switches


def test_status(editor: Workbench, folder: Path, place: Place) -> None:
    shown(editor, folder / "m.py", place)
    said = editor.messages("server", "inpaint/status")[-1]["params"]
    milliseconds = said["latencyMs"]
    cost = f"{milliseconds:.{0 if milliseconds >= 10 else 1}f} ms"
    editor.wait_for(lambda: editor.status() == f"Inpaint, shown, {cost}")
    assert f"Inpaint {cost}" in "".join(editor.texts("[id='inpaint.inpaint.inpaint.status']"))


def test_a_killed_server_is_started_again(editor: Workbench, folder: Path, place: Place) -> None:
    opened(editor, folder / "n.py")
    first = editor.server_pid()
    os.kill(first, signal.SIGKILL)
    editor.wait_for(lambda: editor.server_pid() != first)
    editor.wait_for(lambda: "idle" in editor.states())  # the status bar item may be behind
    editor.insert(place.typed)
    assert editor.wait_for_ghost() == place.suggested


def test_restart_by_the_menu(editor: Workbench, folder: Path, place: Place) -> None:
    opened(editor, folder / "o.py")
    first = editor.server_pid()
    editor.menu("Restart the server")
    editor.wait_for(lambda: editor.server_pid() != first)
    editor.wait_for(lambda: "idle" in editor.states())  # the status bar item may be behind
    editor.insert(place.typed)
    assert editor.wait_for_ghost() == place.suggested


def test_a_language_is_turned_off_and_on(editor: Workbench, folder: Path, place: Place) -> None:
    opened(editor, folder / "p.py")
    editor.command("Inpaint: Enable or Disable for This Language")
    editor.wait_for_state("off")
    since = len(editor.wire())
    editor.insert(place.typed)
    editor.settle()
    assert editor.ghost() == ""
    assert editor.suggested(since) == []
    editor.command("Inpaint: Enable or Disable for This Language")
    editor.wait_for_state("idle")
    editor.keys("Backspace")
    editor.insert(place.typed[-1])
    assert editor.wait_for_ghost() == place.suggested


def test_settings_apply_without_a_restart(editor: Workbench, folder: Path, place: Place) -> None:
    opened(editor, folder / "q.py")
    server, since = editor.server_pid(), len(editor.wire())
    editor.configure(**{"inpaint.enabled": False})
    editor.wait_for_state("off")
    editor.insert(place.typed)
    editor.settle()
    assert editor.ghost() == ""
    editor.configure()
    editor.wait_for_state("idle")
    editor.keys("Backspace")
    editor.insert(place.typed[-1])
    assert editor.wait_for_ghost() == place.suggested
    sent = editor.messages("client", "workspace/didChangeConfiguration", since)
    assert [message["params"]["settings"]["enabled"] for message in sent] == [False, True]
    assert editor.server_pid() == server


def test_other_languages_are_left_alone(editor: Workbench, folder: Path) -> None:
    (folder / "r.md").write_text("# Notes\n")
    since = len(editor.wire())
    editor.open(folder / "r.md", 2, 1)
    editor.wait_for_state("off")
    editor.type("The ")
    editor.settle()
    told = json.dumps(editor.wire()[since:])  # it may have more of the file of the last test
    assert (folder / "r.md").as_uri() not in told
    assert not editor.messages("client", "textDocument/inlineCompletion", since)


def test_a_model_that_is_missing_is_said_to_be(editor: Workbench, folder: Path) -> None:
    opened(editor, folder / "s.py")
    editor.configure(**{"inpaint.model": str(folder / "no-model")})
    editor.wait_for_state("error")
    message = editor.messages("server", "window/showMessage")[-1]["params"]["message"]
    editor.wait_for(lambda: message in editor.notifications())
    assert "Choose Model" in editor.texts(".notification-toast .monaco-button")
    editor.configure()
    editor.wait_for_state("idle")


def test_ghost_text_comes_from_a_server(editor: Workbench, folder: Path, place: Place, team: Server) -> None:
    opened(editor, folder / "w.py")
    filled = team.metric("inpaint_fill_passes_count")
    editor.configure(**{"inpaint.model": team.url})
    editor.wait_for(lambda: told_where_text_goes(editor))
    editor.insert(place.typed)
    editor.wait_for_ghost()
    assert team.metric("inpaint_fill_passes_count") > filled


def test_the_url_of_a_server_is_chosen_as_the_model(editor: Workbench, folder: Path, team: Server) -> None:
    settings, since = folder / ".vscode" / "settings.json", len(editor.wire())

    def is_told(name: str, value: object) -> bool:
        sent = editor.messages("client", "workspace/didChangeConfiguration", since)
        return bool(sent) and sent[-1]["params"]["settings"][name] == value

    opened(editor, folder / "x.py")
    try:
        # where the choice is written then; VS Code has read it when the other option arrives
        write(settings, {**SHARED, "inpaint.model": "small", "inpaint.maxLines": 9})
        editor.wait_for(lambda: is_told("maxLines", 9))
        editor.command("Inpaint: Choose Model…")
        editor.page.locator(".quick-input-list .monaco-list-row:has-text('URL of a server…')").click()
        editor.page.wait_for_selector(".quick-input-message:has-text('sent the text around the cursor')")
        for wrong in ("gpu.example", "ftp://gpu.example", "https://"):
            editor.page.fill(".quick-input-widget input", wrong)
            editor.keys("Enter")
            editor.page.wait_for_selector(".quick-input-message:has-text('A URL begins with')")
        editor.page.fill(".quick-input-widget input", f" {team.url} ")
        editor.keys("Enter")
        editor.wait_for(lambda: is_told("model", team.url))
        editor.wait_for(lambda: told_where_text_goes(editor))
    finally:
        write(settings, SHARED)
    editor.wait_for(lambda: is_told("model", "small"))


def test_ghost_text_comes_from_llama_cpp(editor: Workbench, folder: Path) -> None:
    (file := folder / "y.py").write_text("import os\n\nimport sys\n")
    editor.open(file, 2, 1)
    with llama_cpp_server() as (url, _):
        editor.configure(**{"inpaint.model": url})
        editor.wait_for(lambda: told_where_text_goes(editor))
        editor.wait_for_state("idle")
        editor.insert("import numpy as ")
        assert editor.wait_for_ghost() == "np"
        editor.keys("Tab")
        assert editor.saved(file, expected := "import os\nimport numpy as np\nimport sys\n") == expected
        editor.configure()  # while that server is there


def told_where_text_goes(editor: Workbench) -> bool:
    return any("127.0.0.1 is sent the text around the cursor" in text for text in editor.notifications())


def test_the_sample_of_the_walkthrough_is_completed_at_a_space(editor: Workbench) -> None:
    editor.configure(**{"inpaint.minConfidence": None})  # as it is for whoever follows the walkthrough
    since = len(editor.wire())
    editor.command("Inpaint: Open a Sample File")
    editor.wait_for(lambda: "untitled:" in str(editor.messages("client", "textDocument/didFocus", since)))  # it rests
    editor.wait_for(lambda: editor.place() == (12, 15))
    editor.wait_for_state("idle")  # the test before may have left another model, and who loads answers with nothing
    editor.page.locator(".editor-instance .monaco-editor.focused").wait_for()  # or the key goes to nobody

    def asks_at_a_space() -> bool:
        """VS Code did not once, right after the command had opened the file, and asks at the next key."""
        editor.type(" ")
        editor.settle(2000)
        asked = bool(editor.messages("client", "textDocument/inlineCompletion", since))
        if not asked:
            editor.keys("Backspace")
        return asked

    editor.wait_for(asks_at_a_space)
    assert editor.wait_for_ghost() == "self.balance"
    editor.command("View: Revert and Close Editor")


def test_a_python_without_inpaint_is_said_to_be(editor: Workbench, folder: Path) -> None:
    opened(editor, folder / "t.py")
    editor.configure(str(folder / "no-python"))
    editor.wait_for_state("error")
    editor.wait_for(lambda: any("no Python with the package inpaint-lsp" in text for text in editor.notifications()))
    assert "Choose Python" in editor.texts(".notification-toast .monaco-button")
    editor.configure()
    editor.wait_for_state("idle")


def test_an_installation_that_fails_says_why(editor: Workbench, folder: Path) -> None:
    opened(editor, folder / "v.py")
    with editor.damaged_server():
        editor.configure("")
        editor.wait_for_state("error")
        editor.press("Create Environment")
        reason = "not the one that this version was tested with"
        editor.wait_for(lambda: any(reason in text for text in editor.notifications()))
    editor.configure()
    editor.wait_for_state("idle")


def test_a_private_environment_is_offered_and_made(editor: Workbench, folder: Path, place: Place) -> None:
    opened(editor, folder / "u.py")
    editor.configure("")
    editor.wait_for_state("error")
    editor.press("Create Environment")
    editor.wait_for_state("idle")
    editor.keys("Control+1")
    editor.insert(place.typed)
    editor.wait_for(lambda: editor.ghost() == place.suggested)
    editor.configure()
    editor.wait_for_state("idle")


# ---------------------------------------------------------------- with a scripted engine

CALLS = "load(a)\nload(b)\n\n    load(c)\nload(d)\n"


def test_the_next_edit_is_hinted_at_then_previewed_then_made(scripted: Workbench, folder: Path) -> None:
    def sees(text: str) -> None:
        """Wait for a text that decorations put into the page."""
        spans = "[...document.querySelectorAll('.view-line span')]"
        after = f"{spans}.map((span) => getComputedStyle(span, '::after').content).join('\\n')"
        scripted.wait_for(lambda: text in str(scripted.page.evaluate(after)))

    scripted.configure(server="scripted", **{"inpaint.nextEdit": True})
    (file := folder / "next.py").write_text((first := script("")) + CALLS)
    for line in (2, 3):
        scripted.open(file, line, 1)
        scripted.keys("Shift+End")
        scripted.type(f"read({'ab'[line - 2]})")
    sees("Alt+L: 1 more like this")
    assert scripted.place() == (3, 8)
    scripted.keys("Alt+l")
    scripted.wait_for(lambda: scripted.place() == (5, 5))
    sees("Alt+L or Tab makes it")
    edited = first + CALLS.replace("load(a)\nload(b)", "read(a)\nread(b)")
    assert scripted.saved(file, edited) == edited
    scripted.keys("Alt+l")
    sees("Alt+L: the last like this")
    made = edited.replace("load(c)", "read(c)")
    assert scripted.saved(file, made) == made
    scripted.keys("Alt+l")
    sees("Escape rejects it")
    scripted.keys("Escape")
    scripted.wait_for(lambda: scripted.messages("client", "inpaint/didRejectNextEdit"))
    scripted.keys("Control+z")
    assert scripted.saved(file, edited) == edited
    assert "was rejected" in scripted.tooltip()


def written(editor: Workbench, file: Path, text: str, typed: str = "", **options: Any) -> Path:
    """A file whose script says that text, open at its second line with something typed into it."""
    file.write_text(script(text, **options))
    editor.open(file, 2, 1)
    editor.insert(typed)
    return file


def test_typing_on_cancels(scripted: Workbench, folder: Path, tmp_path: Path) -> None:
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    first = script("late", passes=ENDLESS, started=str(started), stopped=str(stopped))
    (file := folder / "g.py").write_text(first)
    scripted.open(file, 2, 1)
    since = len(scripted.wire())
    scripted.insert("ret")
    scripted.wait_for(started.exists)
    scripted.wait_for_state("thinking")
    scripted.type("u")
    scripted.wait_for(stopped.exists)
    cancelled = scripted.messages("client", "$/cancelRequest", since)[0]["params"]["id"]
    assert scripted.wait_for(lambda: scripted.answers().get(cancelled)).get("result", {"items": []}) == {"items": []}
    assert scripted.saved(file, expected := first + "retu") == expected


def test_a_line_beyond_ascii(scripted: Workbench, folder: Path) -> None:
    first, typed = script("名 🎈"), '"名前 😀 é"; '
    file = written(scripted, folder / "h.py", "名 🎈", typed)
    scripted.wait_for(lambda: scripted.ghost() == "名 🎈")
    scripted.keys("Tab")
    assert scripted.saved(file, expected := first + typed + "名 🎈") == expected


def test_several_lines_in_a_file_with_crlf(scripted: Workbench, folder: Path) -> None:
    before = (script("a = 1\n    b = 2") + "def f():\n    ").replace("\n", "\r\n")
    (file := folder / "i.py").write_bytes(before.encode())
    scripted.open(file, 3, 5)
    scripted.keys("Alt+Backslash")
    scripted.wait_for(lambda: scripted.ghost() == "a = 1\n    b = 2")
    scripted.keys("Tab")
    assert scripted.saved(file, expected := before + "a = 1\r\n    b = 2") == expected


def test_what_was_dismissed_stays_away_while_it_is_typed(scripted: Workbench, folder: Path) -> None:
    written(scripted, folder / "sa.py", "urn a + b", "ret")
    scripted.wait_for(lambda: scripted.ghost() == "urn a + b")
    scripted.keys("Escape")
    scripted.wait_for(lambda: scripted.ghost() == "")  # what hides it would hide the next one too
    for key in "urn":
        since = len(scripted.wire())
        scripted.type(key)
        scripted.wait_for(lambda since=since: scripted.answers(since))
        assert scripted.suggested(since) == []
    assert "was dismissed" in scripted.menu()
    scripted.type("x")
    scripted.wait_for(lambda: scripted.ghost() == "urn a + b")


WORD = "parser.add_parser\n"
LINE_OF_IT = "commands.add_parser('x')"


def said_of_a_word(editor: Workbench, file: Path) -> None:
    """A file with a word in it, and ghost text that begins with it."""
    file.write_text(script("add_parser('x')") + WORD + "\n")
    editor.open(file, 3, 1)
    editor.insert("commands.")
    editor.wait_for(lambda: editor.ghost() == "add_parser('x')")


def its_first_letter(editor: Workbench) -> int:
    """Type it, and wait for the server's answer, as the ghost text is there before it is asked; the wire's length."""
    since = len(editor.wire())
    editor.type("a")
    editor.wait_for(lambda: editor.suggested(since) == ["dd_parser('x')"] and editor.ghost() == "dd_parser('x')")
    return len(editor.wire())


def test_ghost_text_is_gone_from_the_opening_of_the_menu_until_the_answer_for_its_entry(
    scripted: Workbench, folder: Path
) -> None:
    """As VS Code has it: while its menu is open it shows what was asked with the entry that is selected, and no other,
    be it the same text. So it asks once more, and until then shows nothing.
    """
    said_of_a_word(scripted, folder / "sm.py")
    since = its_first_letter(scripted)
    with scripted.looks() as looks:
        scripted.keys("Control+Space")
        scripted.wait_for(lambda: said_of_entries(scripted, since) and scripted.ghost() == "dd_parser('x')")
        scripted.type("dd_par", delay=120)
        scripted.wait_for(lambda: scripted.ghost() == "ser('x')")
    for selected, [item] in said_of_entries(scripted, since):
        assert (selected["text"], item["insertText"]) == ("add_parser", "add_parser('x')")
    assert looks in ([LINE_OF_IT, "", LINE_OF_IT], [LINE_OF_IT])  # the latter where the answer comes within a frame


def test_ghost_text_stays_beside_a_menu_that_selects_nothing(scripted: Workbench, folder: Path) -> None:
    settings = {"editor.quickSuggestions": {"other": "on"}, "editor.suggest.selectionMode": "never"}
    scripted.configure(server="scripted", **settings, **{"inpaint.maxLines": 9})  # whose arrival is seen
    said_of_a_word(scripted, folder / "sn.py")
    with scripted.looks() as looks:
        scripted.type("a")
        scripted.wait_for(lambda: scripted.texts(".suggest-widget.visible .monaco-list-row"))
        scripted.type("dd_par", delay=120)
        scripted.wait_for(lambda: scripted.ghost() == "ser('x')")
    assert looks == [LINE_OF_IT]


def test_ghost_text_goes_on_from_the_menus_inline_preview(scripted: Workbench, folder: Path) -> None:
    scripted.configure(server="scripted", **{"editor.suggest.preview": True, "inpaint.maxLines": 9})
    said_of_a_word(scripted, file := folder / "sq.py")
    since = its_first_letter(scripted)
    scripted.keys("Control+Space")
    scripted.wait_for(lambda: scripted.suggested(since) and scripted.ghost() == "dd_parser('x')")
    scripted.keys("Enter")  # takes the menu's entry alone
    scripted.wait_for(lambda: scripted.ghost() == "('x')")
    scripted.keys("Tab")
    assert scripted.saved(file, expected := script("add_parser('x')") + WORD + LINE_OF_IT + "\n") == expected


def test_the_cells_of_a_notebook_are_context_for_each_other(scripted: Workbench, folder: Path) -> None:
    def cell(kind: str, text: str) -> dict[str, Any]:
        code = {"execution_count": None, "outputs": []} if kind == "code" else {}
        return {"cell_type": kind, "metadata": {}, "source": text, **code}

    cells = [cell("code", "import os\nx = 1"), cell("markdown", "# Title"), cell("code", "y = ")]
    about = {"metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 4}
    write(folder / "so.ipynb", {"cells": cells, **about})
    scripted.show(folder / "so.ipynb")
    scripted.page.locator(".notebookOverlay .cell .monaco-editor .view-lines").last.click()
    scripted.keys("End")
    since = len(scripted.wire())
    scripted.insert("f(")

    def said() -> dict[str, Any]:  # without a script it is the request
        return json.loads(scripted.suggested(since)[-1]) if scripted.suggested(since) else {}

    scripted.wait_for(lambda: said().get("prefix", "").endswith("f("))
    assert said()["prefix"] == "import os\nx = 1\n\ny = f("
    scripted.wait_for(lambda: scripted.texts(".notebookOverlay .view-line [class*=ghost-text-decoration]"))


def test_the_menu_has_the_workspace_and_where_a_completion_comes_from(
    scripted: Workbench, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "area.py").write_text("def area(width, height):\n    return width * height\n")
    (tmp_path / "built.py").touch()
    (tmp_path / ".gitignore").write_text("built.py\n")
    index = {"inpaint.workspace": True, "inpaint.folders": [str(tmp_path)]}
    scripted.configure(server="scripted", **index)
    written(scripted, folder / "sp.py", "urn a + b", "ret", copied=1)
    scripted.wait_for(lambda: scripted.ghost() == "urn a + b")
    scripted.wait_for(lambda: re.search("1 file known; left out: .*1 ignored", scripted.menu()))
    assert "sp.py:1" in scripted.menu()
    since = len(scripted.wire())
    scripted.menu("Read the workspace anew")

    def states() -> list[str]:
        return [message["params"]["index"]["state"] for message in scripted.messages("server", "inpaint/status", since)]

    scripted.wait_for(lambda: "building" in states() and states()[-1] == "ready")
    scripted.menu("Where the last completion was copied from")
    scripted.wait_for(lambda: scripted.place() == (1, 1))


def test_accept_a_line(scripted: Workbench, folder: Path) -> None:
    before = script("a = 1\n    b = 2") + "def f():\n    "
    (file := folder / "sb.py").write_text(before)
    scripted.open(file, 3, 5)
    scripted.keys("Alt+Backslash")
    scripted.wait_for(lambda: scripted.ghost() == "a = 1\n    b = 2")
    scripted.keys("Control+Alt+ArrowRight")
    scripted.wait_for(lambda: scripted.ghost().strip() == "b = 2")
    assert scripted.saved(file, expected := before + "a = 1\n") == expected


def is_said(editor: Workbench, words: str) -> None:
    """Wait until the menu says a pattern, and what shows while the mouse is over the status bar item."""
    for said in (editor.menu, editor.tooltip):
        editor.wait_for(lambda said=said: re.search(words, said()))


def test_being_unsure_is_said(scripted: Workbench, folder: Path) -> None:
    scripted.configure(server="scripted", **{"inpaint.minConfidence": 0.5})
    since = len(scripted.wire())
    written(scripted, folder / "sc.py", "urn a", "ret", confidence=0.1)
    scripted.wait_for(lambda: scripted.answers(since))  # the menu takes the focus, without which VS Code does not ask
    is_said(scripted, "not sure enough")


def test_loading_is_said(scripted: Workbench, folder: Path) -> None:
    written(scripted, folder / "sl.py", "urn a")
    scripted.configure(server="scripted", **{"inpaint.model": str(folder / "model")})
    scripted.wait_for_state("loading")
    is_said(scripted, "The model is being loaded")


def test_the_reading_of_the_workspace_is_said(several: Workbench, folder: Path) -> None:
    several.open(written_as(folder / "sr.py", "\n"))
    several.wait_for_state("idle")
    is_said(several, "reading, 3 of 12 files")


def test_an_excluded_file_is_said_to_be(scripted: Workbench, folder: Path) -> None:
    scripted.configure(server="scripted", **{"inpaint.disabledGlobs": ["sd.py"]})
    written(scripted, folder / "sd.py", "urn a")
    scripted.wait_for_state("excluded")
    is_said(scripted, "left alone")


def test_a_language_that_the_model_does_not_know_is_said_to_be(scripted: Workbench, folder: Path) -> None:
    (folder / "se.rb").write_text("a = 1\n")
    scripted.open(folder / "se.rb")
    scripted.wait_for_state("off")
    menu = scripted.menu()
    assert "Enable for ruby" in menu
    assert "the model has learned python, " in menu
    is_said(scripted, "It completes in python only.")


def test_snoozed_and_awake(scripted: Workbench, folder: Path) -> None:
    written(scripted, folder / "sf.py", "urn a + b")
    scripted.command("Inpaint: Snooze…")
    scripted.choose("15 minutes")
    scripted.wait_for_state("snoozed")
    since = len(scripted.wire())
    scripted.insert("ret")
    scripted.settle()
    assert scripted.messages("client", "textDocument/inlineCompletion", since) == []
    is_said(scripted, r"snoozed until \d+:\d\d")
    scripted.keys("Alt+Backslash")
    scripted.wait_for(lambda: scripted.ghost() == "urn a + b")
    scripted.keys("Escape")
    scripted.menu("End the snooze")
    scripted.wait_for_state("idle")
    scripted.insert("x")
    scripted.wait_for(lambda: scripted.ghost() == "urn a + b")


def test_a_mark_until_asked_by_key(scripted: Workbench, folder: Path) -> None:
    scripted.configure(server="scripted", **{"inpaint.display": "mark"})
    written(scripted, folder / "sg.py", "urn a + b", "ret")
    mark = "() => [...document.querySelectorAll('.view-line span')]"
    mark += ".some((span) => getComputedStyle(span, '::after').content.includes('»'))"
    scripted.wait_for(lambda: scripted.page.evaluate(mark))
    assert scripted.ghost() == ""
    scripted.keys("Alt+Backslash")
    scripted.wait_for(lambda: scripted.ghost() == "urn a + b")
    scripted.type("u")  # typed through, it stays
    scripted.wait_for(lambda: scripted.ghost() == "rn a + b")


def test_nothing_until_asked_by_key(scripted: Workbench, folder: Path) -> None:
    scripted.configure(server="scripted", **{"inpaint.display": "key"})
    since = len(scripted.wire())
    written(scripted, folder / "sh.py", "urn a + b", "ret")
    scripted.settle()
    assert scripted.messages("client", "textDocument/inlineCompletion", since) == []
    scripted.keys("Alt+Backslash")
    scripted.wait_for(lambda: scripted.ghost() == "urn a + b")


def test_the_figures(scripted: Workbench, folder: Path) -> None:
    written(scripted, folder / "sk.py", "urn a + b", "ret")
    scripted.wait_for(lambda: scripted.ghost() == "urn a + b")
    scripted.keys("Tab")
    scripted.command("Inpaint: Show Statistics")

    def said() -> str:
        with contextlib.suppress(Error):  # a frame that is being replaced
            return "".join(frame.locator("body").inner_text() for frame in scripted.page.frames[1:])
        return ""

    scripted.wait_for(lambda: "By language" in said() and "python" in said())
    by_language, by_day, latencies = re.split("By language|By day|How long they took", said())[1:]
    figures = r"\s+\d+\s+[1-9]\d*\s+\d+ %\s+\d+\s+(to|over) \d+ ms"  # of this session's other tests too
    assert re.search("python" + figures, by_language)
    assert re.search(r"\d{4}-\d\d-\d\d" + figures, by_day)
    assert re.search(r"(to|over) \d+ ms\s+[1-9]", latencies)
    scripted.command("Inpaint: Forget Statistics")
    scripted.wait_for(lambda: "By language" in said() and "python" not in said())


def test_the_walkthrough(scripted: Workbench) -> None:
    scripted.command("Welcome: Open Walkthrough...")
    scripted.page.locator(".quick-input-list .monaco-list-row:has-text('Get Started with Inpaint')").first.click()
    steps = ["Install the server", "Complete a line", "Learn the keys", "What leaves your machine"]
    scripted.wait_for(lambda: all(any(step in text for text in scripted.texts(".step-title")) for step in steps))


def test_next_and_previous_of_several(several: Workbench, folder: Path) -> None:
    settings = {"editor.inlineSuggest.showToolbar": "always", "inpaint.maxLines": 9}  # whose arrival is seen
    several.configure(server="several", **settings)
    several.open(written_as(folder / "si.py", "\n"), 1, 1)
    several.insert("ret")
    several.wait_for(lambda: several.ghost() == "urn a")
    for key, text, count in (("Alt+]", "ire", "2/3"), ("Alt+]", "ry", "3/3"), ("Alt+[", "ire", "2/3")):
        several.keys(key)
        several.wait_for(lambda text=text: several.ghost() == text)
        several.wait_for(lambda count=count: count in "".join(several.texts(".inlineSuggestionsHints")))
    several.keys("Tab")
    assert several.saved(folder / "si.py", "retire\n") == "retire\n"


def test_several_side_by_side(several: Workbench, folder: Path) -> None:
    several.open(written_as(folder / "sj.py", "\n"), 1, 1)
    several.insert("ret")
    several.wait_for(lambda: several.ghost() == "urn a")
    several.keys("Control+Enter")
    lenses = several.page.locator(".codelens-decoration a:text-is('Accept')")
    several.wait_for(lambda: lenses.count() == 3)
    lenses.nth(1).click()
    assert several.saved(folder / "sj.py", "retire\n") == "retire\n"
    several.wait_for(lambda: len(several.texts(".tab")) == 1)


def written_as(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def test_the_package_has_what_the_extension_needs_and_nothing_else(tools: Tools) -> None:
    names = {name.removeprefix("extension/") for name in zipfile.ZipFile(tools.vsix).namelist()}
    [wheel] = [name for name in names if re.fullmatch(r"dist/server/inpaint_lsp-.*\.whl", name)]
    listed = {
        "package.json",
        "readme.md",
        "changelog.md",
        "LICENSE.txt",
        "icon.png",
        "ghost-text.png",
        "ghost-text.gif",
    }
    steps = {f"walkthrough/{name}.md" for name in ("install", "keys", "privacy")}
    code = {"dist/extension.js", "dist/server/requirements.txt", wheel}
    assert names == {"extension.vsixmanifest", "[Content_Types].xml", *listed, *steps, *code}


def test_an_older_node_packages_nothing(tools: Tools) -> None:
    older = "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.19.0' } })"
    command = [tools.node, f"--import=data:text/javascript,{older}", "package.mjs"]
    done = subprocess.run(command, cwd=EXTENSION, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Packaging needs Node.js 22 or newer; this is 20.19.0.\n")


def test_the_settings_are_those_of_the_server() -> None:
    package = json.loads((EXTENSION / "package.json").read_text())
    settings = package["contributes"]["configuration"]["properties"]
    ours = {"inpaint.languages", "inpaint.display", "inpaint.python", "inpaint.trace.server"}
    defaults = {name.removeprefix("inpaint."): settings[name]["default"] for name in settings.keys() - ours}
    assert {**defaults, "status": False} == json.loads(msgspec.json.encode(Settings()))
