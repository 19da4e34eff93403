"""What a public model costs on a device, beside what the device could do at best: all that a GPU has to show, in one
run of some minutes.

A pass reads all weights and its keys and values once, and multiplies each row with the weights: it cannot be faster
than those bytes over the device's copy bandwidth or those operations over its matrix rate, both measured here in the
same run (the roofline, of GPUs only: what a CPU's caches hold is not read from its memory). All numbers come from the
passes and fills that users get.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import torch
from torch import Tensor

from engine import Engine, public
from engine.backends.batch_runner import BatchRunner, SequencePass
from engine.backends.buckets import bucket
from engine.contract import EngineError
from engine.decoding.runner import ForwardInput
from engine.embedded import Embedded
from engine.evaluation.latency import timed, typing
from engine.evaluation.report import Times, times
from engine.models import checkpoint, diffusion_gemma
from engine.models.memory_plan import parameters
from engine.options import ModelChoice

LINES = 24  # fills of a line
RUNS = 10  # of what is timed
STEPS = (12, 20, 30)  # denoising passes that fills are asked for with
FEWEST = STEPS[0]


class Pass(msgspec.Struct):
    """`roofline` is the share of the device's best that a pass reaches, in [0, 1]; None on a CPU. Of devices that share
    a model, all is what one does.
    """

    rows: int
    canvas: int
    sequences: int
    ms: float
    passes_s: float  # of all sequences together
    gigabytes: float
    gigaflop: float
    bound: str
    roofline: float | None


class Lines(msgspec.Struct):
    """Fills of the rest of a line with so many `steps` a canvas, or for 32 rows in blocks. `tokens_a_pass` are those
    accepted; `complete` is the share that the model or the line's end ended.
    """

    steps: int
    ms: Times
    passes: float  # a fill, mean
    tokens_a_pass: float
    complete: float


class Costs(msgspec.Struct):
    """`peak_gb` is the most memory of the device that was taken, which `room` has planned; None on a CPU."""

    model: str
    device: str
    room: str
    peak_gb: float | None
    copy_gb_s: float
    matrix_tflop_s: float
    passes: list[Pass]
    lines: list[Lines]
    fills_s: dict[int, float]  # by how many users there are at once, each with a line of their own


def measure(choice: ModelChoice, text: str, lines: int = LINES, runs: int = RUNS) -> Costs:
    """Raises EngineError where the device is missing, or the model is none of the registry's."""
    if Embedded.holds(choice.model):
        raise EngineError("this times public models: give --model a folder or hub id, such as fredzzp/open-dcoder-0.5B")
    model, devices = choice.model, public.choose_devices(choice.device)
    where, dtype = devices[0], public.dtype_on(devices[0])
    config = checkpoint.read_config(model)
    if config.get("model_type") == diffusion_gemma.MODEL_TYPE:
        raise EngineError("DiffusionGemma runs in transformers' own passes, which this bench does not know")
    loaded, passes = public.load_runner(model, config, devices, choice.family)
    backend = public.make_backend(loaded, passes, choice.sampling)
    engine = Engine(backend, model)
    engine.fill(public.WARM_UP, threading.Event())
    best = copy_bandwidth(where), matrix_rate(where, dtype)
    costs = Costs(
        model=model,
        device=" and ".join(map(device_name, devices)),
        room=str(loaded.memory),
        peak_gb=None,
        copy_gb_s=best[0] / 1e9,
        matrix_tflop_s=best[1] / 1e12,
        passes=[_pass(passes, loaded, count, rows, best, runs) for count, rows in _sizes(passes, loaded)],
        lines=[_lines(engine, text, lines, steps) for steps in STEPS],
        fills_s={users: _together(engine, text, lines, users) for users in _counts(passes)},
    )
    if where.type == "cuda":
        costs.peak_gb = torch.cuda.max_memory_allocated(where) / 1e9
    return costs


def _counts(passes: BatchRunner) -> list[int]:
    """Sequences at once: one, and twice as many up to all."""
    return [count for count in (1, 2, 4, 8) if count <= passes.slots]


def _sizes(passes: BatchRunner, loaded: checkpoint.Checkpoint) -> list[tuple[int, int]]:
    """Sequences and rows of the passes that are timed: a canvas, and half a window with its canvas."""
    rows = (bucket(public.CANVAS // 2), bucket(min(loaded.memory.window, loaded.plan.shape.context) // 2))
    return [(count, each) for count in _counts(passes) for each in rows]


def _together(engine: Engine, text: str, count: int, users: int) -> float:
    """Fills a second."""
    requests = [msgspec.structs.replace(typed, steps=FEWEST) for typed in typing(text, count)]
    with ThreadPoolExecutor(users) as pool:
        started = time.perf_counter()
        fills = list(pool.map(lambda request: engine.fill(request, threading.Event()), requests))
    return len(fills) / (time.perf_counter() - started)


def _lines(engine: Engine, text: str, count: int, steps: int) -> Lines:
    """A line is typed: a fill at each character, as a server asks for it."""
    run = [timed(engine, msgspec.structs.replace(typed, steps=steps)) for typed in typing(text, count)]
    fills = [fill for _, fill in run]
    passes = sum(fill.passes for fill in fills)
    return Lines(
        steps=steps,
        ms=times(spent for spent, _ in run),
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
    passes: BatchRunner, loaded: checkpoint.Checkpoint, count: int, rows: int, best: tuple[float, float], runs: int
) -> Pass:
    """A pass of `rows` rows, the last of which are the canvas, of so many sequences."""
    canvas = min(rows, public.CANVAS // 2)
    model_input = ForwardInput([], [0] * canvas, [], [0])
    start = passes.capacity // 2
    asked = [
        SequencePass(slot, [1] * rows, start, start + rows, start + rows - canvas, model_input) for slot in range(count)
    ]
    spent = seconds_of(lambda: passes.predict(asked), passes.device, runs)
    shape, model = loaded.plan.shape, loaded.model
    kept = 2 * shape.layers * shape.kv_heads * shape.head_dim * model.embed.weight.element_size()
    head = model.head.weight
    blocks = sum(weight.numel() * weight.element_size() for weight in model.blocks.parameters())
    read_bytes = (blocks + head.numel() * head.element_size() + kept * passes.capacity * count) / shape.ranks
    scores = 4 * shape.layers * shape.heads * shape.head_dim * passes.capacity
    work = count * (rows * (2 * parameters(shape) + scores) + bucket(canvas) * 2 * head.numel()) / shape.ranks
    memory, matrix = read_bytes / best[0], work / best[1]
    return Pass(
        rows=rows,
        canvas=canvas,
        sequences=count,
        ms=spent * 1000,
        passes_s=count / spent,
        gigabytes=read_bytes / 1e9,
        gigaflop=work / 1e9,
        bound="bandwidth" if memory > matrix else "matrix rate",
        roofline=max(memory, matrix) / spent if passes.device.type == "cuda" else None,
    )
