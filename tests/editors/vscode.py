"""A real VS Code workbench with the extension, driven as by a user: keys go in, what the page shows comes out.

with Workbench.start(install(), folder) as editor:
    editor.open(folder / "a.py", line=3)
    editor.type("foo")
    editor.wait_for(editor.ghost)

code-server serves the workbench and runs the extension, which talks with the real server through `vscode_wire.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import site
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from playwright.sync_api import Error, Page, TimeoutError, sync_playwright
from vscode_install import ROOT, InstallError, Tools

T = TypeVar("T")
SERVERS = {
    "real": "-m lsp_server",
    "scripted": str(ROOT / "tests" / "lsp_server" / "scripted_server.py"),
    "several": f"{ROOT / 'tests' / 'editors' / 'two_items.py'} one",
}
PATIENCE = 120.0  # seconds: only a hang is ever as slow, even at the start and on a machine that is busy otherwise
USER_SETTINGS = {
    "chat.disableAIFeatures": True,
    "editor.autoClosingBrackets": "never",
    "editor.minimap.enabled": False,
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
    "files.simpleDialog.enable": True,
    # so that a busy machine answers as an idle one would
    "inpaint.deadlineAutomaticMs": 20_000,
    "inpaint.deadlineInvokedMs": 20_000,
    "inpaint.minConfidence": 0,
    # so that no other file of the workspace and no other model changes what is said
    "inpaint.model": "small",
    "inpaint.packages": False,
    "inpaint.workspace": False,
}
CLOSE_ALL = {
    "key": "ctrl+alt+k",
    "command": "runCommands",
    "args": {
        "commands": ["notifications.clearAll", "workbench.action.files.saveAll", "workbench.action.closeAllEditors"]
    },
}
# Ghost text as the page has it: spans within the line, then the lines below it
GHOST = """() => {
    const texts = (selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent);
    const first = texts(".editor-instance .view-line [class*=ghost-text-decoration]").join("");
    const below = texts(".editor-instance .suggest-preview-text .view-line");
    return [first, ...below].join("\\n").replaceAll("\\u00a0", " ").replaceAll("\\u200b", "");
}"""
# Every look of the line with the cursor, before it is painted
RECORD = """() => {
    window.looks = [];
    window.recording = true;
    const look = () => {
        const line = document.querySelector(".editor-instance .view-line:has(.ghost-text-decoration)");
        const text = line ? line.textContent.replaceAll("\\u00a0", " ") : "";
        if (text !== window.looks.at(-1)) window.looks.push(text);
        if (window.recording) requestAnimationFrame(look);
    };
    look();
}"""


class Workbench:
    """One window. `wire` is the log of the messages between the extension and the server."""

    def __init__(self, page: Page, tools: Tools, user: Path, wire: Path) -> None:
        self.page = page
        self._code_server = [str(tools.node), str(tools.code_server)]
        self._user = user
        self._wire = wire

    @classmethod
    @contextlib.contextmanager
    def start(cls, tools: Tools, home: Path, folder: Path, **settings: Any) -> Iterator[Workbench]:
        """Start with a folder open and the extension installed; files of the editor's own go to `home`."""
        user, wire = home / "user", home / "wire.jsonl"
        wire.touch()
        with served(tools, home) as port, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=tools.chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1000, "height": 640})
            editor = cls(page, tools, user, wire)
            write(user / "User" / "settings.json", {**USER_SETTINGS, **settings})
            editor.configure()
            write(user / "User" / "keybindings.json", [CLOSE_ALL])
            page.set_default_timeout(PATIENCE * 1_000)
            page.goto(f"http://127.0.0.1:{port}/?folder={folder}")
            page.wait_for_selector(".statusbar")
            try:
                yield editor
            finally:
                browser.close()

    # -------------------------------------------------------------- in

    def configure(self, python: str | None = None, server: str = "real", **settings: Any) -> None:
        """Set settings beside USER_SETTINGS, and `inpaint.python` to ours by default; wait for the server to have them.

        `server` is one of SERVERS. They go to the machine's settings: VS Code in a browser sees this file change and
        the user's not, and which Python runs is a setting of the machine.
        """
        file = self._user / "Machine" / "settings.json"
        ours = str(tapped_python(self._user.parent, self._wire, server))
        settings["inpaint.python"] = ours if python is None else python
        before = json.loads(file.read_text()) if file.exists() else {}
        if settings == before:
            return
        wire = self.wire()
        write(file, settings)
        if wire and settings["inpaint.python"] == before["inpaint.python"]:
            self.wait_for(lambda: self.messages("client", "workspace/didChangeConfiguration", len(wire)))
        elif wire and python is None:
            self.wait_for(lambda: self.wire() and self.wire()[0] != wire[0])
            self.wait_for(lambda: "idle" in self.states())

    def open(self, file: Path, line: int = 1, column: int = 1) -> None:
        """Open a file with the cursor there; 1-based."""
        self.show(file, f":{line}:{column}")
        self.wait_for(lambda: self.place() == (line, column))

    def show(self, file: Path, place: str = "") -> None:
        """Open a file of whatever kind."""
        # by the command line: the search for files is not yet about ours when its list shows, and may lose the focus
        self.wait_for(lambda: self._told(f"{file}{place}"))
        self.wait_for(lambda: self.texts(f".tab.active[data-resource-name='{file.name}']"))

    def _told(self, place: str) -> bool:
        """Whether the window was there to be told to open a place."""
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self._user.parent)}
        told = subprocess.run(
            [*self._code_server, "--user-data-dir", str(self._user), "--reuse-window", place],
            env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        return " error " not in told.stdout + told.stderr

    @contextlib.contextmanager
    def damaged_server(self) -> Iterator[None]:
        """While the wheel that the extension brings is another than the one that it was packaged with."""
        [wheel] = self._user.parent.glob("extensions/*/dist/server/*.whl")
        content = wheel.read_bytes()
        wheel.write_bytes(content + b" ")
        yield
        wheel.write_bytes(content)

    def close_all(self) -> None:
        """Close all files and notifications."""
        self.keys("Escape", "Control+Alt+k")
        self.wait_for(lambda: not self.texts(".tab"))

    def command(self, title: str) -> None:
        """Run a command of the palette."""
        self.keys("F1")
        box = self.page.wait_for_selector(".quick-input-widget input", state="visible")
        assert box is not None
        box.fill(f">{title}")
        # the commands used before are listed until the title has been looked for: Enter would run the first of those
        self.page.locator(f".quick-input-list .monaco-list-row.focused[aria-label^='{title}']").wait_for()
        self.keys("Enter")

    def choose(self, label: str) -> None:
        """Choose an entry of the list that is open, which has only those in the page that are in sight."""
        self.page.fill(".quick-input-widget input", label)
        self.page.locator(f".quick-input-list .monaco-list-row:has-text('{label}')").first.click()
        self.wait_for(lambda: not self.page.locator(".quick-input-widget").is_visible())
        self.keys("Control+1")  # back to the file

    def insert(self, text: str) -> None:
        """Type in one go, so that VS Code asks once."""
        self.page.keyboard.insert_text(text)

    def press(self, button: str) -> None:
        """Press a button of a notification, again where it stays: one that was put anew under the mouse missed it."""
        found = self.page.locator(f".notification-toast .monaco-button:text-is('{button}')")
        found.click()
        try:
            found.wait_for(state="hidden", timeout=3_000)
        except TimeoutError:
            found.click()

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str, delay: float = 0) -> None:
        """Type, with `delay` milliseconds between keys."""
        self.page.keyboard.type(text, delay=delay)

    # -------------------------------------------------------------- out

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_text_contents() or []

    def ghost(self) -> str:
        """The ghost text on the screen, with its lines."""
        return str(self.page.evaluate(GHOST)).rstrip("\n")

    def status(self) -> str:
        """The status bar item, as a screen reader reads it: "Inpaint, idle, 23 ms"."""
        return self.page.locator("[id='inpaint.inpaint.inpaint.status']").get_attribute("aria-label") or ""

    def menu(self, entry: str = "") -> str:
        """What the menu of the status bar item says, of which an entry is chosen, or which is closed again."""
        self.page.click("[id='inpaint.inpaint.inpaint.status']")
        box = self.page.wait_for_selector(".quick-input-widget input", state="visible")
        assert box is not None
        said = [box.get_attribute("placeholder") or "", *self.texts(".quick-input-list .monaco-list-row")]
        if entry:
            self.choose(entry)
        else:
            self.keys("Escape", "Control+1")
        return "\n".join(said)

    def tooltip(self) -> str:
        """What the status bar item says while the mouse is over it."""
        self.page.mouse.move(0, 0)  # it may be there since a click
        self.page.hover("[id='inpaint.inpaint.inpaint.status']")
        said = self.wait_for(lambda: self.texts(".monaco-hover .hover-contents"))
        self.page.mouse.move(0, 0)
        return "\n".join(said).replace("\u00a0", " ")

    def state(self) -> str:
        return self.status().split(", ")[1]

    def place(self) -> tuple[int, int] | None:
        """Line and column of the cursor, from the status bar; 1-based."""
        words = "".join(self.texts("[id='status.editor.selection']")).replace(",", "").split()
        return (int(words[1]), int(words[3])) if len(words) == 4 else None

    def saved(self, file: Path, expected: str) -> str:
        """The text of the file in front, saved until it is as expected or that is hopeless."""

        def is_so() -> bool:
            self.keys("Control+s")
            self.settle(100)
            return file.read_bytes().decode() == expected

        with contextlib.suppress(AssertionError):
            self.wait_for(is_so, PATIENCE / 4)
        return file.read_bytes().decode()

    def notifications(self) -> list[str]:
        return self.texts(".notification-list-item-message")

    @contextlib.contextmanager
    def looks(self) -> Iterator[list[str]]:
        """All looks of the line with ghost text, frame by frame; the list is filled at the end."""
        self.page.evaluate(RECORD)
        looks: list[str] = []
        yield looks
        looks += self.page.evaluate("() => { window.recording = false; return window.looks; }")

    # -------------------------------------------------------------- messages

    def wire(self) -> list[dict[str, Any]]:
        """The log since the last start of the server."""
        lines = self._wire.read_text(encoding="utf-8").splitlines(keepends=True)
        start = max((number for number, line in enumerate(lines) if line.startswith('{"pid"')), default=0)
        return [json.loads(line) for line in lines[start:] if line.endswith("\n")]

    def messages(self, sender: str, method: str, since: int = 0) -> list[dict[str, Any]]:
        """The messages of a method since a length of the wire."""
        lines = [line for line in self.wire()[since:] if line.get("from") == sender]
        return [line["message"] for line in lines if line["message"].get("method") == method]

    def answers(self, since: int = 0) -> dict[Any, dict[str, Any]]:
        """The answers to completion requests by the id of their request."""
        asked = {m["id"] for m in self.messages("client", "textDocument/inlineCompletion", since)}
        lines = [line["message"] for line in self.wire()[since:] if line.get("from") == "server"]
        return {m["id"]: m for m in lines if "method" not in m and m["id"] in asked}

    def suggested(self, since: int = 0) -> list[str]:
        """The completions that the server has sent, with \\n at line ends."""
        lists = [answer["result"]["items"] for answer in self.answers(since).values() if "result" in answer]
        return [item["insertText"].replace("\r\n", "\n") for items in lists for item in items]

    def states(self) -> list[str]:
        """The states that the server has told of."""
        return [message["params"]["state"] for message in self.messages("server", "inpaint/status")]

    def server_pid(self) -> int:
        """The process of the server that was started last."""
        return int(self.wire()[0]["pid"])

    def counts(self) -> dict[str, int]:
        """What the server has counted."""
        return dict(self.messages("server", "inpaint/status")[-1]["params"]["counts"])

    # -------------------------------------------------------------- waiting

    def wait_for(self, condition: Callable[[], T], patience: float = PATIENCE) -> T:
        """What the condition returns, once that is true. Raises AssertionError where it is not in time."""
        end = time.monotonic() + patience
        while not (value := condition()):
            assert time.monotonic() < end, self.story()
            self.page.wait_for_timeout(20)
        return value

    def wait_for_state(self, *states: str, patience: float = PATIENCE) -> None:
        self.wait_for(lambda: self.state() in states, patience)

    def wait_for_ghost(self) -> str:
        """The ghost text, once there is some that is the server's last word."""

        def settled() -> str:
            ghost, suggested = self.ghost(), self.suggested()
            return ghost if suggested and ghost == suggested[-1] and self.state() == "shown" else ""

        return self.wait_for(settled)

    def settle(self, milliseconds: float = 400) -> None:
        """Let pass what needs no event: debounces, and that nothing happens."""
        self.page.wait_for_timeout(milliseconds)

    def story(self) -> str:
        """What a test that fails wants to tell."""
        lines = [json.dumps(line)[:300] for line in self.wire()[-12:]]
        picture = self._user.parent / "failure.png"
        self.page.screenshot(path=picture)
        facts = f"status {self.status()!r}, ghost {self.ghost()!r}, cursor at {self.place()}; see {picture}"
        return "\n".join([facts, *self.notifications(), *lines])


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))  # in place, for VS Code watches this file and not its name


