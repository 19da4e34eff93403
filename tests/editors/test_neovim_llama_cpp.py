"""Neovim with our plugin, and llama.cpp's server in the model's place."""

from __future__ import annotations

import sys
from pathlib import Path

from llama_cpp import llama_cpp_server
from neovim import Neovim, setup


def test_ghost_text_comes_from_llama_cpp(executable: str, tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("import os\n\nimport sys\n")
    with llama_cpp_server() as (url, _):
        command = [sys.executable, "-m", "lsp_server", "--stdio"]
        options = {"cmd": command, "server": {"model": url, "minConfidence": 0}}
        with Neovim.start(executable, file, setup(options)) as editor:
            editor.wait_for(lambda: "127.0.0.1 is sent" in editor.messages())
            editor.wait_for_status("idle")
            editor.type("joimport numpy as ")
            editor.wait_for(lambda: editor.ghost().startswith("np"))
            editor.type("<Tab>")
            editor.wait_for(lambda: editor.lines[2] == "import numpy as np")
