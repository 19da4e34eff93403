"""A Python for the extension that writes down what it and the server say to each other.

    SERVER="-m lsp_server" python vscode_wire.py LOG -m lsp_server --stdio

runs that server and appends a line of JSON to LOG for its start, {"pid"}, and for each message, {"from", "time",
"message"}. With other arguments it is just Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from typing import IO


def main(log: str, *arguments: str) -> int:
    if arguments[:2] != ("-m", "lsp_server"):
        return subprocess.call([sys.executable, *arguments])
    command = [sys.executable, *os.environ["SERVER"].split(), *arguments[2:]]
    with open(log, "a", encoding="utf-8") as lines, subprocess.Popen(command, stdin=-1, stdout=-1) as server:
        print(json.dumps({"pid": server.pid}), file=lines, flush=True)
        threading.Thread(target=copy, args=(sys.stdin.buffer, server.stdin, "client", lines), daemon=True).start()
        copy(server.stdout, sys.stdout.buffer, "server", lines)
        code = server.wait()
    os._exit(code if code >= 0 else 1)  # a thread that reads stdin would keep this process


def copy(source: IO[bytes], target: IO[bytes], sender: str, lines: IO[str]) -> None:
    """Pass on messages until there are none."""
    with contextlib.suppress(OSError):
        while header := read_header(source):
            length = next(int(line[16:]) for line in header.split(b"\r\n") if line.startswith(b"Content-Length: "))
            body = source.read(length)
            line = {"from": sender, "time": time.time(), "message": json.loads(body)}
            print(json.dumps(line), file=lines, flush=True)
            target.write(header + b"\r\n" + body)
            target.flush()
        target.close()


def read_header(source: IO[bytes]) -> bytes:
    """The lines of a message's header; empty at the end of the source."""
    lines = []
    while (line := source.readline()) not in (b"", b"\r\n"):
        lines.append(line)
    return b"".join(lines)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
