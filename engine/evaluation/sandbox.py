"""Runs a program of unknown conduct in a child process: without network where the kernel allows it, in a folder of its
own, with limits on time, memory, files and processes, and as nobody where we are root.

Whether it got to its end is told by a secret that only the child's last line writes: a program that just exits has not
passed.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

CPU_SECONDS, MEMORY, FILE = 5, 2 << 30, 1 << 20
NEW_NETWORK = 0x40000000  # CLONE_NEWNET
NOBODY = 65534
CHILD = """
import os, sys
secret, _, program = sys.stdin.read().partition("\\n")
out, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
for stream in (0, 1):
    os.dup2(null, stream)
exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
os.write(out, secret.encode())
os._exit(0)
"""


def passes(program: str, seconds: float) -> bool | None:
    """Whether a program runs to its end without an exception; None where time ran out. Needs a POSIX system."""
    secret, root, python = secrets.token_hex(8), os.geteuid() == 0, Path("/usr/bin/python3")
    interpreter = str(python) if root and python.exists() else sys.executable  # nobody may not read one in root's home
    with tempfile.TemporaryDirectory(prefix="inpaint_") as folder:
        Path(folder).chmod(0o777)
        child = subprocess.Popen(
            [interpreter, "-I", "-c", CHILD],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(_confine, root),
        )
        try:
            said, _ = child.communicate(f"{secret}\n{program}".encode("utf-8", "surrogatepass"), timeout=seconds)
            return said == secret.encode()
        except subprocess.TimeoutExpired:
            return None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()


def _confine(root: bool) -> None:
    """In the child, before the program."""
    import ctypes
    import resource

    limits = {
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_FSIZE: FILE,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    if root:
        ctypes.CDLL(None).unshare(NEW_NETWORK)  # best effort: a container may forbid it
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    os.nice(10)
