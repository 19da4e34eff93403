"""What one keystroke costs the engine: a file is typed again, with a request at every character.

Times are printed beside a reference in the same run, a fixed matrix product.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

import engine
from engine import Engine, EngineError, Fill, FillRequest

SAMPLE = Path(engine.__file__).with_name("tokenizer.py")
REQUESTS = 200


class Times(msgspec.Struct):
    """Milliseconds of one request."""

    p50: float
    p95: float
    p99: float


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


def bench(model: str, file: Path, as_json: bool) -> None:
    result = measure(Engine.load(model), read(file))
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    else:
        print_table(result)


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
    cancel = threading.Event()
    first, *rest = typing(text, requests + 1)
    cold, _ = timed(loaded, first, cancel)
    timings, fills = zip(*(timed(loaded, request, cancel) for request in rest), strict=True)
    passes = sum(fill.passes for fill in fills)
    product = matrix_product_ms()
    warm = times(timings)
    return Bench(
        requests=requests,
        cold_ms=cold,
        warm=warm,
        passes=passes / requests,
        encoded=sum(fill.encoded for fill in fills) / requests,
        reused=sum(fill.reused for fill in fills) / requests,
        tokens=sum(fill.tokens for fill in fills) / requests,
        tokens_a_pass=sum(fill.tokens + fill.complete for fill in fills) / passes,
        matrix_product_ms=product,
        warm_to_matrix_product=warm.p50 / product,
    )


def timed(loaded: Engine, request: FillRequest, cancel: threading.Event) -> tuple[float, Fill]:
    start = time.perf_counter()
    fill = loaded.fill(request, cancel)
    return (time.perf_counter() - start) * 1000, fill


def times(milliseconds: Iterable[float]) -> Times:
    p50, p95, p99 = np.percentile(list(milliseconds), [50, 95, 99])
    return Times(float(p50), float(p95), float(p99))


def matrix_product_ms(size: int = 512) -> float:
    """The fastest of some products, as a measure of the machine."""
    a = np.ones((size, size), np.float32)
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return best * 1000


def print_table(result: Bench) -> None:
    for name, value in msgspec.structs.asdict(result).items():
        if isinstance(value, Times):
            print(f"{name + ' ms':24}p50 {value.p50:.1f}   p95 {value.p95:.1f}   p99 {value.p99:.1f}")
        else:
            print(f"{name.replace('_', ' '):24}{value:.2f}")
