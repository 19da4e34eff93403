"""The demo page in a real browser: a canvas is denoised, and what stays is the completion."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from servers import PATIENCE, REAL, serving

sys.path.insert(0, str(Path(__file__).parents[2] / "editors"))

from vscode_install import chromium_executable


def test_the_page_shows_the_canvas_being_denoised() -> None:
    with serving(REAL) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium_executable()), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        while server.client.get("/health").status_code != 200:
            pass
        page.goto(server.url)
        page.fill("#prefix", "import numpy as ")
        page.fill("#suffix", "\nimport os\n")
        page.fill("#lines", "1")
        page.fill("#pace", "0")
        page.evaluate(WATCH)
        page.click("#fill")
        page.locator("#cost", has_text="confidence").wait_for()
        assert page.text_content(".committed") == "np"
        assert page.text_content("#shown") == "import numpy as np\nimport os\n"
        assert page.evaluate("window.seen"), "no canvas was drawn"
        assert not complaints
        page.fill("#prefix", "x" * 2_100_000)
        page.click("#fill")
        page.locator("#cost", has_text="bytes").wait_for()
        browser.close()


WATCH = """() => {
    window.seen = 0;
    const count = () => { window.seen += document.querySelectorAll(".draft, .mask").length; };
    new MutationObserver(count).observe(document.getElementById("shown"), { childList: true });
}"""
