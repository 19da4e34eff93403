"""Draft, verify, commit: a pass reads the last draft causally and may denoise the next one on a canvas after it.

The causal role keeps the longest beginning of the draft that it would have written itself and adds one token of its
own, so the text is the greedy left-to-right text, whatever the drafts were (speculative decoding; drafting on a canvas
within the verifying pass is TiDAR's, arXiv 2511.08923, section 3). What it would write is the likeliest of the mixture
of model and copier, see `copying`. A pass is

    committed token, draft …     causal           ──▶  agreed tokens and one more
    <mask> <mask> <mask> …       bidirectional    ──▶  the next draft, if all of the last one was agreed with

Where rows are dear (a processor pays for nine what it pays for two passes of one), a canvas costs more passes than it
saves, and drafts are copied only. Where they are free (a GPU), and where the request trusts denoised tokens without
having them read (a fill is then one or two passes), every pass without a copied draft has a canvas.
"""

from __future__ import annotations

import math
import threading
import time

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.backends.memory import CausalPasses, Rows
from engine.contract import Cancelled, FillRequest, confidence
from engine.decoding.copying import Copier, Copy, Guess
from engine.tokenizer import EOM, MASK, Tokenizer
from engine.window import Prompt

LONGEST_ROUND, SHORTEST_CIRCLE = 12, 12  # tokens
LIKELY = 0.2  # a draft goes on while the product of its probabilities is above this
NOTHING = Guess([], [])


class Decoded(msgspec.Struct):
    """`probabilities` are those that the causal role gave the tokens and the end; `ended` where the model or the line
    limit ended it."""

    tokens: list[int]
    probabilities: list[float]
    passes: int
    decode_seconds: float  # all passes but the first, which encodes the context too
    ended: bool

    @property
    def confidence(self) -> float:
        return confidence(self.probabilities) if self.tokens else 0.0


class Limits:
    """When a fill ends: the model's end, a line too many, tokens, going round in circles, doubt, time."""

    def __init__(self, request: FillRequest, tokenizer: Tokenizer) -> None:
        self.started = time.perf_counter()
        self.deadline = math.inf if request.deadline_ms is None else self.started + request.deadline_ms / 1000
        self.lines_left = math.inf if request.max_lines is None else request.max_lines
        self.tokens_left = request.max_tokens
        self.min_confidence = request.min_confidence
        self._tokenizer = tokenizer

    def late(self) -> bool:
        return time.perf_counter() > self.deadline

    def commit(self, decoded: Decoded, guess: Guess) -> bool:
        """Append tokens until something ends the fill; tells whether it goes on.

        Where it ends for doubt, the lines before stay.
        """
        for token, probability in zip(*guess, strict=True):
            newline = token != EOM and self._tokenizer.starts_line(token)
            if token == EOM or (newline and self.lines_left == 1):
                decoded.probabilities.append(probability)
                decoded.ended = True
                return False
            self.lines_left -= newline
            decoded.tokens.append(token)
            decoded.probabilities.append(probability)
            self.tokens_left -= 1
            if self.tokens_left == 0 or goes_round(decoded.tokens):
                return False
            if decoded.confidence < self.min_confidence:
                starts = [i for i, made in enumerate(decoded.tokens) if i and self._tokenizer.starts_line(made)]
                if starts:
                    del decoded.tokens[starts[-1] :], decoded.probabilities[starts[-1] :]
                return False
        return True


def goes_round(tokens: list[int]) -> bool:
    """Whether the tokens end with the same few, four times over: small models do not get out of that by themselves."""
    for period in range(1, LONGEST_ROUND + 1):
        last = tokens[-max(4 * period, SHORTEST_CIRCLE) :]
        if len(last) >= SHORTEST_CIRCLE and len(last) >= 4 * period and last[period:] == last[:-period]:
            return True
    return False


