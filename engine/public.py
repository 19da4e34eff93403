"""Public checkpoints in torch, on a GPU or a CPU, for every family of the registry.

From text to text: this module cuts a gap into tokens, lets `decoding` unmask a canvas, and makes a text of it.
`Sequence` knows what is cached of a text, `BatchRunner` runs the model. Several threads may fill at once: each has a
sequence of its own, and their passes share the device.
"""

from __future__ import annotations

import queue
import threading
import time
from functools import partial

import msgspec
import torch
from tqdm import tqdm

from engine.backends.batch_runner import BatchRunner
from engine.backends.buckets import SIZES, bucket
from engine.backends.sequence import Sequence
from engine.contract import Backend, EngineError, Fill, FillRequest, Sampling, Watch, takes
from engine.decoding import draft_verify, length, presets, unmasking
from engine.decoding.canvas import Canvas
from engine.decoding.denoise import Task, in_blocks, unmask
from engine.decoding.limits import DecodedTokens, Limits
from engine.decoding.runner import Gap
from engine.decoding.unmasking import Policy, Rule
from engine.models import checkpoint, diffusion_gemma
from engine.models.family import Config
from engine.models.transformer import Shape
from engine.models.vocabulary import CHARACTERS, Vocabulary
from engine.prompt import after_cursor
from engine.retrieval import copying
from engine.retrieval.copy_weights import PUBLIC

CANVAS = 64  # rows that a canvas of learned length begins with; for one line half of them
SUB_BLOCK = 8  # rows of a long block that are unmasked together
USUAL = Sampling(cache="exact")
WARM_UP = FillRequest(prefix="def main(", suffix=")\n", max_lines=1, max_tokens=8)


def load(name: str, device: str = "auto", family: str | None = None, sampling: Sampling = Sampling()) -> Backend:
    """A public checkpoint from a folder or hub id, warmed up; `family` where its config.json does not tell, `sampling`
    for requests that say nothing. Raises EngineError with what to do.
    """
    devices = choose_devices(device)
    config = checkpoint.read_config(name)
    backend: Backend
    if config.get("model_type") == diffusion_gemma.MODEL_TYPE:
        if len(devices) > 1:
            raise EngineError("DiffusionGemma runs on one device: give one by --device")
        takes(msgspec.structs.replace(WARM_UP, sampling=sampling))
        backend = diffusion_gemma.DiffusionGemma.load(name, config, devices[0], dtype_on(devices[0]))
    else:
        backend = make_backend(*load_runner(name, config, devices, family), sampling)
    backend.fill(WARM_UP, threading.Event())
    return backend


def load_runner(
    name: str, config: Config, devices: list[torch.device], family: str | None
) -> tuple[checkpoint.Checkpoint, BatchRunner]:
    """A checkpoint and its passes, on a device or shared among several."""
    if len(devices) > 1:
        from engine.backends import tensor_parallel  # here, for torch's distributed tensors cost a second

        return tensor_parallel.load(name, config, devices, dtype_on(devices[0]), family)
    read = checkpoint.load(name, config, devices[0], dtype_on(devices[0]), family)
    return read, make_runner(read)


