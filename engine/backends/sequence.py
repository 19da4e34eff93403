"""One text at a time in the memory of keys and values: which of its rows a pass must run, and which it may reuse.

* Block-causal models: a prefix of whole blocks never changes, so what a request has in common with the one before it
  is exact, and only the rest is passed (prefix cache).
* Bidirectional models: every row sees the canvas, so the keys and values of prefix and suffix go stale while it is
  unmasked (dual cache, Fast-dLLM, arXiv 2505.22618). A pass of the whole window refreshes them. How far they had
  drifted is measured then, and decides how many passes the next ones serve.
"""

from __future__ import annotations

import queue

import msgspec
import torch

from engine.backends.batch_runner import BatchRunner, PassResult, SequencePass
from engine.backends.kv_cache import common
from engine.contract import EngineError, Sampling
from engine.decoding.runner import CanvasPredictions, ForwardInput

DRIFT = 0.05  # relative change of the last layer's keys and values at which stale ones are refreshed sooner
MOST_STALE = 8  # passes


class Sequence:
    """A slot of the memory, and a ModelRunner. A refresh serves at most `most_stale` passes more; 0 is exact.

    `spare` holds the slots that nobody uses; alternatives borrow of them until `end`.
    """

    def __init__(
        self,
        runner: BatchRunner,
        slot: int = 0,
        spare: queue.LifoQueue[Sequence] | None = None,
        most_stale: int = MOST_STALE,
    ) -> None:
        self.slot, self.cached, self.drift = slot, list[int](), 0.0
        self.encoded: int | None = None  # rows of context in the first pass since `begin`
        self._runner, self._spare = runner, spare or queue.LifoQueue()
        self._most_stale = most_stale
        self._stale, self._serves, self._comparable = 0, min(1, most_stale), False
        self._pad = 0  # of the blocks of what is held
        self._sampling, self._generator = Sampling(), torch.Generator(runner.device)
        self._borrowed: list[Sequence] = []

    @property
    def capacity(self) -> int:
        return self._runner.capacity - 1  # the last place is for padding

    def begin(self, sampling: Sampling | None = None) -> None:
        """A new request: equal requests get equal fills, so what is held but not exact is dropped."""
        self.encoded = None
        if sampling is not None:
            self._sampling, self._most_stale = sampling, 0 if sampling.cache == "exact" else MOST_STALE
        self._generator.manual_seed(self._sampling.seed or 0)
        if not self._runner.model.shape.block:
            self.cached, self._stale, self._serves = [], 0, min(1, self._most_stale)

    def end(self) -> None:
        """Give back what was borrowed."""
        while self._borrowed:
            self._spare.put(self._borrowed.pop())

    def predict(self, inputs: list[ForwardInput]) -> list[CanvasPredictions]:
        """One pass, or as few as there are slots for."""
        if self._sampling.cfg_scale:
            return [self._guided(model_input) for model_input in inputs]
        predicted: list[CanvasPredictions] = []
        while len(predicted) < len(inputs):
            users = [self, *self._others(len(inputs) - len(predicted) - 1)]
            here = inputs[len(predicted) : len(predicted) + len(users)]
            asked = [user.ask(model_input) for user, model_input in zip(users, here, strict=True)]
            said = self._runner.predict(asked)
            for user, model_input, answer in zip(users, asked, said, strict=True):
                user.passed(model_input, answer)
            predicted += [answer.predictions for answer in said]
        return predicted

    def _guided(self, model_input: ForwardInput) -> CanvasPredictions:
        """One pass, beside that of a sequence that sees the canvas alone."""
        found = self._others(1)
        if not found:
            raise EngineError("cfg_scale needs a second sequence, and all are in use; leave it out or ask again")
        [other] = found
        mask = model_input.suppressed[0]
        nothing = msgspec.structs.replace(
            model_input, before=[mask] * len(model_input.before), after=[mask] * len(model_input.after)
        )
        asked, alone = self.ask(model_input), other.ask(nothing)
        asked.guide = other.slot
        answers = self._runner.predict([asked, alone])
        self.passed(asked, answers[0])
        other.passed(alone, answers[1])
        return answers[0].predictions

    def _others(self, count: int) -> list[Sequence]:
        while len(self._borrowed) < count and not self._spare.empty():
            try:
                self._borrowed.append(self._spare.get_nowait())
            except queue.Empty:  # another request was faster
                break
            self._borrowed[-1].begin(msgspec.structs.replace(self._sampling, cfg_scale=None))
        return self._borrowed[:count]

    def ask(self, model_input: ForwardInput) -> SequencePass:
        """The pass that the model_input takes."""
        tokens = [*model_input.before, *model_input.canvas, *model_input.after]
        self._adopt(tokens)
        start = len(model_input.before)
        shape, shift = self._runner.model.shape, self._runner.shift
        if shape.block:
            kept = common(self.cached, tokens) if model_input.pad == self._pad else 0
            whole = max(0, (kept + model_input.pad) // shape.block * shape.block - model_input.pad)
            begin, end, self._pad = min(whole, start - shift), len(tokens), model_input.pad
        elif self._fresh(tokens, range(start, start + len(model_input.canvas))):
            begin, end = start - shift, start + len(model_input.canvas)
        else:
            begin, end = 0, len(tokens)
        self.cached = self.cached[:begin]  # should the pass fail, the rest is lost
        return SequencePass(
            self.slot, tokens[begin:end], begin, len(tokens), start, model_input, self._generator, self._sampling
        )

    def _adopt(self, tokens: list[int]) -> None:
        """An alternative that was chosen goes on where its pass left off. It moves here, because the passes of a slot
        are captured for that slot.
        """
        for other in self._borrowed:
            if other.cached == tokens != self.cached:
                self._runner.copy(other.slot, self.slot)
                self.cached = other.cached

    def _fresh(self, tokens: list[int], canvas: range) -> bool:
        """Whether what is held of the canvas's neighbours still serves."""
        self._comparable = len(self.cached) == len(tokens) and common(self.cached, tokens, canvas) == len(tokens)
        return self._comparable and self._stale < self._serves

    def passed(self, asked: SequencePass, said: PassResult) -> None:
        """Remember what is held now. After a refresh, keys and values serve longer or shorter as they had drifted."""
        model_input = asked.model_input
        tokens = [*model_input.before, *model_input.canvas, *model_input.after]
        if self.encoded is None:
            self.encoded = len(asked.tokens) - len(model_input.canvas)
        whole = len(asked.tokens) == len(tokens)
        self._stale = 0 if whole else self._stale + 1
        if whole and self._comparable:
            self.drift = said.drift
            longer = min(max(1, 2 * self._serves), self._most_stale)
            self._serves = self._serves // 2 if self.drift > DRIFT else longer
        self.cached = tokens
