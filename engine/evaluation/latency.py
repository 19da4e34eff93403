"""What one keystroke costs the engine: a file is typed again, with a request at every character.

The same keys are answered in four ways: with drafts, as they are by default; a token a pass, whose text is the same;
by copied and denoised tokens that nobody verifies; and by the model without copies. Times are printed beside a
reference in the same run, a fixed matrix product.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

import engine
from engine import Engine, EngineError, Fill, FillRequest
from engine.contract import Backend
from engine.evaluation.report import Times, matrix_product_ms, times

SAMPLE = Path(engine.__file__).with_name("tokenizer.py")
REQUESTS = 200
LONG = 32  # tokens of a fill of several lines, asked for at every tenth key
PLAIN = "a token a pass"
WAYS: dict[str, dict[str, Any]] = {
    "drafts": {},
    PLAIN: {"drafts": False},
    "unverified": {"trust": 0.0},
    "without copies": {"copies": False},
}
Run: TypeAlias = list[tuple[float, Fill]]  # milliseconds and fill of each request


class DecodingCost(msgspec.Struct):
    """One way of decoding. Means are of a request; `same_text` is the share of fills equal to those of a token a
    pass, `speed` how much faster than these all were together, `long_ms` what LONG tokens of long fills take.
    """

    name: str
    warm: Times
    passes: float
    tokens_a_pass: float
    same_text: float
    speed: float
    long_ms: float


class Bench(msgspec.Struct):
    requests: int
    cold_ms: float
    warm: Times
    passes: float  # a request, mean
    encoded: float  # tokens of context a request, mean
    reused: float
    tokens: float  # of a fill, mean
    tokens_a_pass: float
    matrix_product_ms: float  # 512 x 512 x 512, float32
    warm_to_matrix_product: float
    ways: list[DecodingCost]


def read(file: Path) -> str:
    """Raises EngineError where the file cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{file} cannot be read ({error}): give a text file") from None


def typing(text: str, requests: int) -> Iterable[FillRequest]:
    """Some lines in the middle of a text are typed: a request after each character, the text below them as it is."""
    start = text.index("\n", len(text) // 2)
    following = text[text.index("\n", start + requests) :]
    for end in range(start, start + requests):
        yield FillRequest(prefix=text[:end], suffix=following, path=SAMPLE.name, max_lines=1)


def measure(loaded: Engine, text: str, requests: int = REQUESTS) -> Bench:
    first, *rest = typing(text, requests + 1)
    cold, _ = timed(loaded, first)
    long = [msgspec.structs.replace(request, max_lines=None, max_tokens=LONG) for request in rest[::10]]
    runs = {name: asked(loaded, rest, way) for name, way in WAYS.items()}
    ways = [compared(name, run, runs[PLAIN], asked(loaded, long, WAYS[name])) for name, run in runs.items()]
    fills, product = [fill for _, fill in runs["drafts"]], matrix_product_ms()
    return Bench(
        requests=requests,
        cold_ms=cold,
        warm=ways[0].warm,
        passes=ways[0].passes,
        encoded=sum(fill.encoded for fill in fills) / requests,
        reused=sum(fill.reused for fill in fills) / requests,
        tokens=sum(fill.tokens for fill in fills) / requests,
        tokens_a_pass=ways[0].tokens_a_pass,
        matrix_product_ms=product,
        warm_to_matrix_product=ways[0].warm.p50 / product,
        ways=ways,
    )


def asked(loaded: Engine, requests: list[FillRequest], way: dict[str, Any]) -> Run:
    return [timed(loaded, msgspec.structs.replace(request, **way)) for request in requests]


def compared(name: str, run: Run, plain: Run, long: Run) -> DecodingCost:
    fills = [fill for _, fill in run]
    passes = sum(fill.passes for fill in fills)
    return DecodingCost(
        name=name,
        warm=times(spent for spent, _ in run),
        passes=passes / len(run),
        tokens_a_pass=sum(fill.tokens + fill.complete for fill in fills) / passes,
        same_text=sum(a.text == b.text for (_, a), (_, b) in zip(run, plain, strict=True)) / len(run),
        speed=sum(spent for spent, _ in plain) / sum(spent for spent, _ in run),
        long_ms=LONG * sum(spent for spent, _ in long) / max(1, sum(fill.tokens for _, fill in long)),
    )


def timed(loaded: Backend, request: FillRequest) -> tuple[float, Fill]:
    """Milliseconds, and the fill."""
    start = time.perf_counter()
    fill = loaded.fill(request, threading.Event())
    return (time.perf_counter() - start) * 1000, fill
