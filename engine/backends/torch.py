"""Public checkpoints in torch, on a GPU or a CPU: `engine.contract.Backend` for every family of the registry.

Keys and values are kept between passes and requests.

* Block-causal models: a prefix of whole blocks never changes, so what a request has in common with the one before it
  is exact, and only the rest is passed.
* Bidirectional models: every row sees the canvas, so the keys and values of prefix and suffix go stale while it is
  revealed (dual cache, Fast-dLLM). A pass of the whole window refreshes them. How far they had drifted is measured
  then, and decides how many passes the next ones serve.
"""

from __future__ import annotations

import math
import threading
import time
from functools import partial

import torch
from torch import Tensor

from engine.contract import Backend, EngineError, Fill, FillRequest
from engine.decoding import blocks, confidence, dreamon, entropy, length, sampling
from engine.decoding.canvas import Canvas, Guess, Limits, Question
from engine.decoding.denoise import Policy, Task, reveal
from engine.decoding.sampling import Sampling
from engine.models import checkpoint, diffusion_gemma
from engine.models.transformer import Transformer
from engine.models.vocabulary import Gap, Vocabulary

WINDOW = 2048  # tokens of context
CANVAS = 64  # rows that a canvas of learned length begins with; for one line half of them
PASSES = {"quality": 30, "balanced": 12, "fast": 4}  # see Policy
SUB_BLOCK = 8  # rows of a long block that are revealed together
DRIFT = 0.05  # relative change of the last layer's keys and values at which stale ones are refreshed sooner
MOST_STALE = 8  # passes
GREEDY = Sampling()
WARM_UP = FillRequest(prefix="def main(", suffix=")\n", max_lines=1, max_tokens=8)


def load(name: str, device: str = "auto", picks: Sampling = GREEDY) -> Backend:
    """A public checkpoint from a folder or hub id, warmed up. Raises EngineError with what to do."""
    where = choose_device(device)
    dtype = torch.float32 if where.type == "cpu" else torch.bfloat16
    config = checkpoint.read_config(name)
    backend: Backend
    if config.get("model_type") == diffusion_gemma.MODEL_TYPE:
        backend = diffusion_gemma.DiffusionGemma.load(name, config, where, dtype)
    else:
        read = checkpoint.load(name, config, where, dtype)
        vocabulary = Vocabulary.load(checkpoint.tokenizer_folder(read), read.plan.infill)
        backend = TorchBackend(TorchModel(read.model, read.plan.infill.shift, picks), vocabulary)
    backend.fill(WARM_UP, threading.Event())
    return backend