def dtype_on(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def make_runner(read: checkpoint.Checkpoint) -> BatchRunner:
    """The passes of a model; on a GPU, those that fills take are captured, with progress."""
    memory, device = read.memory, read.model.embed.weight.device
    runner = BatchRunner(
        read.model,
        read.plan.infill.shift,
        slots=memory.slots,
        capacity=memory.capacity,
        compiler=compiler(device),
    )
    if device.type == "cuda":
        for each in tqdm(warm_up_shapes(read), desc="capturing passes", unit="pass", disable=None, leave=False):
            runner.warm_up(*each)
    return runner


def warm_up_shapes(read: checkpoint.Checkpoint) -> list[tuple[int | None, int, int]]:
    """Buckets of the passes that most fills take: the slot (None: several), rows, rows of the canvas."""
    block, probed = read.plan.shape.block, read.plan.infill.expand is None
    canvases: list[tuple[int | None, int]] = [(0, size) for size in (CANVAS // 2, CANVAS)]
    if block:
        canvases = [(0, block)]
    elif probed:
        canvases = [(None if read.memory.slots > 1 else 0, CANVAS), *((0, size) for size in length.SIZES)]
    sizes = {(slot, bucket(size)) for slot, size in canvases}
    most = bucket(min(read.memory.window + CANVAS, read.memory.capacity))
    return [(slot, rows, size) for slot, size in sorted(sizes, key=str) for rows in SIZES if size <= rows <= most]


def make_backend(read: checkpoint.Checkpoint, runner: BatchRunner, sampling: Sampling = Sampling()) -> Public:
    """`sampling` goes before what the checkpoint says. Raises Refusal where an option of it has no effect."""
    spare: queue.LifoQueue[Sequence] = queue.LifoQueue()
    for slot in reversed(range(runner.slots)):
        spare.put(Sequence(runner, slot, spare))
    usual = sampling.over(read.sampling.over(USUAL))
    backend = Public(spare, read.model.shape, read.vocabulary, read.memory.window, runner.capacity, usual)
    backend.require(sampling, drafts=True)
    return backend


def compiler(device: torch.device) -> str | None:
    """What compiles blocks: needs Triton; without it, kernels are captured as they are."""
    from torch.utils._triton import has_triton

    return "inductor" if device.type == "cuda" and has_triton() else None


class Public(Backend):
    """`spare` are the sequences that no request uses, `usual` what counts where a request says nothing."""

    def __init__(
        self,
        spare: queue.LifoQueue[Sequence],
        shape: Shape,
        vocabulary: Vocabulary,
        window: int,
        capacity: int,
        usual: Sampling = USUAL,
    ) -> None:
        self._slots, self._usual = spare.qsize(), usual
        self._spare, self._shape, self.vocabulary, self._infill = spare, shape, vocabulary, vocabulary.infill
        self._window, self._room = window, min(capacity - 1, shape.context)
        self._first_seconds = self._pass_seconds = 0.0  # of the last fill: its first pass, each later one

    @property
    def reach(self) -> int:
        """See Engine.reach."""
        return max(copying.REACH, self._window * CHARACTERS)

    @property
    def parallel(self) -> int:
        """See Engine.parallel."""
        return self._slots

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        """See Engine.fill. Several threads may call it at once. Raises Refusal for options that have no effect."""
        drawn = bool(request.sampling.temperature)  # and a copy is not
        usual = request.sampling.over(self._usual)
        self.require(request.sampling, request.drafts)
        request = msgspec.structs.replace(request, sampling=usual, copies=request.copies and not drawn)
        sequence = self._spare.get()
        try:
            sequence.begin(request.sampling)
            return self._filled(sequence, request, cancel, watch)
        except torch.OutOfMemoryError:
            raise EngineError("the device ran out of memory; close other programs or choose a smaller model") from None
        finally:
            sequence.end()
            self._spare.put(sequence)

    def require(self, sampling: Sampling, drafts: bool) -> None:
        """Raises Refusal where one of these options has no effect, beside the usual ones."""
        alg = sampling.over(self._usual).alg
        unmasking.require(
            sampling, USUAL, unmasking.Case(alg, drafts, self._shape.block, self._infill.expand is not None)
        )

    def _filled(self, sequence: Sequence, request: FillRequest, cancel: threading.Event, watch: Watch | None) -> Fill:
        most = min(request.max_tokens, self._room // 2)
        canvas = max(CANVAS, self._shape.block)
        gap = self.vocabulary.gap(request, max(8, min(self._window, self._room - most - canvas)))
        respelled = len(self.vocabulary.encode(gap.taken))
        window = len(gap.before) + len(gap.after)
        spelling = GapTokenizer(self.vocabulary, gap)
        limits = Limits(request, spelling, cancel, watch)
        limits.spelled = spelling.added
        limits.respelled_lines = gap.taken.count("\n")
        known = self.vocabulary.after(gap, request.others)
        copier = copying.Copier(request, spelling, gap.taken, PUBLIC)
        limits.tokens = most = min(most + respelled, self._room - window - self._shape.block)
        task = Task(
            gap,
            self.vocabulary.mask,
            partial(self._settle, limits),
            partial(_suppressed, self._never(request.sampling), self._infill.expand, most),
            partial(_allowed, self.vocabulary, gap.spelled, known),
            copier,
        )
        if self._infill.causal:
            written = self._verified(sequence, task, limits)
        else:
            written = _written(self._decode(sequence, task, limits), limits)
        if limits.passes > 1:
            self._first_seconds = limits.first_pass
            self._pass_seconds = (time.perf_counter() - limits.started - limits.first_pass) / (limits.passes - 1)
        fill = limits.fill(
            written,
            newline=request.max_lines is not None and after_cursor(request.prefix, request.suffix)[1],
            window=window,
            reused=window - min(window, sequence.encoded or 0),
            respelled=respelled,
        )
        return msgspec.structs.replace(fill, source=copier.source(len(fill.text)))

    def _verified(self, sequence: Sequence, task: Task, limits: Limits) -> DecodedTokens:
        """What a causal model writes; there are no canvases."""
        canvas = Canvas.masked(task.mask, 1)

        def allowed_after(written: list[int]) -> list[int] | None:
            found = task.allowed(canvas, written)
            return None if found is None else found[1]

        assert task.copier is not None
        suppressed = task.suppressed(canvas)
        return draft_verify.decode(
            sequence, task.gap, task.mask, limits, task.copier, allowed_after, suppressed=suppressed
        )

    def _decode(self, sequence: Sequence, task: Task, limits: Limits) -> Canvas:
        block, request, expands = self._shape.block, limits.request, self._infill.expand is not None
        passes = self._passes(request) if request.drafts else limits.tokens
        policy = Policy(
            rule=_rule(request, unmasking.above() if block else unmasking.within()),
            passes=passes,
            span=SUB_BLOCK if block > SUB_BLOCK else 0,
            lead=self._infill.lead,
        )
        if request.drafts:
            policy = unmasking.chosen(request.sampling, policy, self.vocabulary.ends, one_each=expands)
        if block:
            pad = -len(task.gap.before) % block if request.sampling.left_pad else 0
            task = msgspec.structs.replace(task, gap=msgspec.structs.replace(task.gap, pad=pad))
            return in_blocks(sequence, task, block, policy, limits)
        size = CANVAS // 2 if request.max_lines == 1 else CANVAS
        canvas = Canvas.masked(task.mask, min(size, limits.tokens) if expands else length.probe(sequence, task, limits))
        unmask(sequence, task, canvas, policy, limits)
        canvas.ended = canvas.written() == len(canvas.tokens)
        return canvas

    def _never(self, sampling: Sampling) -> list[int]:
        """The tokens that no row may be: a mask unmasks nothing. The mask comes first."""
        suppressed = sampling.suppress_tokens or ()
        outside = [token for token in suppressed if token >= self._shape.vocab]
        if outside:
            raise EngineError(f"suppress_tokens has {outside[0]}, and the model's tokens go to {self._shape.vocab - 1}")
        ends = [self.vocabulary.eos] if sampling.logits_eos_inf else []
        return [self.vocabulary.mask, *suppressed, *(token for token in ends if token is not None)]

    def _passes(self, request: FillRequest) -> int:
        if request.steps != presets.AUTO:
            return request.steps
        return presets.affordable(request.deadline_ms, self._first_seconds, self._pass_seconds)

    def _settle(self, limits: Limits, canvas: Canvas) -> None:
        """Expand, delete, and cut where the model, the line limit or doubt ends the fill."""
        ends = self.vocabulary.ends
        if self._infill.expand is not None:
            broadcast = limits.request.sampling.pad_eos_to_right is not False
            length.resize(canvas, self._infill.expand, ends, limits.tokens, broadcast)
        else:
            end = next((row for row, token in enumerate(canvas.tokens) if token in ends), None)
            if end is not None:
                canvas.end, canvas.ended = canvas.probabilities[end], True
                canvas.cut(end)
        _written(canvas, limits)


class GapTokenizer:
    """A `decoding.limits.Spelling` of what stands in a gap: some tokenizers spell the beginning of a text otherwise."""

    ended = False

    def __init__(self, vocabulary: Vocabulary, gap: Gap) -> None:
        self._vocabulary, self._gap = vocabulary, gap
        self.ends = vocabulary.ends
        self.end = vocabulary.eos

    def encode(self, text: str) -> list[int]:
        start, whole = self._vocabulary.encode("\n"), self._vocabulary.encode("\n" + text)
        return whole[len(start) :] if whole[: len(start)] == start else self._vocabulary.encode(text)

    def decode(self, tokens: list[int]) -> str:
        return self._vocabulary.continued(self._gap.before, tokens)

    def added(self, tokens: list[int]) -> str:
        """The text of tokens without that which was before the cursor already."""
        text = self.decode(tokens)
        return text[len(self._gap.taken) :] if text.startswith(self._gap.taken) else ""


def _written(canvas: Canvas, limits: Limits) -> DecodedTokens:
    """What is unmasked before the first open row, up to where a limit ends it; the canvas ends there too."""
    written, count = DecodedTokens(), canvas.written()
    for row in range(count):
        if not limits.take(written, canvas.tokens[row], canvas.probabilities[row]):
            canvas.cut(row + 1)
            canvas.ended = True
            return written
    if canvas.ended and count == len(canvas.tokens):
        written.ended = True
        written.probabilities.append(canvas.end)
    return written


def _rule(request: FillRequest, usual: Rule) -> Rule:
    """The family's, unless a token a pass or a trust of its own is asked for."""
    if not request.drafts:
        return unmasking.left_to_right
    return usual if request.trust == 1 else unmasking.above(request.trust)


def choose_devices(names: str) -> list[torch.device]:
    """One, or several that share a model. Raises EngineError where this machine has not all of them."""
    devices = [choose_device(name) for name in names.split(",")]
    if len({device.type for device in devices}) > 1:
        raise EngineError(
            "no part of a model is offloaded to the CPU or to disk, where each pass would wait for it: give GPUs only, "
            "such as cuda:0,cuda:1, or cpu alone, or choose a smaller or quantised model"
        )
    if devices[0].type != "cpu" and len(set(devices)) < len(devices):
        raise EngineError(f"{names} names a card twice: give each once")
    return devices


def choose_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one. Raises EngineError for a device that this machine has not."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if present["cuda"] else "mps" if present["mps"] else "cpu"
    kind, _, number = name.partition(":")
    if kind not in present:
        raise EngineError(f"no device {name!r}: give auto, {', '.join(present)}")
    if not present[kind]:
        raise EngineError(
            f"torch finds no {kind} device on this machine; give --device cpu, or install torch for {kind}"
        )
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise EngineError(f"no device {name!r}: this machine has {torch.cuda.device_count()}, counted from cuda:0")
    return torch.device(name)


def _suppressed(never: list[int], expand: int | None, most: int, canvas: Canvas) -> list[int]:
    """A canvas of full length cannot expand."""
    return never if expand is None or length.can_expand(canvas, len(canvas.tokens), most) else [*never, expand]


def _allowed(
    vocabulary: Vocabulary, spelled: str, known: tuple[str, ...], canvas: Canvas, done: list[int] | None = None
) -> tuple[int, list[int]] | None:
    """The row that must go on spelling what was taken back before the cursor, or begin otherwise than others do."""
    allowed = vocabulary.boundary(spelled, canvas.tokens, done, known)
    canvas.probabilities += [1.0] * (len(canvas.tokens) - len(canvas.probabilities))
    return allowed
