"""llama.cpp's own server as the model: of the engine, and of the language server."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from llama_cpp import llama_cpp_server
from lsp_client import INVOKED, REAL, ROOT, LspClient

from engine import Engine, FillRequest
from engine.remote import client
from engine.remote.apis import LlamaCompletion
from engine.remote.model import Remote

TIMEOUT = 600.0  # seconds, on a machine that is busy otherwise


@pytest.fixture(scope="module")
def llama_cpp() -> Iterator[str]:
    with llama_cpp_server() as (url, _):
        yield url


def test_the_engine_fills_by_llama_cpp(llama_cpp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT", TIMEOUT)
    assert isinstance(Remote.load(llama_cpp).ask(threading.Event()).kind, LlamaCompletion)  # SmolLM2 knows no infill
    request = FillRequest(prefix="import os\nimport numpy as ", suffix="\n", max_lines=1, max_tokens=8)
    fill = Engine.load(llama_cpp).fill(request, threading.Event())
    assert fill.text == "np"
    assert 0.5 < fill.confidence <= 1
    assert fill.instead == ""
    header = 'def add(a, b):\n    """Return the sum."""\n'
    for prefix in (header, header + "    "):  # a token of the model has the line's end and the indentation
        made = Engine.load(llama_cpp).fill(FillRequest(prefix=prefix, max_lines=1, max_tokens=16), threading.Event())
        assert made.text.strip() == "return a + b"


async def test_the_language_server_completes_by_llama_cpp(llama_cpp: str) -> None:
    options = {"status": True, "minConfidence": 0}
    async with LspClient.start([*REAL, "--model", llama_cpp], cwd=ROOT) as editor:
        await editor.initialize(initializationOptions=options)
        await editor.wait_for("window/showMessage", "127.0.0.1 is sent")
        editor.open("file:///a.py", "import os\nimport numpy as \n")
        [item] = await editor.complete("file:///a.py", 1, 16, INVOKED)
        assert item["insertText"].startswith("np")
        assert await editor.leave() == 0