class TorchModel:
    """A transformer and its memory; a `Denoiser`. A refresh serves at most `most_stale` passes more; 0 is exact."""

    def __init__(
        self, model: Transformer, shift: bool, picks: Sampling, seed: int = 0, most_stale: int = MOST_STALE
    ) -> None:
        self.shape, self.sampling = model.shape, picks
        self._model, self._shift = model, int(shift)
        self._device = model.embed.weight.device
        self._generator, self._seed = torch.Generator(self._device), seed
        self._memory = model.memory(0)
        self._held: list[int] = []  # tokens whose keys and values are in memory
        self._most_stale = most_stale
        self._stale, self._serves = 0, min(1, most_stale)
        self.drift = 0.0  # at the last refresh
        self.encoded: int | None = None  # rows of context in the first pass since `begin`

    def begin(self) -> None:
        """A new request: equal requests get equal fills, so what is held but not exact is dropped."""
        self.encoded = None
        self._generator.manual_seed(self._seed)
        if not self.shape.block:
            self._held, self._stale, self._serves = [], 0, min(1, self._most_stale)

    @torch.inference_mode()
    def guess(self, question: Question) -> Guess:
        """One forward pass."""
        tokens = [*question.before, *question.canvas, *question.after]
        if len(tokens) > self._memory.shape[4]:
            self._memory, self._held = self._model.memory(-(-len(tokens) // 256) * 256), []
        start = len(question.before)
        rows = range(start, start + len(question.canvas))
        logits = self._blocks(tokens, rows) if self.shape.block else self._everything(tokens, rows)
        return sampling.guess(logits, question, self.sampling, self._generator)

    def _blocks(self, tokens: list[int], rows: range) -> Tensor:
        """Pass what follows the whole blocks that are held already."""
        kept = _common(self._held, tokens) // self.shape.block * self.shape.block
        return self._pass(tokens, min(kept, rows.start - self._shift), len(tokens), rows)

    def _everything(self, tokens: list[int], rows: range) -> Tensor:
        """Pass the canvas over what is held of its neighbours, or the whole window where that is stale."""
        same = len(self._held) == len(tokens) and _common(self._held, tokens, rows) == len(tokens)
        if same and self._stale < self._serves:
            self._stale += 1
            return self._pass(tokens, rows.start - self._shift, rows.stop, rows)
        before = self._memory[-1].clone() if same else None
        logits = self._pass(tokens, 0, len(tokens), rows)
        self._refreshed(before, rows, len(tokens))
        return logits

    def _refreshed(self, before: Tensor | None, rows: range, total: int) -> None:
        """Measure how far the neighbours' keys and values had drifted; let them serve longer or shorter."""
        self._stale = 0
        if before is not None:
            new = self._memory[-1, ..., :total, :]
            change = new - before[..., :total, :]
            change[..., rows.start : rows.stop, :] = 0
            self.drift = float(change.norm() / new.norm())
            longer = min(max(1, 2 * self._serves), self._most_stale)
            self._serves = self._serves // 2 if self.drift > DRIFT else longer

    def _pass(self, tokens: list[int], begin: int, end: int, rows: range) -> Tensor:
        """Logits (rows, vocab) from a pass of the tokens from `begin` to `end`, over all that are held."""
        ids = torch.tensor([tokens[begin:end]], device=self._device)
        wanted = slice(rows.start - self._shift - begin, rows.stop - self._shift - begin)
        if self.encoded is None:
            self.encoded = end - begin - len(rows)
        self._held = self._held[:begin]  # should the pass fail, the rest is lost
        logits: Tensor = self._model(ids, self._memory, begin, len(tokens), wanted=wanted)[0]
        self._held = tokens
        return logits


class TorchBackend:
    """A model with its vocabulary: from a gap in a text to a gap in tokens, a canvas, and a text again."""

    def __init__(self, model: TorchModel, vocabulary: Vocabulary) -> None:
        self._model, self._vocabulary, self._infill = model, vocabulary, vocabulary.infill
        self._pass_seconds = 0.0  # of the last fill

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill:
        """See Engine.fill."""
        self._model.begin()
        room = self._model.shape.context - 2 * request.max_tokens - 32
        gap = self._vocabulary.gap(request, max(16, min(WINDOW, room)))
        respelled = len(self._vocabulary.encode(gap.taken))
        most = request.max_tokens + respelled
        limits = Limits(most, request.deadline_ms, cancel)
        task = Task(
            gap,
            self._vocabulary.mask,
            partial(self._settle, request, gap, most),
            partial(_banned, self._vocabulary.mask, self._infill.expand, most),
            partial(_forced, self._vocabulary, gap.spelled),
        )
        try:
            canvas = self._decode(task, request, limits)
        except torch.OutOfMemoryError:
            raise EngineError("the device ran out of memory; close other programs or choose a smaller model") from None
        tokens = canvas.tokens[: canvas.written()]
        seconds = time.perf_counter() - limits.started
        self._pass_seconds = seconds / max(1, limits.passes)
        window = len(gap.before) + len(gap.after)
        encoded = min(window, self._model.encoded or 0)
        return Fill(
            text=self._text(request, gap, tokens),
            confidence=_mean(canvas.probabilities[: len(tokens)]),
            passes=limits.passes,
            tokens=max(0, len(tokens) - respelled),
            encoded=encoded,
            reused=window - encoded,
            encode_ms=limits.first_pass * 1000,
            decode_ms=(seconds - limits.first_pass) * 1000,
            complete=canvas.ended,
        )

    def _decode(self, task: Task, request: FillRequest, limits: Limits) -> Canvas:
        passes = self._passes(request)
        block = self._model.shape.block
        if block:
            span = SUB_BLOCK if block > SUB_BLOCK else 0
            return blocks.fill(
                self._model, task, block, Policy(rule=confidence.above(), passes=passes, span=span), limits
            )
        if self._infill.expand is None:
            size = length.probe(self._model, task, limits)
        else:
            size = min(CANVAS // 2 if request.max_lines == 1 else CANVAS, limits.tokens)
        canvas = Canvas.masked(task.mask, size)
        reveal(self._model, task, canvas, Policy(rule=entropy.within(), passes=passes), limits)
        canvas.ended = canvas.written() == len(canvas.tokens)
        return canvas

    def _passes(self, request: FillRequest) -> int:
        """As asked; otherwise as many as the deadline allows at the speed of the last fill."""
        if request.steps > 1:
            return request.steps
        if request.deadline_ms is None or not self._pass_seconds:
            return PASSES["quality"]
        affordable = request.deadline_ms / 1000 / self._pass_seconds
        return next((passes for passes in PASSES.values() if passes <= affordable), PASSES["fast"])

    def _settle(self, request: FillRequest, gap: Gap, most: int, canvas: Canvas) -> None:
        """Expand, delete, and cut where the model or the line limit ends the fill."""
        ends = self._vocabulary.ends
        if self._infill.expand is not None:
            dreamon.settle(canvas, self._infill.expand, ends, most)
        else:
            end = next((row for row, token in enumerate(canvas.tokens) if token in ends), None)
            if end is not None:
                canvas.cut(end)
                canvas.ended = True
        if request.max_lines is not None:
            self._cut_lines(request, gap, canvas)

    def _cut_lines(self, request: FillRequest, gap: Gap, canvas: Canvas) -> None:
        written = canvas.tokens[: canvas.written()]
        most = request.max_lines or 1
        if self._added(gap, written).count("\n") < most:
            return
        rows = next(n for n in range(1, len(written) + 1) if self._added(gap, written[:n]).count("\n") >= most)
        canvas.cut(rows)
        canvas.ended = True

    def _added(self, gap: Gap, tokens: list[int]) -> str:
        """The text of tokens without that which was before the cursor already."""
        text = self._vocabulary.continued(gap.before, tokens)
        return text[len(gap.taken) :] if text.startswith(gap.taken) else ""

    def _text(self, request: FillRequest, gap: Gap, tokens: list[int]) -> str:
        text = self._added(gap, tokens).split("\ufffd", 1)[0]  # a character cut short by a limit
        if request.max_lines is not None:
            lines = text.split("\n")
            text = "\n".join(lines[: request.max_lines])
            if text and not text.endswith("\n") and _before_a_line(request):
                text += "\n"
        return text.replace("\n", "\r\n") if "\r\n" in request.prefix + request.suffix else text


def choose_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one. Raises EngineError for a device that this machine has not."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if present["cuda"] else "mps" if present["mps"] else "cpu"
    if name not in present:
        raise EngineError(f"no device {name!r}: give auto, {', '.join(present)}")
    if not present[name]:
        raise EngineError(
            f"torch finds no {name} device on this machine; give --device cpu, or install torch for {name}"
        )
    return torch.device(name)


def _before_a_line(request: FillRequest) -> bool:
    """At the start of a line that has text, what is missing is a line of its own."""
    rest = request.suffix.replace("\r\n", "\n").partition("\n")[0]
    return bool(rest.strip()) and (not request.prefix or request.prefix.endswith("\n"))


def _banned(mask: int, expand: int | None, most: int, canvas: Canvas) -> list[int]:
    """A mask reveals nothing; a canvas of full length cannot expand."""
    return [mask] if expand is None or dreamon.can_expand(canvas, len(canvas.tokens), most) else [mask, expand]


def _forced(
    vocabulary: Vocabulary, spelled: str, canvas: Canvas, done: list[int] | None = None
) -> tuple[int, list[int]] | None:
    """The row that must go on spelling what was taken back before the cursor."""
    row = vocabulary.boundary(spelled, canvas.tokens, done)
    canvas.probabilities += [1.0] * (len(canvas.tokens) - len(canvas.probabilities))
    return row


def _common(held: list[int], tokens: list[int], besides: range = range(0)) -> int:
    """Length of the common beginning, whatever stands at the positions `besides`."""
    for at, (mine, theirs) in enumerate(zip(held, tokens, strict=False)):
        if mine != theirs and at not in besides:
            return at
    return min(len(held), len(tokens))


def _mean(probabilities: list[float]) -> float:
    if not probabilities:
        return 0.0
    return math.exp(sum(math.log(max(p, 1e-9)) for p in probabilities) / len(probabilities))
