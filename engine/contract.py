"""What crosses the border between an editor's server and the engine: three types and one call."""

from __future__ import annotations

import threading
from typing import Protocol

import msgspec


class EngineError(Exception):
    """The engine cannot do what was asked; the message says in one sentence what to do about it."""


class Cancelled(Exception):
    """The request was cancelled between two forward passes."""


class FillRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A gap in a text.

    `max_lines` of None lets the model choose the length. `deadline_ms` is counted from the call of `fill`; when
    it passes, decoding ends with what is verified so far. `steps` is the number of denoising passes a canvas.

    For the embedded model alone: `related` are other texts of the project, the likeliest to be of use first, of which
    it copies as of the text around the cursor; a fill ends before the line that makes it less confident than
    `min_confidence` (if that is its first, within it); without `drafts` a pass brings one token; without `copies`
    nothing is copied; denoised tokens surer than `trust` are taken unverified, and at 1, where all are verified, the
    text is the same whatever the drafts were.
    """

    prefix: str
    suffix: str = ""
    path: str = ""
    max_lines: int | None = None
    max_tokens: int = 64
    deadline_ms: float | None = None
    steps: int = 1
    related: tuple[str, ...] = ()
    min_confidence: float = 0.0
    drafts: bool = True
    copies: bool = True
    trust: float = 1.0


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """What goes between prefix and suffix, and what it cost.

    `confidence` in [0, 1] is about how often all of such a fill is right with the embedded model; with others it is the
    geometric mean of the probabilities of the tokens; 0 for an empty fill.
    `passes` counts forward passes, `tokens` the tokens of the fill, `encoded` and `reused` the context tokens run
    through the model and taken from the KV memory. `complete` is False where a limit or the deadline ended it.
    """

    text: str
    confidence: float
    passes: int
    tokens: int
    encoded: int
    reused: int
    encode_ms: float
    decode_ms: float
    complete: bool


class Backend(Protocol):
    """What `Engine` needs of a model."""

    @property
    def reach(self) -> int: ...

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill: ...
