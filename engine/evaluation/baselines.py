"""What the language server is held against: the same server with the model alone, or without one of its rules."""

from __future__ import annotations

import subprocess
import sys
import threading

import msgspec

from engine import Engine, Fill, FillRequest
from engine.contract import Watch

SERVE_ALONE = """\
import sys
from engine.evaluation.baselines import Alone
from lsp_server.__main__ import main
sys.exit(main(sys.argv[1:], Alone.load))
"""

SERVE_WITHOUT = """\
import sys
from lsp_server import postprocess
from lsp_server.__main__ import main
postprocess.RULES = tuple(each for each in postprocess.RULES if each is not postprocess.{name})
postprocess.{name} = lambda fill: fill.text  # who cuts a fill by its doubts is none of them
sys.exit(main(sys.argv[1:]))
"""

MODEL_ALONE = (sys.executable, "-c", SERVE_ALONE, "--stdio")


def server_without(name: str) -> tuple[str, ...]:
    """The command of the language server without one of its rules."""
    return (sys.executable, "-c", SERVE_WITHOUT.format(name=name), "--stdio")


def rules() -> list[str]:
    """The names of the server's rules."""
    command = (
        "from lsp_server import postprocess as p; print(*(e.__name__ for e in (p.without_doubtful_lines, *p.RULES)))"
    )
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()


class Alone(Engine):
    """An engine that copies nothing."""

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        return super().fill(msgspec.structs.replace(request, copies=False), cancel, watch)