def decode(
    model: CausalPasses, prompt: Prompt, request: FillRequest, tokenizer: Tokenizer, cancel: threading.Event
) -> Decoded:
    """Fill the gap of `prompt`; `model.sequence` is a beginning of its context. Raises Cancelled between passes."""
    limits = Limits(request, tokenizer)
    decoded = Decoded(tokens=[], probabilities=[], passes=0, decode_seconds=0.0, ended=False)
    copier = Copier(request, tokenizer)
    on_canvas = request.drafts and (model.rows_are_free or request.trust < 1)
    pending, canvas = [*prompt.context, *prompt.lead][len(model.sequence) :], NOTHING
    going, encoded = True, 0.0
    while going and not limits.late():
        copied = copier.draft() if request.drafts else []
        draft = copied or _likely(canvas)
        size = model.shape.canvas // 2 if on_canvas and not copied else 0  # a line has about eight tokens
        known = len(model.sequence) + len(pending)
        if known + len(draft) + size > model.capacity:
            break
        first = tokenizer.after_blank if prompt.blank and not decoded.tokens else None
        rows = _forward(model, pending + draft, [MASK] * size, len(draft) + 1 + size, decoded, cancel, first)
        encoded = encoded or time.perf_counter()
        chosen = _chosen(draft, rows, copier)
        model.forget(known + len(chosen.tokens) - 1)
        going, canvas = limits.commit(decoded, chosen), NOTHING
        pending = chosen.tokens[-1:]
        sure = copier.decided() if going and request.trust < 1 else NOTHING
        if going and size and not sure.tokens and len(chosen.tokens) > len(draft):
            # after a draft that was wrong, the canvas was denoised for another text
            own = Guess([*pending, *rows.tokens[-size + 1 :]], [1.0, *rows.probabilities[-size + 1 :]])
            canvas = _refined(model, own, request.steps, decoded, cancel)
            sure = _trusted(canvas, request.trust)
            canvas = Guess(canvas.tokens[1 + len(sure.tokens) :], canvas.probabilities[1 + len(sure.tokens) :])
            copier.advance(sure.tokens)
        going = going and limits.commit(decoded, sure)
        pending += sure.tokens
    decoded.decode_seconds = time.perf_counter() - encoded if encoded else 0.0
    return decoded


def _chosen(draft: list[int], rows: Rows, copier: Copier) -> Guess:
    """The beginning of the draft that is agreed with and one token more, each the likeliest of model and copier."""
    tokens: list[int] = []
    probabilities: list[float] = []
    while tokens == draft[: len(tokens)] and len(tokens) <= len(draft):
        token, probability = _likeliest(rows, len(tokens), copier.next)
        tokens.append(token)
        probabilities.append(probability)
        copier.advance([token])
    return Guess(tokens, probabilities)


def _likeliest(rows: Rows, row: int, copy: Copy | None) -> tuple[int, float]:
    """The token of the mixture and its probability."""
    token, probability = rows.tokens[row], rows.probabilities[row]
    if copy is None:
        return token, probability
    copied = copy.share + (1 - copy.share) * rows.probability(row, copy.token)
    own = (1 - copy.share) * probability
    return (copy.token, copied) if copied >= own else (token, own)


def _refined(model: CausalPasses, canvas: Guess, steps: int, decoded: Decoded, cancel: threading.Event) -> Guess:
    """A canvas, whose first token is right, after more denoising steps: the surest tokens stay, the others are denoised
    again around them (MaskGIT, arXiv 2202.04200).
    """
    tokens, sure = canvas
    size = len(tokens)
    for step in range(1, steps):
        shown = sorted(range(size), key=lambda row: -sure[row])[: math.ceil(size * step / steps)]
        masked = [tokens[row] if row in shown else MASK for row in range(size)]
        rows = _forward(model, [], masked, size, decoded, cancel)
        tokens = [tokens[row] if row in shown else rows.tokens[row] for row in range(size)]
        sure = [sure[row] if row in shown else rows.probabilities[row] for row in range(size)]
    return Guess(tokens, sure)


def _trusted(canvas: Guess, trust: float) -> Guess:
    """What follows a canvas's first token, as far as each is surer than `trust`."""
    count = next((i for i, p in enumerate(canvas.probabilities) if i and p <= trust), len(canvas.tokens))
    return Guess(canvas.tokens[1:count], canvas.probabilities[1:count])


def _likely(canvas: Guess) -> list[int]:
    """The beginning of a canvas that is likely to be agreed with; never the end."""
    together, count = 1.0, 0
    for token, probability in zip(canvas.tokens, canvas.probabilities, strict=True):
        together *= probability
        if together < LIKELY or token == EOM:
            break
        count += 1
    return canvas.tokens[:count]


def _forward(
    model: CausalPasses,
    tokens: list[int],
    canvas: list[int],
    results: int,
    decoded: Decoded,
    cancel: threading.Event,
    first: NDArray[np.bool_] | None = None,
) -> Rows:
    if cancel.is_set():
        raise Cancelled
    decoded.passes += 1
    return model.forward(tokens, canvas, results, first)
