"""Passes of a transformer over the KV memory of several sequences, made to cost a GPU nothing but the work itself.

* Few shapes (see `buckets`): rows of padding write to the last place of the memory, which nobody reads. A pass of each
  bucket, from embedding to the summary of its logits, is one CUDA graph.
* A block is compiled once for all layers and shapes.
* The numbers of a pass come back in one copy: the only time that the host waits.
* Whoever asks while a pass runs goes along with the next: alternatives of one request and concurrent requests whose
  passes fall in the same bucket are one batch.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import partial

import msgspec
import numpy as np
import torch
from torch import Tensor

from engine.backends import sampling
from engine.backends.buckets import Bucket, Buckets, bucket
from engine.contract import Sampling
from engine.decoding.runner import CanvasPredictions, ForwardInput
from engine.models.transformer import Transformer, visible

SUPPRESSED = 9
# numbers of a sequence besides its rows: total, begin and end of canvas, constrained row, guide, pad, suppressed tokens
EXTRA = 6 + SUPPRESSED


class SequencePass(msgspec.Struct):
    """A pass of a sequence: `tokens` at positions from `begin`; `total` positions count, the canvas is at `start`.
    `guide` is the slot that guidance leads away from.
    """

    slot: int
    tokens: list[int]
    begin: int
    total: int
    start: int
    model_input: ForwardInput
    generator: torch.Generator | None = None
    sampling: Sampling = Sampling()
    guide: int | None = None


class PassResult(msgspec.Struct):
    """`drift` is the relative change of the last layer's keys and values in the rows that are not of the canvas."""

    predictions: CanvasPredictions
    drift: float


class BatchShape(msgspec.Struct, frozen=True):
    """What passes must have in common to be one: rows, rows of the canvas, whether tokens are drawn, and guided."""

    rows: int
    canvas: int
    shaped: bool = False
    guided: bool = False


class PassGroup(msgspec.Struct, eq=False):
    """What one caller asked for together."""

    asked: list[SequencePass]
    kind: BatchShape
    answer: Future[list[PassResult]]


