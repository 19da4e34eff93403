"""Draft, verify, commit: the canvas drafts several tokens in one pass, the causal role reads them and keeps what it
agrees with.

The text equals the model's own greedy left-to-right text, token for token, whatever the draft was (speculative
decoding with the model's own canvas as the draft; TiDAR, arXiv 2511.08923, section 3). Drafts only decide how many
tokens a pass yields. One round is

    draft    committed tokens not yet read, then a canvas of masks  ──▶  the next token, and a draft of those after it
    verify   the next token and the draft, causally                 ──▶  the longest agreed beginning, one correction
"""

from __future__ import annotations

import math
import threading
import time

import msgspec

from engine.backends.onnx import OnnxModel, Rows
from engine.contract import Cancelled, FillRequest
from engine.tokenizer import EOM, MASK, Tokenizer
from engine.window import Prompt


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
        if not self.tokens:
            return 0.0
        return math.exp(sum(math.log(max(p, 1e-9)) for p in self.probabilities) / len(self.probabilities))


class Limits:
    """When a fill ends: the model's end, a line too many, tokens, time."""

    def __init__(self, request: FillRequest, tokenizer: Tokenizer) -> None:
        self.started = time.perf_counter()
        self.deadline = math.inf if request.deadline_ms is None else self.started + request.deadline_ms / 1000
        self.lines_left = math.inf if request.max_lines is None else request.max_lines
        self.tokens_left = request.max_tokens
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
            if self.tokens_left == 0:
                return False
        return True


def decode(
    model: OnnxModel, prompt: Prompt, request: FillRequest, tokenizer: Tokenizer, cancel: threading.Event
) -> Decoded:
    """Fill the gap of `prompt`; `model.sequence` is a beginning of its context. Raises Cancelled between passes."""
    limits = Limits(request, tokenizer)
    decoded = Decoded(tokens=[], probabilities=[], passes=0, decode_seconds=0.0, ended=False)
    size = model.shape.canvas // 2  # a line has about eight tokens
    pending = [*prompt.context, *prompt.lead][len(model.sequence) :]
    going, encoded = True, 0.0
    while going and not limits.late() and len(model.sequence) + len(pending) + 2 * size <= model.capacity:
        draft = _draft(model, pending, size, request.steps, decoded, cancel)
        encoded = encoded or time.perf_counter()
        going = limits.commit(decoded, draft.tokens[:1], draft.probabilities[:1])
        if going and not limits.late():
            verified = _verify(model, draft.tokens, decoded, cancel)
            going = limits.commit(decoded, verified.tokens, verified.probabilities)
            pending = verified.tokens[-1:]
    decoded.decode_seconds = time.perf_counter() - encoded if encoded else 0.0
    return decoded


def _draft(
    model: OnnxModel, pending: list[int], size: int, steps: int, decoded: Decoded, cancel: threading.Event
) -> Rows:
    """The causal next token, then the canvas's guess at those after it, up to its end.

    With more than one step the surest tokens are revealed first and the others denoised again around them (MaskGIT,
    arXiv 2202.04200).
    """
    rows = _forward(model, pending, [MASK] * size, size + 1, decoded, cancel)
    first, probability = rows.tokens[0], rows.probabilities[0]
    guess, sure = [first, *rows.tokens[2:]], [1.0, *rows.probabilities[2:]]
    for step in range(1, steps):
        shown = sorted(range(size), key=lambda i: -sure[i])[: math.ceil(size * step / steps)]
        canvas = [guess[i] if i in shown else MASK for i in range(size)]
        rows = _forward(model, [], canvas, size, decoded, cancel)
        guess = [guess[i] if i in shown else rows.tokens[i] for i in range(size)]
        sure = [sure[i] if i in shown else rows.probabilities[i] for i in range(size)]
    length = guess.index(EOM) if EOM in guess[1:] and first != EOM else len(guess)
    return Rows(tokens=guess[: max(1, length)], probabilities=[probability])


def _verify(model: OnnxModel, guess: list[int], decoded: Decoded, cancel: threading.Event) -> Rows:
    """Read the guess, whose first token is right: the tokens after it that it agrees with, and one of its own."""
    known = len(model.sequence)
    rows = _forward(model, guess, [], len(guess), decoded, cancel)
    agreed = 1
    while agreed < len(guess) and guess[agreed] == rows.tokens[agreed - 1]:
        agreed += 1
    model.forget(known + agreed)
    return Rows(tokens=rows.tokens[:agreed], probabilities=rows.probabilities[:agreed])


def _forward(
    model: OnnxModel, tokens: list[int], canvas: list[int], results: int, decoded: Decoded, cancel: threading.Event
) -> Rows:
    if cancel.is_set():
        raise Cancelled
    decoded.passes += 1
    return model.forward(tokens, canvas, results)
