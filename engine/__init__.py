"""The engine: fills the gap between a prefix and a suffix with code.

    engine = Engine.load("small")
    fill = engine.fill(FillRequest(prefix="def add(a, b):\n    return ", suffix="\n"), threading.Event())

`lsp_server` knows this module's names, the index of a workspace (`retrieval`) and what a URL says (`remote.address`);
of prompts, decoding and passes it knows nothing. This package knows no LSP and no editor.
"""

import os
import sys

if sys.argv[0] == "-m" and sys.path[0] == os.getcwd():
    # `python -m` imports from the current folder first, where a checkpoint's files may be called like a library
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime reads it when it is imported: later calls come too late

import threading  # all but the first two below the change of the path, or a file of the folder is taken for it

import msgspec

from engine.contract import Backend, Cancelled, EngineError, Fill, FillRequest, Output, Sampling, Watch, map_text
from engine.plain import plain
from engine.remote.address import is_url

__all__ = ["AUTO", "Cancelled", "Engine", "EngineError", "Fill", "FillRequest"]

AUTO = "auto"  # the model's name of all that we ship
CRLF = "\r\n"


class Engine:
    """A loaded model. One `fill` or `read` runs at a time: give it one worker thread."""

    def __init__(self, backend: Backend, model: str = "", sampling: Sampling = Sampling()) -> None:
        self._backend, self._model, self._sampling = backend, model, sampling

    @classmethod
    def load(
        cls, model: str = AUTO, device: str = "auto", family: str | None = None, sampling: Sampling = Sampling()
    ) -> "Engine":
        """Load the embedded models (see engine.auto; as `auto:FOLDER` that folder's in their place) or one of them, a
        public checkpoint from a folder or a hub id, or reach a server by its URL.

        `device` is auto, cpu, cuda or mps, or several that share a public checkpoint, as in cuda:0,cuda:1; auto leaves
        the embedded model, which is made for it, on the CPU. `family` is a key of `engine.models.registry`, where the
        config.json of a checkpoint does not tell it; `sampling` counts where requests say nothing, and gives way where
        they say otherwise.
        Raises EngineError where the model is unknown, does not fit, or its files are missing or damaged.
        """
        if is_url(model):
            _refuse(model, family)
            from engine.remote.model import Remote  # here, so that nothing else has to do with the network

            return cls(Remote.load(model), model, sampling)
        _refuse_ambiguous(model)
        from engine import auto
        from engine.embedded import Embedded  # here, so that importing the types costs no onnxruntime

        name, _, folder = model.partition(":")
        if name == AUTO or Embedded.holds(model):
            _refuse(model, family)
        if name == AUTO and device in ("auto", "cpu"):
            return cls(auto.load(folder), sampling=sampling)
        if name == AUTO:
            model = folder or auto.SMALL
        if Embedded.holds(model) and device in ("auto", "cpu"):
            return cls(Embedded.load(model), model, sampling)
        try:
            from engine import public  # here, so that the embedded model costs no torch
        except ModuleNotFoundError as missing:
            needed = "public checkpoints and GPUs need the gpu extra: pip install 'inpaint-lsp[gpu]'"
            raise EngineError(f"{needed} ({missing.name} is missing)") from None
        if Embedded.holds(model):
            return cls(Embedded.load(model, public.choose_device(device)), model, sampling)
        return cls(public.load(model, device, family, sampling), model)

    @property
    def reach(self) -> int:
        """A fill depends on at most so many characters before and after the cursor."""
        return self._backend.reach

    @property
    def parallel(self) -> int:
        """So many fills may run at once, each in a thread of its own."""
        return self._backend.parallel

    def remember(self, megabytes: float) -> None:
        """Keep the KV memories of as many texts as fit into that, for many users; the least recently used goes."""
        self._backend.remember(megabytes)

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        """Fill the gap. Looks at `cancel` between passes and raises Cancelled where it is set; `watch` is told of what
        has been committed after each pass, by models that have passes here.

        Raises EngineError where an option is out of its range. Models see `\\n` alone; a fill has the line ends of the
        text around it, and nothing that is not seen (see engine.plain).
        """
        _check(request)
        request = msgspec.structs.replace(request, sampling=request.sampling.over(self._sampling))
        crlf = CRLF in request.prefix or CRLF in request.suffix

        def restored(output: Output) -> Output:
            output = map_text(output, plain)
            return map_text(output, lambda text: text.replace("\n", CRLF)) if crlf else output

        watching = None if watch is None else lambda progress: watch(restored(progress))
        fill = restored(self._backend.fill(_with_newlines(request), cancel, watching))
        return fill if fill.model else msgspec.structs.replace(fill, model=self._model)

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        """Read ahead what a request like this one would have the model read, pass by pass; the text of its fill is the
        same without. Raises Cancelled. Returns whether all is read that can be; False while a model is being loaded,
        which a request without a deadline waits for.
        """
        return self._backend.read(_with_newlines(request), cancel)


def _refuse(model: str, family: str | None) -> None:
    """Raises EngineError where a family is said of a model that is of none."""
    if family is not None:
        raise EngineError(f"--family is for public checkpoints, and {model} is none: leave it out, or choose another")


def _refuse_ambiguous(model: str) -> None:
    """Raises EngineError where the name of a model of the hub is that of a folder, which may be of a cloned project."""
    if model.count("/") == 1 and model[0] not in "./~" and os.path.isdir(model):
        raise EngineError(f"{model} is a folder here, and may be a model of the hub: write ./{model} for the folder")


def _check(request: FillRequest) -> None:
    """Raises EngineError."""
    for name in ("max_lines", "max_tokens", "steps"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise EngineError(f"{name} is {value}: give a whole number from 1 on")
    for name in ("min_confidence", "trust"):
        if not 0 <= getattr(request, name) <= 1:
            raise EngineError(f"{name} is {getattr(request, name)}: give a number from 0 to 1")


def _with_newlines(request: FillRequest) -> FillRequest:
    prefix, suffix = (text.replace(CRLF, "\n") for text in (request.prefix, request.suffix))
    related, others = (tuple(text.replace(CRLF, "\n") for text in texts) for texts in (request.related, request.others))
    return msgspec.structs.replace(request, prefix=prefix, suffix=suffix, related=related, others=others)
