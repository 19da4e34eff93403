"""What a public model costs on a device, beside what the device could do at best.

A pass reads all weights and its keys and values once, and multiplies each row with the weights: it cannot be faster
than those bytes over the device's copy bandwidth or those operations over its matrix rate, both measured here in the
same run (the roofline). All numbers come from the passes and fills that users get.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from engine import public
from engine.backends.slots import Asked, Slots, bucket
from engine.contract import EngineError, FillRequest
from engine.decoding import presets
from engine.decoding.passes import Question
from engine.embedded import Embedded
from engine.evaluation.latency import Times, read, times, typing
from engine.models import checkpoint, diffusion_gemma
from engine.models.room import parameters

LONG = 1000  # tokens before, and tokens to write
LINES = 30  # fills of a line
RUNS = 10  # of what is timed
STEPS = presets.PASSES["balanced"]  # of each fill


class Pass(msgspec.Struct):
    """`roofline` is the share of the device's best that a pass reaches, in [0, 1]."""

    rows: int
    canvas: int
    sequences: int
    ms: float
    gigabytes: float
    gigaflop: float
    bound: str
    roofline: float


class Long(msgspec.Struct):
    prompt: int  # tokens
    written: int
    tokens_s: float


class Lines(msgspec.Struct):
    """Fills of the rest of a line. `tokens_a_pass` are those accepted; `complete` is the share that the model or the
    line's end ended."""

    ms: Times
    passes: float  # a fill, mean
    tokens_a_pass: float
    complete: float


class Report(msgspec.Struct):
    model: str
    device: str
    room: str
    copy_gb_s: float
    matrix_tflop_s: float
    passes: list[Pass]
    long: Long
    line: Lines


def bench(model: str, device: str, file: Path, as_json: bool) -> None:
    """Raises EngineError where the device is missing, or the model is none of the registry's."""
    if Embedded.holds(model):
        raise EngineError("this times public models: give --model a folder or hub id, such as fredzzp/open-dcoder-0.5B")
    report = measure(model, device, read(file))
    if as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        print_table(report)


