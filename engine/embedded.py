"""The embedded model: finds its files, keeps its KV memory, answers requests.

A long context makes a better text, and where rows are dear it takes seconds to read. So a model that sees far has two
windows, each with memories of its own: a request gets the longer one if that can be read within its deadline, and both
are read ahead while nobody waits (`read`).
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from engine import checksums, get
from engine.backends.memory import CausalPasses, ModelShape
from engine.backends.onnx import OnnxPasses
from engine.backends.pace import LAST
from engine.contract import DRAWN, Cancelled, EngineError, Fill, FillRequest, Watch, takes
from engine.decoding import draft_verify
from engine.decoding.drawing import Draw
from engine.decoding.limits import Limits
from engine.decoding.passes import Gap
from engine.retrieval import copying
from engine.standing import CANNOT, FITS, beginnings, begun, verdict, with_beginning
from engine.tabs import Seen
from engine.tokenizer import BOS, EOM, MASK, SPECIALS, Tokenizer
from engine.window import CHARACTERS, Prompt, prompt

if TYPE_CHECKING:
    import torch

WEIGHTS = Path(__file__).parent / "weights"
GRAPH, STORED = "graph.onnx", "model.safetensors"
SHORT = 384  # tokens of context that are read first; longer contexts are not for whoever waits
SLICE = 16  # tokens a pass that reads ahead: a request that comes meanwhile waits for no more
LINE, ROWS = 4, 8  # passes that a line takes until some were made, and rows of each
TRIES = 5  # of other beginnings, where a fill cannot stand
SURE = 0.3  # confidence with which the first that can is taken
NEVER = [token for token in range(len(SPECIALS)) if token != EOM]  # is drawn
WARM_UP = FillRequest(prefix="import os\n\n\ndef main(", suffix=")\n", max_lines=1)


class Plan(msgspec.Struct, frozen=True):
    """A way to answer a request: what is to be read with which passes; and the seconds until there is a line."""

    passes: CausalPasses
    asked: Prompt
    seconds: float


class Embedded:
    def __init__(self, model: CausalPasses, tokenizer: Tokenizer, name: str = "") -> None:
        self._model, self._tokenizer, self._name = model, tokenizer, name
        two = model.shape.context > SHORT and not model.rows_are_free
        self._windows = [model.apart(SHORT), model] if two else [model]
        self._lines = deque([LINE], maxlen=LAST)  # passes of the last fills of a line

    @classmethod
    def load(cls, name: str, device: torch.device | None = None) -> Embedded:
        """A shipped model by name, or a folder that `train export` wrote. Raises EngineError with what to do.

        Runs on ONNX Runtime, or in torch where a device is given.
        """
        folder = folder_of(name)
        checksums.check(folder, ("config.json", "tokenizer.json", GRAPH, STORED))
        shape = read_shape(folder)
        name = shape.name or folder.name
        model = cls(_passes(folder, shape, device), Tokenizer.load(folder / "tokenizer.json"), name)
        model.prove(folder)
        return model

    def prove(self, folder: Path) -> None:
        """Make the first passes, which allocate. Raises EngineError where the folder's files do not go together."""
        try:
            logits = self._model.forward([BOS], [], 1).logits
            self.fill(WARM_UP, threading.Event())
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

    @property
    def parallel(self) -> int:
        """See Engine.parallel."""
        return 1

    def remember(self, megabytes: float) -> None:
        """See Engine.remember."""
        for passes in self._windows:
            passes.remember(megabytes / len(self._windows))

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        """See Engine.fill."""
        seen = Seen.of(request)
        plans = self._plans(seen.request)
        return self._standing(_in_time(plans, request) or plans[0], plans, seen, cancel, watch)

    def fill_in_time(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill | None:
        """As `fill`, or None where not even a line is likely to be there within the deadline."""
        seen = Seen.of(request)
        plans = self._plans(seen.request)
        plan = _in_time(plans, request)
        return None if plan is None else self._standing(plan, plans, seen, cancel, watch)

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        """See Engine.read. The short window is read first."""
        for plan in self._plans(Seen.of(request).request):
            plan.passes.keep(plan.asked.context)
            while unread := plan.asked.context[len(plan.passes.sequence) :]:
                _check(cancel)
                plan.passes.read(unread[:SLICE])
            _check(cancel)
            plan.passes.read(plan.asked.lead)  # so that what passes cost is known when nothing is left to be read
            plan.passes.forget(len(plan.asked.context))
        return True

    def _plans(self, request: FillRequest) -> list[Plan]:
        """One for each window that sees more than the one before."""
        takes(request, *DRAWN)
        plans: list[Plan] = []
        for passes in self._windows:
            shape = passes.shape
            asked = prompt(
                request,
                self._tokenizer,
                shape.context,
                shape.marks_empty_rest,
                shape.sees_snippets,
                shape.rest_first,
            )
            if not plans or len(asked.context) > len(plans[-1].asked.context):
                unread = passes.missing(asked.context) + len(asked.lead)
                seconds = passes.pace.seconds(unread) + (statistics.median(self._lines) - 1) * passes.pace.seconds(ROWS)
                plans.append(Plan(passes, asked, seconds))
        return plans

    def _standing(
        self, plan: Plan, plans: list[Plan], seen: Seen, cancel: threading.Event, watch: Watch | None
    ) -> Fill:
        """The fill; where it cannot stand in its place, or a name is wanted, the best of a few that begin otherwise.
        Who watches has seen it by then, and who draws gets what is drawn.
        """
        request, started = seen.request, time.perf_counter()
        fills = [self._filled(plan, plans, request, cancel, seen.watched(watch))]
        verdicts = [verdict(request, fills[0])]
        others = iter(()) if watch or request.sampling.temperature else beginnings(request)
        sure = verdicts[0] == FITS
        while not sure and len(fills) <= TRIES:
            left = None if request.deadline_ms is None else request.deadline_ms - 1000 * (time.perf_counter() - started)
            beginning = next(others, None) if left is None or left > 0 else None
            if beginning is None:
                break
            asked = msgspec.structs.replace(begun(request, beginning, [fill.text for fill in fills]), deadline_ms=left)
            plans = self._plans(asked)
            plan = next((each for each in plans if each.passes is plan.passes), plans[-1])
            fill = with_beginning(beginning, self._filled(plan, plans, asked, cancel, None), request)
            fills.append(fill)
            verdicts.append(verdict(request, fill) if fill.complete else CANNOT)
            sure = verdicts[-1] == FITS and (fill.confidence >= SURE or bool(beginning.strip()))
        best = max(verdicts)
        standing = [fill for fill, each in zip(fills, verdicts, strict=True) if each == best]
        chosen = fills[0] if fills[0] in standing else max(standing, key=lambda fill: fill.confidence)
        return seen.restored(msgspec.structs.replace(chosen, passes=sum(fill.passes for fill in fills)))

    def _filled(
        self, plan: Plan, plans: list[Plan], request: FillRequest, cancel: threading.Event, watch: Watch | None
    ) -> Fill:
        drawn = bool(request.sampling.temperature)
        if drawn:
            request = msgspec.structs.replace(request, trust=1.0)
        limits = Limits(request, self._tokenizer, cancel, watch)
        passes, asked = plan.passes, plan.asked
        line_end = "\n" if self._tokenizer.ended else ""
        limits.spelled = lambda tokens: self._tokenizer.decode(tokens)[len(asked.blank) :].removesuffix(line_end)
        limits.respelled_lines = asked.blank.count("\n")
        reused = passes.keep(asked.context)
        if request.deadline_ms is not None and len(self._windows) > 1:  # else, as one pass with the first draft
            while len(unread := asked.context[len(passes.sequence) :]) > SLICE and not limits.late():
                limits.check()
                passes.read(unread[:SLICE])
                limits.passed()
        reading = limits.passes
        copier = copying.Copier(request, self._tokenizer, asked.blank, self._name)
        first = self._tokenizer.first(asked.blank, request.others)
        written = draft_verify.decode(
            passes,
            Gap([*asked.context, *asked.lead], [], asked.blank),
            MASK,
            passes.shape.canvas // (1 if passes.denoises else 2),  # a line has about eight tokens
            limits,
            copier,
            lambda written: None if written else first,
            Draw(request.sampling, NEVER, first) if drawn else copying.mixed,
        )
        if request.max_lines == 1 and written.ended:
            self._lines.append(limits.passes - reading)
        fill = limits.fill(
            written,
            newline=asked.newline,
            window=len(asked.context),
            reused=reused,
        )
        pieces = [piece._replace(copied=share) for piece, share in zip(fill.pieces, copier.shares, strict=False)]
        return msgspec.structs.replace(
            fill,
            model=self._name,
            whole_window=plan is plans[-1],
            source=copier.source(len(fill.text)),
            pieces=tuple(pieces),
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


def _in_time(plans: list[Plan], request: FillRequest) -> Plan | None:
    """The one that sees most of those that keep the deadline."""
    limit = math.inf if request.deadline_ms is None else request.deadline_ms / 1000
    return next((plan for plan in reversed(plans) if plan.seconds <= limit), None)


def _check(cancel: threading.Event) -> None:
    """Raises Cancelled."""
    if cancel.is_set():
        raise Cancelled


def _passes(folder: Path, shape: ModelShape, device: torch.device | None) -> CausalPasses:
    if device is None:
        return OnnxPasses.load(folder, shape)
    from engine.backends.torch_passes import TorchPasses, read_model  # here, so that the default costs no torch

    trunk, denoiser = read_model(folder / STORED)
    return TorchPasses(trunk, shape, device, denoiser)