class BatchRunner:
    """Keys and values of `slots` sequences, each of `capacity` positions less the one for padding."""

    def __init__(
        self,
        model: Transformer,
        shift: bool,
        *,
        slots: int = 1,
        capacity: int = 1024,
        compiler: str | None = None,
    ) -> None:
        self.model, self.shift, self.slots, self.capacity = model, int(shift), slots, capacity
        self.device = model.embed.weight.device
        self._summary = sampling.summary
        if compiler is not None:
            torch.fx.experimental._config.use_duck_shape = False  # or rows as many as a width are held to be that width
            compiled = partial(torch.compile, backend=compiler, fullgraph=True, dynamic=True)
            self._summary = compiled(sampling.summary)
            for block in model.blocks:
                block.compile(backend=compiler, fullgraph=True, dynamic=True)
        self._buckets = Buckets(self.device)  # by the slot of a sequence alone (None: all), and the kind
        self._dials: dict[tuple[int | None, BatchShape], Tensor] = {}
        self._memory = model.memory(capacity, slots)
        self._allowed_host = torch.ones(slots, model.shape.vocab, dtype=torch.bool, pin_memory=self._buckets.pinned)
        self._allowed = self._allowed_host.to(self.device)
        self._constrained = [False] * slots  # whether a sequence's row of the last pass was constrained
        self._noise: dict[int, Tensor] = {}
        self._waiting: list[PassGroup] = []
        self._waiting_lock, self._pass_lock = threading.Lock(), threading.Lock()

    def predict(self, asked: list[SequencePass]) -> list[PassResult]:
        """One pass for these, of different slots, and for what other threads asked for meanwhile."""
        kind = BatchShape(
            bucket(max(len(each.tokens) for each in asked)),
            bucket(max(len(each.model_input.canvas) for each in asked)),
            any(sampling.shapes(each.sampling) for each in asked),
            any(each.guide is not None for each in asked),
        )
        group = PassGroup(asked, kind, Future())
        with self._waiting_lock:
            self._waiting.append(group)
        with self._pass_lock:
            while not group.answer.done():
                self._serve()
        return group.answer.result()

    @torch.inference_mode()
    def copy(self, source: int, target: int) -> None:
        """The keys and values of one slot to another."""
        with self._pass_lock:
            self._copied(source, target)

    def _copied(self, source: int, target: int) -> None:
        self._memory[:, :, target] = self._memory[:, :, source]

    def _serve(self) -> None:
        """Pass what waits longest, and all that fits its bucket."""
        with self._waiting_lock:
            kind = self._waiting[0].kind
            batch = [each for each in self._waiting if each.kind == kind]
            self._waiting = [each for each in self._waiting if each not in batch]
        try:
            said = iter(self._passed([each for group in batch for each in group.asked], kind))
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            for group in batch:
                group.answer.set_exception(error)
        else:
            for group in batch:
                group.answer.set_result([next(said) for _ in group.asked])

    @torch.inference_mode()
    def _passed(self, asked: list[SequencePass], kind: BatchShape) -> list[PassResult]:
        alone = asked[0].slot if len(asked) == 1 else None
        place = self._bucket(alone, kind)
        numbers = place.host.numpy()
        numbers[:] = self._idle(kind)
        for each in asked:
            index = 0 if alone is not None else each.slot
            _write(numbers[index], each, kind)
            self._constrain(each)
            if kind.shaped or kind.guided:
                self._dials[alone, kind][index] = torch.tensor(sampling.dials(each.sampling))
            if kind.shaped:
                self._noise[kind.canvas][each.slot].uniform_(generator=each.generator)
        found = place().cpu().numpy()  # the host waits here, once a pass
        return [_result(found[:, 0 if alone is not None else each.slot], each) for each in asked]

    def _idle(self, kind: BatchShape) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The numbers of a sequence that passes nothing but padding."""
        rows = kind.rows
        numbers = np.zeros(2 * rows + kind.canvas + EXTRA, np.int64)
        numbers[rows : 2 * rows] = self.capacity - 1
        numbers[2 * rows + kind.canvas] = 1  # a softmax over nothing is no number
        return numbers

    def _constrain(self, asked: SequencePass) -> None:
        """Which tokens the constrained row may be; nothing is copied where there was none and is none."""
        constrained = asked.model_input.allowed is not None
        if not constrained and not self._constrained[asked.slot]:
            return
        allowed = self._allowed_host[asked.slot]
        allowed.fill_(not constrained)
        if asked.model_input.allowed is not None:
            allowed[asked.model_input.allowed[1]] = True
        self._allowed[asked.slot].copy_(allowed, non_blocking=True)
        self._constrained[asked.slot] = constrained

    def _bucket(self, alone: int | None, kind: BatchShape) -> Bucket:
        """Made when it is first needed."""
        if (alone, kind) not in self._buckets:
            count = self.slots if alone is None else 1
            dials = torch.tensor(sampling.dials(Sampling()), device=self.device).repeat(count, 1)
            self._dials[alone, kind] = dials
            if kind.shaped and kind.canvas not in self._noise:
                size = (self.slots, kind.canvas, self.model.shape.vocab)
                self._noise[kind.canvas] = torch.zeros(size, device=self.device)
            idle = np.tile(self._idle(kind), (count, 1))
            self._buckets.of((alone, kind), idle, partial(self._pass, alone, kind, dials))
        return self._buckets[alone, kind]

    def warm_up(self, slot: int | None, rows: int, canvas: int) -> None:
        """Compile and capture the pass of a bucket, of one slot or (None) all, before it is asked for."""
        with self._pass_lock, torch.inference_mode():
            self._bucket(slot, BatchShape(rows, canvas))

    def _pass(self, alone: int | None, kind: BatchShape, dials: Tensor, numbers: Tensor) -> Tensor:
        """What is said of each row of the canvas, and the drift: (SAID + 1, sequences, canvas)."""
        rows, canvas = kind.rows, kind.canvas
        which = slice(None) if alone is None else slice(alone, alone + 1)
        noise = self._noise[canvas][which] if kind.shaped else None
        tokens, positions, current, extra = numbers.split((rows, rows, canvas, EXTRA), dim=1)
        total, start, stop, constrained, guide, pad = extra[:, :-SUPPRESSED].split(1, dim=1)
        wanted = start - self.shift - positions[:, :1] + torch.arange(canvas, device=self.device)
        seen = visible(positions, total, self.capacity, self.model.shape.block, pad=pad)
        memory = self._memory[:, :, which]
        sequences = torch.arange(len(numbers), device=self.device)[:, None]
        was = memory[-1][:, sequences, :, positions]
        logits = self.model(tokens, positions, memory, seen, wanted.clamp(0, rows - 1))
        if kind.guided:
            logits = sampling.guided(logits, guide, dials)
        shape = dials if kind.shaped else None
        said = self._summary(logits, current, extra[:, -SUPPRESSED:], constrained, self._allowed[which], shape, noise)
        beside = (positions < total) & ((positions < start) | (positions >= stop))
        now = memory[-1][:, sequences, :, positions] * beside[..., None, None, None]
        change = now - was * beside[..., None, None, None]
        drift = change.float().flatten(1).norm(dim=1) / now.float().flatten(1).norm(dim=1).clamp_min(1e-9)
        return torch.cat((said, drift[None, :, None].expand(1, -1, canvas)))


def _write(numbers: np.ndarray[tuple[int], np.dtype[np.int64]], asked: SequencePass, kind: BatchShape) -> None:
    model_input, rows, passed = asked.model_input, kind.rows, len(asked.tokens)
    numbers[:passed] = asked.tokens
    numbers[rows : rows + passed] = np.arange(asked.begin, asked.begin + passed)
    numbers[2 * rows : 2 * rows + len(model_input.canvas)] = model_input.canvas
    constrained = 0 if model_input.allowed is None else model_input.allowed[0]
    suppressed = (model_input.suppressed * SUPPRESSED)[:SUPPRESSED]
    guide = asked.slot if asked.guide is None else asked.guide
    stop = asked.start + len(model_input.canvas)
    numbers[-EXTRA:] = [asked.total, asked.start, stop, constrained, guide, model_input.pad, *suppressed]


def _result(found: np.ndarray[tuple[int, int], np.dtype[np.float32]], asked: SequencePass) -> PassResult:
    tokens, chosen, entropies, current_chances, shaped, margins, agrees, drift = found[
        :, : len(asked.model_input.canvas)
    ].tolist()
    current = asked.model_input.canvas
    predictions = CanvasPredictions(
        [int(each) for each in tokens], chosen, entropies, current_chances, shaped, margins, bool(agrees[0]), current
    )
    return PassResult(predictions, drift[0])
