"""The demo page in a real browser: what stays is the completion, and a canvas is seen being denoised."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from servers import PATIENCE, SCRIPTED, Server, script, serving

sys.path.insert(0, str(Path(__file__).parents[2] / "editors"))

from vscode_install import chromium_executable


@contextlib.contextmanager
def opened(server: Server) -> Iterator[tuple[Page, list[str]]]:
    """The page of a server, and what the browser complains of."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium_executable()), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto(server.url)
        yield page, complaints
        browser.close()


def test_the_page_shows_what_is_written(server: Server) -> None:
    with opened(server) as (page, complaints):
        page.fill("#prefix", "import numpy as ")
        page.fill("#suffix", "\nimport os\n")
        page.fill("#lines", "1")
        page.fill("#pace", "0")
        page.click("#fill")
        page.locator("#cost", has_text="confidence").wait_for()
        assert page.text_content(".committed") == "np"
        assert page.text_content("#shown") == "import numpy as np\nimport os\n"
        assert not complaints
        page.fill("#prefix", "x" * 2_100_000)
        page.click("#fill")
        page.locator("#cost", has_text="bytes").wait_for()


def test_the_page_shows_the_canvas_being_denoised() -> None:
    with serving([*SCRIPTED, "1"]) as scripted, opened(scripted) as (page, complaints):
        page.fill("#prefix", script("abc"))
        page.fill("#pace", "0")
        page.evaluate(WATCH)
        page.click("#fill")
        page.locator("#cost", has_text="confidence").wait_for()
        assert page.evaluate("window.seen"), "no canvas was drawn"
        assert not complaints


WATCH = """() => {
    window.seen = 0;
    const count = () => { window.seen += document.querySelectorAll(".draft, .mask").length; };
    new MutationObserver(count).observe(document.getElementById("shown"), { childList: true });
}"""
