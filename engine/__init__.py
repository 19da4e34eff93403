"""The denoising engine: fills the gap between a prefix and a suffix with code.

    engine = Engine.load("nano")
    fill = engine.fill(FillRequest(prefix="def add(a, b):\n    return ", suffix="\n"), threading.Event())

`lsp_server` knows this module's names and nothing below them; this package knows no LSP and no editor.
"""

from __future__ import annotations

import threading

from engine.contract import Backend, Cancelled, EngineError, Fill, FillRequest

__all__ = ["Cancelled", "Engine", "EngineError", "Fill", "FillRequest"]


class Engine:
    """A loaded model. One `fill` runs at a time: give it one worker thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @classmethod
    def load(cls, model: str = "nano") -> Engine:
        """Load the embedded model, or one of the same format from a folder.

        Raises EngineError where the model is unknown or its files are missing or damaged.
        """
        from engine.nano import Nano  # here, so that importing the types costs no onnxruntime

        return cls(Nano.load(model))

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill:
        """Fill the gap. Looks at `cancel` between passes and raises Cancelled where it is set."""
        return self._backend.fill(request, cancel)