def measure(model: str, device: str, text: str, lines: int = LINES, runs: int = RUNS, long: int = LONG) -> Report:
    where = public.choose_device(device)
    dtype = torch.float32 if where.type == "cpu" else torch.bfloat16
    config = checkpoint.read_config(model)
    if config.get("model_type") == diffusion_gemma.MODEL_TYPE:
        raise EngineError("DiffusionGemma runs in transformers' own passes, which this bench does not know")
    loaded = checkpoint.load(model, config, where, dtype)
    passes = public.prepared(loaded)
    backend = public.made(loaded, passes)
    backend.fill(public.WARM_UP, threading.Event())
    best = copy_bandwidth(where), matrix_rate(where, dtype)
    return Report(
        model=model,
        device=device_name(where),
        room=str(loaded.room),
        copy_gb_s=best[0] / 1e9,
        matrix_tflop_s=best[1] / 1e12,
        passes=[_pass(passes, loaded, count, rows, best, runs) for count, rows in _sizes(passes, loaded)],
        long=_long(backend, text, min(long, loaded.plan.shape.context // 3)),
        line=_lines(backend, text, lines),
    )


def _sizes(passes: Slots, loaded: checkpoint.Checkpoint) -> list[tuple[int, int]]:
    """Sequences and rows of the passes that are timed: a canvas, and half a window with its canvas."""
    rows = (bucket(public.CANVAS // 2), bucket(min(loaded.room.window, loaded.plan.shape.context) // 2))
    return [(count, each) for count in sorted({1, passes.slots}) for each in rows]


def _lines(backend: public.Public, text: str, count: int) -> Lines:
    """A line is typed: a fill at each character, as a server asks for it."""
    fills, spent = [], []
    for typed in typing(text, count):
        request = msgspec.structs.replace(typed, steps=STEPS)
        started = time.perf_counter()
        fills.append(backend.fill(request, threading.Event()))
        spent.append((time.perf_counter() - started) * 1000)
    passes = sum(fill.passes for fill in fills)
    return Lines(
        ms=times(spent),
        passes=passes / count,
        tokens_a_pass=sum(fill.tokens for fill in fills) / passes,
        complete=statistics.mean(fill.complete for fill in fills),
    )


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def seconds_of(work: Callable[[], object], device: torch.device, runs: int = RUNS) -> float:
    """The median of some runs after one that is not counted."""
    work()
    spent = []
    for _ in range(runs):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, those read and those written together."""
    size = 2**30 if device.type == "cuda" else 2**26
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds_of(lambda: target.copy_(source), device)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large product."""
    size = 8192 if device.type == "cuda" else 512
    a = torch.randn(size, size, device=device).to(dtype)
    product: Callable[[], Tensor] = lambda: a @ a  # noqa: E731
    return 2 * size**3 / seconds_of(product, device)


def _pass(
    passes: Slots, loaded: checkpoint.Checkpoint, count: int, rows: int, best: tuple[float, float], runs: int
) -> Pass:
    """A pass of `rows` rows, the last of which are the canvas, of so many sequences."""
    canvas = min(rows, public.CANVAS // 2)
    question = Question([], [0] * canvas, [], [0])
    start = passes.capacity // 2
    asked = [Asked(slot, [1] * rows, start, start + rows, start + rows - canvas, question) for slot in range(count)]
    spent = seconds_of(lambda: passes.guess(asked), passes.device, runs)
    shape, model = loaded.plan.shape, loaded.model
    kept = 2 * shape.layers * shape.kv_heads * shape.head_dim * model.embed.weight.element_size()
    head = model.head.weight
    blocks = sum(weight.numel() * weight.element_size() for weight in model.blocks.parameters())
    read_bytes = blocks + head.numel() * head.element_size() + kept * passes.capacity * count
    scores = 4 * shape.layers * shape.heads * shape.head_dim * passes.capacity
    work = count * (rows * (2 * parameters(shape) + scores) + bucket(canvas) * 2 * head.numel())
    memory, matrix = read_bytes / best[0], work / best[1]
    return Pass(
        rows=rows,
        canvas=canvas,
        sequences=count,
        ms=spent * 1000,
        gigabytes=read_bytes / 1e9,
        gigaflop=work / 1e9,
        bound="bandwidth" if memory > matrix else "matrix rate",
        roofline=max(memory, matrix) / spent,
    )


def _long(backend: public.Public, text: str, tokens: int) -> Long:
    """As many tokens written as stand before, canvas after canvas."""
    vocabulary = backend.vocabulary
    prompt = vocabulary.decode((vocabulary.encode(text) * tokens)[:tokens])
    written, started = 0, time.perf_counter()
    while written < tokens:
        request = FillRequest(prefix=prompt, max_tokens=min(public.CANVAS, tokens - written), steps=STEPS)
        fill = backend.fill(request, threading.Event())
        prompt += fill.text or "\n"
        written += max(1, fill.tokens)
    return Long(tokens, written, written / (time.perf_counter() - started))


def print_table(report: Report) -> None:
    print(f"{report.model} on {report.device}: {report.room}")
    print(f"the device copies {report.copy_gb_s:.0f} GB/s and multiplies {report.matrix_tflop_s:.1f} TFLOP/s")
    print("sequences  rows  canvas       ms       GB    GFLOP  of the roofline")
    for each in report.passes:
        print(
            f"{each.sequences:9d}{each.rows:6d}{each.canvas:8d}{each.ms:9.2f}{each.gigabytes:9.2f}{each.gigaflop:9.1f}"
            f"  {each.roofline:.0%} ({each.bound})"
        )
    long, line = report.long, report.line
    print(f"{long.prompt} -> {long.written} tokens: {long.tokens_s:.0f} tokens/s")
    print(f"a line: p50 {line.ms.p50:.1f} ms, p95 {line.ms.p95:.1f} ms, {line.passes:.1f} passes, ", end="")
    print(f"{line.tokens_a_pass:.2f} tokens accepted a pass, {line.complete:.0%} complete")
