"""What documents and other people's plugins send: the README's examples, llama.vim and llama.vscode."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from servers import PATIENCE, ROOT, Server

README = ROOT / "engine" / "serving" / "README.md"
PORT = "127.0.0.1:8012"  # the README's
LINE = {"input_prefix": "import os\n", "prompt": "import numpy as ", "input_suffix": "\n\nprint(np.zeros(3))\n"}
CHUNKS = [
    {"text": "quux_zorble = frobnicate_all(the_wobbly_widgets)\n", "time": [5838, 1113235924], "filename": "b.py"}
]


def example(server: Server, language: str) -> str:
    """The README's block that asks a server."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    [block] = [block for block in blocks if f"{PORT}/v1" in block]
    return str(block).replace(PORT, server.url.removeprefix("http://"))


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout


def test_the_readmes_curl_works_as_pasted(server: Server) -> None:
    assert '"text":"np"' in output("bash", "-c", example(server, "bash"))


def test_the_readmes_python_works_as_pasted(server: Server) -> None:
    assert output(sys.executable, "-c", example(server, "python")) == "np\n"


FIELDS = [
    "content",
    *(
        f"timings/{part}_{unit}"
        for part in ("prompt", "predicted")
        for unit in ("n", "ms", "per_token_ms", "per_second")
    ),
    "truncated",
    "tokens_cached",
]


def vim_asks(server: Server, body: dict[str, Any]) -> httpx2.Response:
    """As curl does for llama.vim, which has this header where no key is set too."""
    return server.post("/infill", body, Authorization="Bearer")


@pytest.mark.parametrize("milliseconds", [250, 1000, 60_000])  # its own, and one that a busy machine keeps too
def test_llama_vim_gets_what_it_reads(server: Server, milliseconds: int) -> None:
    """Its request for a completion, field for field, and of the answer what it reads."""
    body = {
        **LINE,
        "id_slot": 0,
        "input_extra": CHUNKS,
        "n_predict": 128,
        "stop": [],
        "n_indent": 0,
        "top_k": 40,
        "top_p": 0.90,
        "samplers": ["top_k", "top_p", "infill"],
        "stream": False,
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": milliseconds,
        "response_fields": FIELDS,
        "model": "",
    }
    answer = vim_asks(server, body)
    assert answer.status_code == 200
    assert re.match(r'\{.*"content":"', answer.text)  # or it takes it for no answer
    said = answer.json()
    assert set(said) == set(FIELDS)
    if milliseconds > 1000:
        assert said["content"].startswith("np")
        assert said["timings/predicted_n"] > 0


def test_llama_vims_context_is_taken(server: Server) -> None:
    """What it sends while nobody types, of whose answer it reads nothing."""
    body = {
        "id_slot": 0,
        "input_prefix": "",
        "input_suffix": "",
        "input_extra": CHUNKS,
        "prompt": "",
        "n_predict": 0,
        "temperature": 0.0,
        "samplers": [],
        "stream": False,
        "cache_prompt": True,
        "t_max_prompt_ms": 1,
        "t_max_predict_ms": 1,
        "response_fields": [""],
        "model": "",
    }
    answer = vim_asks(server, body)
    assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.parametrize("more", [{}, {"model": "small", "n_indent": 4, "lora": [{"id": 0, "scale": 0.5}]}])
def test_llama_vscode_gets_what_it_reads(server: Server, more: dict[str, Any]) -> None:
    """It takes one completion or a list of them; we answer with one."""
    body = {
        **LINE,
        "id_slot": 0,
        "input_extra": CHUNKS,
        "n_predict": 128,
        "n_cmpl": 3,
        "top_k": 40,
        "top_p": 0.99,
        "stream": False,
        "samplers": ["top_k", "top_p", "infill"],
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 60_000,
        **more,
    }
    answer = server.post("/infill", body).json()
    assert answer["content"].startswith("np")
    assert answer["truncated"] is False
    assert {"prompt_n", "prompt_ms", "prompt_per_second", "predicted_n", "predicted_ms", "predicted_per_second"} <= set(
        answer["timings"]
    )
