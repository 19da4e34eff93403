"""The denoising engine: fills the gap between a prefix and a suffix with code.

    engine = Engine.load("nano")
    fill = engine.fill(FillRequest(prefix="def add(a, b):\n    return ", suffix="\n"), threading.Event())

`lsp_server` knows this module's names and nothing below them; this package knows no LSP and no editor.
"""

import os
import sys
import threading

if sys.argv[0] == "-m" and sys.path[0] == os.getcwd():
    # `python -m` imports from the current folder first, where a checkpoint's files may be called like a library
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime reads it when it is imported: later calls come too late

from engine.contract import Backend, Cancelled, EngineError, Fill, FillRequest, Progress, Watch
from engine.remote.address import is_url

__all__ = ["Cancelled", "Engine", "EngineError", "Fill", "FillRequest"]


class Engine:
    """A loaded model. One `fill` runs at a time: give it one worker thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @classmethod
    def load(cls, model: str = "nano", device: str = "auto") -> "Engine":
        """Load the embedded model, a public checkpoint from a folder or a hub id, or reach a server by its URL.

        `device` is auto, cpu, cuda or mps; auto leaves the embedded model, which is made for it, on the CPU.
        Raises EngineError where the model is unknown, does not fit, or its files are missing or damaged.
        """
        if is_url(model):
            from engine.remote.model import Remote  # here, so that nothing else has to do with the network

            return cls(Remote.load(model))
        from engine.embedded import Embedded  # here, so that importing the types costs no onnxruntime

        if Embedded.holds(model) and device in ("auto", "cpu"):
            return cls(Embedded.load(model))
        try:
            from engine import public  # here, so that the embedded model costs no torch
        except ModuleNotFoundError as missing:
            needed = "public checkpoints and GPUs need the gpu extra: pip install 'inpaint-lsp[gpu]'"
            raise EngineError(f"{needed} ({missing.name} is missing)") from None
        if Embedded.holds(model):
            return cls(Embedded.load(model, public.choose_device(device)))
        return cls(public.load(model, device))

    @property
    def reach(self) -> int:
        """A fill depends on at most so many characters before and after the cursor."""
        return self._backend.reach

    @property
    def parallel(self) -> int:
        """So many fills may run at once, each in a thread of its own."""
        return 1

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        """Fill the gap. Looks at `cancel` between passes and raises Cancelled where it is set; `watch` is told of what
        has been committed.
        """
        fill = self._backend.fill(request, cancel)
        if watch is not None:
            watch(Progress(fill.text, fill.pieces))
        return fill
