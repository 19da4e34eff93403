"""The embedded model: finds its files, keeps its KV memory, answers requests.

The way of a request is `Embedded.fill`: tabs become the blanks that models know (`tabs`), the text becomes tokens
(`prompt`), they are decoded (`decoding.draft_verify`), and the fill gets its tabs back.
"""

from __future__ import annotations

import statistics
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from engine import checksums, get, unpacked
from engine.backends.kv_cache import CausalRunner, ModelShape
from engine.backends.onnx import OnnxRunner
from engine.backends.pace import LAST
from engine.contract import DRAWN, Backend, Cancelled, EngineError, Fill, FillRequest, Watch, takes
from engine.decoding import draft_verify
from engine.decoding.limits import Limits
from engine.decoding.runner import Gap
from engine.decoding.sampling import TokenSampler
from engine.prompt import CHARACTERS, Prompt, prompt
from engine.retrieval import copying
from engine.tabs import DetabbedRequest
from engine.tokenizer import BOS, EOM, MASK, SPECIALS, Tokenizer

if TYPE_CHECKING:
    import torch

WEIGHTS = Path(__file__).parent / "weights"
GRAPH, STORED = "graph.onnx", "model.safetensors"
SLICES, PATIENCE = (64, 32, 16, 8), 0.06  # tokens that are read at once: the most that take so many seconds
LINE, ROWS = 3, 4  # passes that a line takes until some were made, and rows of each
NEVER = [token for token in range(len(SPECIALS)) if token != EOM]  # is drawn
WARM_UP = FillRequest(prefix="import os\n\n\ndef main(", suffix=")\n", max_lines=1)


class Embedded(Backend):
    def __init__(self, model: CausalRunner, tokenizer: Tokenizer, name: str = "") -> None:
        self._model, self._tokenizer, self.name = model, tokenizer, name
        self._lines = deque([LINE], maxlen=LAST)  # passes of the last fills of a line
        self._prompted: tuple[FillRequest, DetabbedRequest, Prompt] | None = None  # of the last request

    @classmethod
    def load(cls, name: str, device: torch.device | None = None) -> Embedded:
        """A shipped model by name, or a folder that `train export` wrote. Raises EngineError with what to do.

        Runs on ONNX Runtime, or in torch where a device is given.
        """
        folder = folder_of(name)
        checksums.check(folder, ("config.json", "tokenizer.json", GRAPH))
        shape = read_shape(folder)
        name = shape.name or folder.name
        model = cls(_passes(folder, shape, device), Tokenizer.load(folder / "tokenizer.json"), name)
        model.warm_up(folder)
        return model

    def warm_up(self, folder: Path) -> None:
        """Make the first passes, which allocate, and tell what passes cost here. Raises EngineError where the folder's
        files do not go together.
        """
        try:
            logits = self._model.forward([BOS], 1).logits
            self.fill(WARM_UP, threading.Event())
            self._model = self._model.settled()
            for rows in (1, 2, ROWS) * 2:
                self._model.read([BOS] * rows)
        except Exception as error:  # onnxruntime has a family of exceptions without a public base
            reason = f"{type(error).__name__}: {error}"
        else:
            if logits.shape[-1] == self._tokenizer.vocab and np.isfinite(logits).all():
                return
            reason = f"{logits.shape[-1]} logits for {self._tokenizer.vocab} tokens, or some that are no numbers"
        raise EngineError(f"the files in {folder} do not go together ({reason}); install the model again")

    @staticmethod
    def holds(name: str) -> bool:
        """Whether a name is for `load`: ours, or nobody's. Other folders and hub ids are public checkpoints'."""
        folder = Path(name).expanduser()
        shipped = folder.name == name and (WEIGHTS / name / "config.json").is_file()
        return shipped or (folder / GRAPH).exists() or not (folder.is_dir() or "/" in name)

    @staticmethod
    def threads(name: str) -> int:
        """That a pass of the model uses; 1 where there is no such model."""
        try:
            return read_shape(folder_of(name)).threads
        except EngineError:
            return 1

    @property
    def reach(self) -> int:
        """See Engine.reach."""
        return max(copying.REACH, self._model.shape.context * CHARACTERS)

    def remember(self, megabytes: float) -> None:
        """See Engine.remember."""
        self._model.remember(megabytes)

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        """See Engine.fill."""
        takes(request, *DRAWN)
        seen, asked = self._seen(request)
        return seen.restored(self._decoded(seen.request, asked, cancel, seen.watched(watch)))

    def meets_deadline(self, request: FillRequest) -> bool:
        """Whether a line is likely to be there within the deadline: by what is to be read for it, how many passes the
        last lines took, and what passes cost lately.
        """
        if request.deadline_ms is None:
            return True
        asked, pace = self._seen(request)[1], self._model.pace
        reading = pace.seconds(self._model.num_uncached(asked.context) + len(asked.uncached_tail))
        writing = (statistics.median(self._lines) - 1) * pace.seconds(ROWS)
        return reading + writing <= request.deadline_ms / 1000

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        """See Engine.read."""
        asked = self._seen(request)[1]
        self._model.reuse_prefix(asked.context)
        for _ in self._slices(asked.context):
            _check(cancel)
        if rest := asked.context[len(self._model.sequence) :]:
            self._model.read(rest)
        _check(cancel)
        self._model.read(asked.uncached_tail)  # so that what passes cost is known when nothing is left to be read
        self._model.truncate(len(asked.context))
        return True

    def _seen(self, request: FillRequest) -> tuple[DetabbedRequest, Prompt]:
        """What the model sees of a request: made once, though `meets_deadline` asks for it and `fill` again."""
        if self._prompted is None or self._prompted[0] is not request:
            seen, shape = DetabbedRequest.of(request), self._model.shape
            self._prompted = request, seen, prompt(seen.request, self._tokenizer, shape.context, shape.rest_first)
        return self._prompted[1:]

    def _slices(self, context: list[int]) -> Iterator[None]:
        """Read what is not read of a context, until the rest takes no longer than a request may wait that comes
        meanwhile; stops before each pass.
        """
        pace = self._model.pace
        while pace.seconds(len(unread := context[len(self._model.sequence) :])) > PATIENCE and unread:
            yield
            rows = next((rows for rows in SLICES if pace.seconds(rows) <= PATIENCE), SLICES[-1])
            self._model.read(unread[:rows])

    def _decoded(self, request: FillRequest, asked: Prompt, cancel: threading.Event, watch: Watch | None) -> Fill:
        drawn = bool(request.sampling.temperature)
        if drawn:
            request = msgspec.structs.replace(request, trust=1.0)
        limits = Limits(request, self._tokenizer, cancel, watch)
        model = self._model
        line_end = "\n" if self._tokenizer.ended else ""
        limits.spelled = lambda tokens: self._tokenizer.decode(tokens)[len(asked.blank) :].removesuffix(line_end)
        limits.respelled_lines = asked.blank.count("\n")
        reused = model.reuse_prefix(asked.context)
        timed = request.deadline_ms is not None  # else, and the rest, as one pass with the first draft
        for _ in self._slices(asked.context) if timed else ():
            if limits.late():
                break
            limits.check()
            limits.passed()
        reading = limits.passes
        copier = copying.Copier(request, self._tokenizer, asked.blank, self.name)
        first = self._tokenizer.first(asked.blank, request.others)
        written = draft_verify.decode(
            model,
            Gap([*asked.context, *asked.uncached_tail], [], asked.blank),
            MASK,
            limits,
            copier,
            lambda written: None if written else first,
            TokenSampler(request.sampling, NEVER, first) if drawn else copying.mixed,
            denoised=model.draft,
        )
        if request.max_lines == 1 and written.ended:
            self._lines.append(limits.passes - reading)
        fill = limits.fill(written, newline=asked.newline, window=len(asked.context), reused=reused)
        pieces = [piece._replace(copied=share) for piece, share in zip(fill.pieces, copier.shares, strict=False)]
        source = copier.source(len(fill.text))
        return msgspec.structs.replace(
            fill, model=self.name, source=source, pieces=tuple(pieces), drafting=model.drafting
        )


