"""Draft, verify, commit: a pass reads the last draft causally and may denoise the next one on a canvas after it.

The causal role keeps the longest beginning of the draft that it would have written itself and adds one token of its
own, so the text is the model's greedy left-to-right text, whatever the drafts were (speculative decoding with its own
canvas as the draft; drafting within the verifying pass is TiDAR's, arXiv 2511.08923, section 3). A pass is

    committed token, draft …     causal           ──▶  agreed tokens and one more
    <mask> <mask> <mask> …       bidirectional    ──▶  the next draft, if all of the last one was agreed with

Where rows are dear (a processor pays for nine what it pays for two passes of one), a canvas costs more passes than it
saves, and drafts are looked up instead. Where they are free (a GPU), and where the request trusts denoised tokens
without having them read (a fill is then one or two passes), every pass has a canvas.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.backends.onnx import OnnxModel, Rows
from engine.contract import Cancelled, FillRequest
from engine.decoding.lookup import continuation
from engine.tokenizer import EOM, MASK, Tokenizer
from engine.window import Prompt

LONGEST_ROUND, SHORTEST_CIRCLE = 12, 12  # tokens
RECOVERY = 4  # sure tokens that a fill may take to become as confident as asked
LIKELY = 0.2  # a draft goes on while the product of its probabilities is above this


class Decoded(msgspec.Struct):
    """`probabilities` are those that the causal role gave the tokens and the end; `ended` where the model or the line
    limit ended it."""

    tokens: list[int]
    probabilities: list[float]
    passes: int
    decode_seconds: float  # all passes but the first, which encodes the context too
    ended: bool

    @property
    def doubt(self) -> float:
        """The surprise that all tokens are together, in nats."""
        return -sum(math.log(max(p, 1e-9)) for p in self.probabilities)

    @property
    def confidence(self) -> float:
        return math.exp(-self.doubt / len(self.probabilities)) if self.tokens else 0.0


class Limits:
    """When a fill ends: the model's end, a line too many, tokens, going round in circles, doubt, time."""

    def __init__(self, request: FillRequest, tokenizer: Tokenizer) -> None:
        self.started = time.perf_counter()
        self.deadline = math.inf if request.deadline_ms is None else self.started + request.deadline_ms / 1000
        self.lines_left = math.inf if request.max_lines is None else request.max_lines
        self.tokens_left = request.max_tokens
        self.doubt = -math.log(request.min_confidence) if request.min_confidence else math.inf  # a token, at most
        self._tokenizer = tokenizer

    def late(self) -> bool:
        return time.perf_counter() > self.deadline

    def commit(self, decoded: Decoded, tokens: list[int], probabilities: list[float]) -> bool:
        """Append tokens until something ends the fill; tells whether it goes on."""
        for token, probability in zip(tokens, probabilities, strict=True):
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
        return decoded.doubt <= self.doubt * (len(decoded.tokens) + RECOVERY)


def goes_round(tokens: list[int]) -> bool:
    """Whether the tokens end with the same few, four times over: small models do not get out of that by themselves."""
    for period in range(1, LONGEST_ROUND + 1):
        last = tokens[-max(4 * period, SHORTEST_CIRCLE) :]
        if len(last) >= SHORTEST_CIRCLE and len(last) >= 4 * period and last[period:] == last[:-period]:
            return True
    return False


def decode(
    model: OnnxModel,
    prompt: Prompt,
    request: FillRequest,
    tokenizer: Tokenizer,
    cancel: threading.Event,
    remembered: Sequence[int] = (),
) -> Decoded:
    """Fill the gap of `prompt`; `model.sequence` is a beginning of its context. Raises Cancelled between passes.

    Drafts are looked up in the prompt and in the tokens that are `remembered`.
    """
    limits = Limits(request, tokenizer)
    decoded = Decoded(tokens=[], probabilities=[], passes=0, decode_seconds=0.0, ended=False)
    on_canvas = request.drafts and (model.rows_are_free or request.trust < 1)
    size = model.shape.canvas // 2 if on_canvas else 0  # a line has about eight tokens
    seen = [*remembered, *prompt.written] if request.drafts else []
    pending, draft = [*prompt.context, *prompt.lead][len(model.sequence) :], continuation(seen)
    going, encoded = True, 0.0
    while going and not limits.late() and len(model.sequence) + len(pending + draft) + size <= model.capacity:
        known = len(model.sequence) + len(pending)
        first = tokenizer.after_blank if prompt.blank and not decoded.tokens else None
        results = len(draft) + 1 + size
        rows = _forward(model, pending + draft, [MASK] * size, results, decoded, cancel, first)
        encoded = encoded or time.perf_counter()
        agreed = _agreed(draft, rows.tokens)
        model.forget(known + agreed)
        going = limits.commit(decoded, rows.tokens[: agreed + 1], rows.probabilities[: agreed + 1])
        pending = rows.tokens[agreed : agreed + 1]
        canvas = Rows([], [])  # what came after a draft that was wrong was denoised for another text
        if going and size and agreed == len(draft):
            own = Rows([*pending, *rows.tokens[-size + 1 :]], [1.0, *rows.probabilities[-size + 1 :]])
            canvas = _refined(model, own, request.steps, decoded, cancel)
            trusted = _trusted(canvas, request.trust)
            going = limits.commit(decoded, trusted.tokens, trusted.probabilities)
            pending += trusted.tokens
            canvas = Rows(canvas.tokens[len(pending) :], canvas.probabilities[len(pending) :])
        draft = _likely(canvas) or (continuation([*seen, *decoded.tokens]) if request.drafts else [])
    decoded.decode_seconds = time.perf_counter() - encoded if encoded else 0.0
    return decoded


def _agreed(draft: list[int], own: list[int]) -> int:
    """How many tokens of the draft are what the causal role writes at their places."""
    return next((i for i, (a, b) in enumerate(zip(draft, own, strict=False)) if a != b), len(draft))


def _refined(model: OnnxModel, canvas: Rows, steps: int, decoded: Decoded, cancel: threading.Event) -> Rows:
    """A canvas, whose first token is right, after more denoising steps: the surest tokens stay, the others are denoised
    again around them (MaskGIT, arXiv 2202.04200).
    """
    tokens, sure = canvas.tokens, canvas.probabilities
    size = len(tokens)
    for step in range(1, steps):
        shown = sorted(range(size), key=lambda row: -sure[row])[: math.ceil(size * step / steps)]
        masked = [tokens[row] if row in shown else MASK for row in range(size)]
        rows = _forward(model, [], masked, size, decoded, cancel)
        tokens = [tokens[row] if row in shown else rows.tokens[row] for row in range(size)]
        sure = [sure[row] if row in shown else rows.probabilities[row] for row in range(size)]
    return Rows(tokens, sure)


def _trusted(canvas: Rows, trust: float) -> Rows:
    """What follows a canvas's first token, as far as each is surer than `trust`."""
    count = next((i for i, p in enumerate(canvas.probabilities) if i and p <= trust), len(canvas.tokens))
    return Rows(canvas.tokens[1:count], canvas.probabilities[1:count])


def _likely(canvas: Rows) -> list[int]:
    """The beginning of a canvas that is likely to be agreed with; never the end."""
    together, count = 1.0, 0
    for token, probability in zip(canvas.tokens, canvas.probabilities, strict=True):
        together *= probability
        if together < LIKELY or token == EOM:
            break
        count += 1
    return canvas.tokens[:count]


def _forward(
    model: OnnxModel,
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
