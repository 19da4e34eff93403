"""When a fill ends, and what has become of it by then: the same for all models and all ways of decoding."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import msgspec

from engine.contract import Cancelled, Fill, FillRequest, Progress, TokenSpan, Watch, confidence
from engine.decoding.runner import ForwardInput, ModelRunner, P

LONGEST_ROUND, SHORTEST_CIRCLE = 12, 12  # tokens


class Spelling(Protocol):
    """What decoding asks of a tokenizer. Each of `ends` ends a fill; `end` is the one to end a copy with. Where lines
    are `ended`, the newline of a line that a fill ends is written too, and is left out of its text.
    """

    @property
    def ended(self) -> bool: ...

    @property
    def ends(self) -> frozenset[int]: ...

    @property
    def end(self) -> int | None: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: list[int]) -> str: ...


class DecodedTokens(msgspec.Struct):
    """Tokens one after the other, and how sure each is; the end has a probability too where the model or the line limit
    `ended` the fill. Of the text, the first `lines` count (None: all).
    """

    tokens: list[int] = []
    probabilities: list[float] = []
    ended: bool = False
    lines: int | None = None

    @property
    def confidence(self) -> float:
        return confidence(self.probabilities) if self.tokens else 0.0


class Limits:
    """The model's end, a line too many, tokens, going round in circles, doubt, time, a cancelled request."""

    def __init__(
        self, request: FillRequest, spelling: Spelling, cancel: threading.Event, watch: Watch | None = None
    ) -> None:
        self.request, self.spelling, self.tokens = request, spelling, request.max_tokens
        self.started = time.perf_counter()
        self._deadline = math.inf if request.deadline_ms is None else self.started + request.deadline_ms / 1000
        self._cancel, self._watch = cancel, watch
        self.spelled: Callable[[list[int]], str] = spelling.decode  # the text after the cursor
        self._text = cache(lambda token: spelling.decode([token]))  # canvases ask for the same in every pass
        self.respelled_lines = 0  # line ends before the cursor that the fill spells again
        self.passes = 0
        self.first_pass = 0.0  # seconds

    def late(self) -> bool:
        return time.perf_counter() > self._deadline

    def check(self) -> None:
        """Raises Cancelled."""
        if self._cancel.is_set():
            raise Cancelled

    def passed(self) -> None:
        """Count a pass."""
        self.passes += 1
        self.first_pass = self.first_pass or time.perf_counter() - self.started

    def predict(self, model: ModelRunner[P], inputs: list[ForwardInput]) -> Sequence[P]:
        """One pass. Raises Cancelled before it."""
        self.check()
        predicted = model.predict(inputs)
        self.passed()
        return predicted

    def commit(self, written: DecodedTokens, run: DecodedTokens) -> bool:
        """Append tokens until something ends the fill; tells whether it goes on."""
        for token, probability in zip(run.tokens, run.probabilities, strict=True):
            if not self.take(written, token, probability):
                return False
            if len(written.tokens) == self.tokens or goes_round(written.tokens):
                return False
        return True

    def take(self, written: DecodedTokens, token: int, probability: float) -> bool:
        """Append a token, unless the fill ends before it: with the model's end or the last line that was asked for;
        tells whether it goes on.

        Where it ends for doubt, the lines before stay.
        """
        text = self._text(token)
        full = "\n" in text and self._lines(written) + text.count("\n") > (self.request.max_lines or math.inf)
        ends = token in self.spelling.ends or (full and text.startswith("\n") and self._is_last_line(written))
        written.probabilities.append(probability)
        if not ends:
            written.tokens.append(token)
        if ends or full:
            written.ended, written.lines = True, self.request.max_lines
            return False
        if written.confidence < self.request.min_confidence:
            self._give_up_line(written)
            return False
        return True

    def _lines(self, written: DecodedTokens) -> int:
        return 1 - self.respelled_lines + sum(self._text(token).count("\n") for token in written.tokens)

    def _is_last_line(self, written: DecodedTokens) -> bool:
        return self._lines(written) == self.request.max_lines

    def _give_up_line(self, written: DecodedTokens) -> None:
        breaks = [at for at, token in enumerate(written.tokens) if at and "\n" in self._text(token)]
        if breaks:
            written.lines = self._lines(written) - 1
            kept = breaks[-1] + (not self._text(written.tokens[breaks[-1]]).startswith("\n"))
            del written.tokens[kept:], written.probabilities[kept:]

    def fill(
        self,
        written: DecodedTokens,
        *,
        newline: bool,
        window: int,
        reused: int,
        respelled: int = 0,
    ) -> Fill:
        """The first `respelled` tokens spell what is before the cursor; `newline` where the fill is a line of its own;
        `window` and `reused` are tokens of context.
        """
        text = self._text_of(written.tokens, written.lines)
        if newline and text and not text.endswith("\n"):
            text += "\n"
        seconds = time.perf_counter() - self.started
        first = self.first_pass or seconds
        return Fill(
            text=text,
            confidence=written.confidence if text else 0.0,
            passes=self.passes,
            tokens=max(0, len(written.tokens) - respelled),
            encoded=window - reused,
            reused=reused,
            encode_ms=first * 1000,
            decode_ms=(seconds - first) * 1000,
            complete=written.ended,
            pieces=self._pieces(written, text),
        )

    def show(self, written: DecodedTokens, canvas: Sequence[int | None] = ()) -> None:
        """Tell who watches what stays, and what is on the canvas after it, with None where that is masked."""
        if self._watch is not None:
            text = self._text_of(written.tokens, self.request.max_lines)
            rows = (None if token is None else self._text(token) for token in canvas)
            self._watch(Progress(text, self._pieces(written, text), tuple(rows)))

    def _text_of(self, tokens: list[int], lines: int | None) -> str:
        text = self.spelled(tokens).split("\ufffd", 1)[0]  # a character cut short by a limit
        return "\n".join(text.split("\n")[:lines])

    def _pieces(self, written: DecodedTokens, text: str) -> tuple[TokenSpan, ...]:
        counts = range(1, len(written.tokens))
        ends = [len(self._text_of(written.tokens[:count], written.lines)) for count in counts]
        ends += [len(text)] * (len(written.probabilities) - len(ends))
        return tuple(map(TokenSpan, ends, written.probabilities))


def goes_round(tokens: list[int]) -> bool:
    """Whether the tokens end with the same few, four times over: small models do not get out of that by themselves."""
    for period in range(1, LONGEST_ROUND + 1):
        last = tokens[-max(4 * period, SHORTEST_CIRCLE) :]
        if len(last) >= SHORTEST_CIRCLE and len(last) >= 4 * period and last[period:] == last[:-period]:
            return True
    return False