def folder_of(name: str) -> Path:
    """Of a shipped model, or the folder that is named. Raises EngineError where there is no model."""
    fetched = get.models_folder() / name if get.installed(name) else Path(name).expanduser()
    folder = WEIGHTS / name if (WEIGHTS / name / STORED).is_file() else fetched
    if (folder / "config.json").is_file():
        return folder
    if name in get.MODELS:
        raise EngineError(f"{name} is not on this machine: `python -m engine get {name}` fetches it, once")
    shipped = ", ".join(sorted(path.parent.name for path in WEIGHTS.glob(f"*/{STORED}"))) or "none"
    raise EngineError(f"no model {name!r}: give a shipped one ({shipped}) or a folder with config.json")


def read_shape(folder: Path) -> ModelShape:
    """Raises EngineError where it cannot be read."""
    try:
        return msgspec.json.decode((folder / "config.json").read_bytes(), type=ModelShape)
    except (msgspec.DecodeError, OSError, RecursionError) as error:
        raise EngineError(f"{folder / 'config.json'} is damaged ({error}); install the model again") from None


def _check(cancel: threading.Event) -> None:
    """Raises Cancelled."""
    if cancel.is_set():
        raise Cancelled


def _passes(folder: Path, shape: ModelShape, device: torch.device | None) -> CausalRunner:
    if device is None:
        return OnnxRunner.load(folder, shape)
    from engine.backends.torch_runner import TorchRunner, read_model  # here, so that the default costs no torch

    origin = unpacked.origin_of(shape.grown_from) if shape.grown_from else folder
    checksums.check(origin, [STORED])
    change = get.Change.load(folder / get.ADAPTER) if shape.grown_from else None
    return TorchRunner(read_model(origin / STORED, change), shape, device)
