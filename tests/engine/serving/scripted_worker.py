"""A worker process whose engine does what a prompt's first line says; see tests/lsp_server/scripted_server.py."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[2] / "lsp_server"))

from scripted_server import ScriptedEngine

from engine import Fill, FillRequest
from engine.contract import Progress, Watch, takes
from engine.serving.worker import main


class Scripted(ScriptedEngine):
    parallel = 1

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        if "# no dials" in request.prefix:
            takes(request)
        fill = super().fill(request, cancel)
        if watch is not None:
            for end in range(1, len(fill.text) + 1):
                watch(Progress(fill.text[:end], canvas=(None, None)))
        return fill


if __name__ == "__main__":
    main(Scripted)