def tapped_python(home: Path, wire: Path, server: str) -> Path:
    """An executable for the setting `inpaint.python`, which runs one of SERVERS."""
    script = home / f"python-{server}"
    tap = Path(__file__).with_name("vscode_wire.py")
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" SERVER="{SERVERS[server]}" exec "{sys.executable}" "{tap}" "{wire}" "$@"\n'
    )
    script.chmod(0o755)
    return script


def bare_python(home: Path) -> Path:
    """A `python3` without Inpaint, to be the one on PATH."""
    script = home / "bin" / "python3"
    script.parent.mkdir()
    base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    script.write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
    script.chmod(0o755)
    return script


def put_light_server(extensions: Path) -> None:
    """Put a light wheel in the place of the one that the extension brings: this Python's packages and ROOT importable.

    What is downloaded with the one that it brings, test_package.py looks at.
    """
    [folder] = extensions.glob("*/dist/server")
    [file] = folder.glob("*.whl")
    info = "inpaint_lsp-0.1.0.dist-info"
    files = {
        "inpaint.pth": "\n".join([str(ROOT), *site.getsitepackages()]),
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: inpaint-lsp\nVersion: 0.1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "requirements.txt").write_text(f"./{file.name} --hash=sha256:{digest}\n")


@contextlib.contextmanager
def served(tools: Tools, home: Path) -> Iterator[int]:
    """A code-server with the extension. Gives its port."""
    port = free_port()
    extensions = ["--extensions-dir", str(home / "extensions"), "--user-data-dir", str(home / "user")]
    environment = {
        **os.environ,
        "PATH": f"{bare_python(home).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "XDG_CONFIG_HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "EXTENSIONS_GALLERY": "{}",
    }
    code_server = [str(tools.node), str(tools.code_server)]
    installed = subprocess.run(
        [*code_server, *extensions, "--install-extension", str(tools.vsix)],
        env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    if installed.returncode:
        raise InstallError(f"The extension could not be installed in VS Code:\n{installed.stdout}{installed.stderr}")
    put_light_server(home / "extensions")
    options = ["--auth", "none", "--bind-addr", f"127.0.0.1:{port}", "--disable-workspace-trust", "--disable-telemetry"]
    more = ["--disable-update-check", "--disable-getting-started-override", "--reconnection-grace-time", "5"]
    with (home / "code-server.log").open("w") as log:
        command = [*code_server, *extensions, *options, *more]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_healthy(port, server, home / "code-server.log")
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_until_healthy(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
            return
        time.sleep(0.2)
    raise InstallError(f"code-server did not start:\n{log.read_text()}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


StartError = (InstallError, Error)  # a start of the workbench that came to nothing, by our word or Playwright's
