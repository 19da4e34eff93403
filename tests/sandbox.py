"""Ends a Linux process at its first socket or write of a file, whichever library does it, by a filter in the kernel.

    LspClient.start(REAL, preexec_fn=no_sockets_no_writes)

Python's audit hooks do not see what native code does; this does (seccomp, Linux 3.17). Pipes and socket pairs are
allowed. The exit code of a process that was ended is ENDED.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct

ENDED = -signal.SIGSYS
QUIET = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # the interpreter's own files are not what is tested

CALLS = {  # numbers of the calls that are forbidden, and of those that open a file with the index of their flags
    "x86_64": (
        # socket, connect, mkdir(at), creat, rename(at, at2), unlink(at), link(at), symlink(at), truncate, openat2
        (41, 42, 83, 258, 85, 82, 264, 316, 87, 263, 86, 265, 88, 266, 76, 437),
        ((2, 1), (257, 2)),  # open, openat
    ),
    "aarch64": ((198, 203, 34, 38, 276, 35, 37, 36, 45, 437), ((56, 2),)),
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06  # instructions of the filter's machine
KILL, ALLOW = 0x80000000, 0x7FFF0000
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2


def program() -> bytes:
    forbidden, opening = CALLS[platform.machine()]
    step = struct.Struct("HBBI")  # code, jump where true, jump where false, operand
    steps = [step.pack(LOAD, 0, 0, 0)]  # the call's number
    for number in forbidden:
        steps += [step.pack(EQUAL, 0, 1, number), step.pack(RETURN, 0, 0, KILL)]
    for number, flags in opening:
        steps += [
            step.pack(EQUAL, 0, 4, number),
            step.pack(LOAD, 0, 0, 16 + 8 * flags),
            step.pack(ANY_BIT, 0, 1, WRITING),
            step.pack(RETURN, 0, 0, KILL),
            step.pack(RETURN, 0, 0, ALLOW),
        ]
    return b"".join([*steps, step.pack(RETURN, 0, 0, ALLOW)])


def no_sockets_no_writes() -> None:
    """Filter the calls of this process and its children from now on; there is no way back."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program())
    filtering = struct.pack("HP", (len(code) - 1) // 8, ctypes.addressof(code))
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SECCOMP, FILTER, filtering, 0, 0):
        raise OSError(ctypes.get_errno(), "the system calls could not be filtered")
