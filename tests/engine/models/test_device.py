"""What a GPU needs, proven without one: everything stays on the model's device, nothing waits for it but the reading
of a pass's result, and passes compile whole and once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import pytest
import tiny_checkpoints as tiny
import torch
from torch import Tensor

from engine import public
from engine.backends.batch_runner import BatchRunner, BatchShape, SequencePass
from engine.backends.buckets import SIZES, bucket
from engine.backends.sampling import SAID
from engine.backends.sequence import Sequence
from engine.contract import FillRequest
from engine.decoding.runner import CanvasPredictions, ForwardInput
from engine.models import checkpoint, registry
from engine.models.int8 import shrink
from engine.models.transformer import Transformer

CPU = torch.device("cpu")
GAPS = [
    FillRequest(prefix="def add(a, b):\n    retur", suffix="\n\n\nclass Point:\n", max_tokens=12),
    FillRequest(prefix="x = 1\n" * 20, suffix="\n", max_tokens=40),
    FillRequest(prefix="x", suffix=")" * 30, max_tokens=20),
]


def loaded(family: str, at: Path, dtype: torch.dtype = torch.float32) -> checkpoint.Checkpoint:
    name = str(tiny.FAMILIES[family](at)[0])
    return checkpoint.load(name, checkpoint.read_config(name), CPU, dtype)


@pytest.mark.parametrize("family", ["dream", "sdar", "diffugpt", "mdlm"])
@pytest.mark.parametrize("int8", [False, True])
def test_a_pass_stays_on_its_device_and_waits_for_nothing(family: str, int8: bool, tmp_path: Path) -> None:
    """On the device `meta`, which any build of torch has, an operation with a tensor of the CPU fails, and so does one
    that needs a value on the host, such as a number read or an index made from a mask."""
    name = str(tiny.FAMILIES[family](tmp_path)[0])
    with torch.device("meta"):
        model = Transformer(registry.plan(checkpoint.read_config(name), name)[1].shape).to(torch.bfloat16)
        if int8:
            shrink(model.blocks)
    with torch.inference_mode():
        passes = BatchRunner(model, True, slots=3, capacity=64)
        for alone, count, shaped, guided in ((None, 3, False, True), (1, 1, False, False), (None, 3, True, False)):
            kind = BatchShape(32, 16, shaped, guided)
            place = passes._bucket(alone, kind)
            found = passes._pass(alone, kind, passes._dials[alone, kind], place.numbers)
            assert place.numbers.device.type == found.device.type == "meta"
            assert found.shape == (SAID + 1, count, 16)
        with pytest.raises((RuntimeError, NotImplementedError)):
            passes._pass(None, kind, passes._dials[None, kind], torch.zeros(place.numbers.shape, dtype=torch.int64))
        with pytest.raises((RuntimeError, NotImplementedError)):
            found.tolist()


@pytest.mark.parametrize("family", ["dream", "sdar"])
def test_passes_compile_whole_and_not_again_whatever_is_asked(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A break raises. One graph of a block and one of the summary for a sequence alone, and the same for several."""
    read = loaded(family, tmp_path)
    plain = [public.make_backend(read, public.make_runner(read)).fill(gap, threading.Event()) for gap in GAPS]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(public, "compiler", lambda device: "eager")
    backend = public.make_backend(read, public.make_runner(read))
    fills = []
    for gap in GAPS:
        fills.append(backend.fill(gap, threading.Event()))
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert graphs == (4 if not read.plan.shape.block and read.vocabulary.infill.expand is None else 2)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert [fill.text for fill in fills] == [fill.text for fill in plain]
    assert len(backend._spare.queue[-1]._runner._buckets) > 2  # of several shapes


def test_a_captured_pass_reads_its_numbers_from_where_it_was_captured(tmp_path: Path) -> None:
    """A graph sees only what is written to the tensors that it was captured with, and answers in one of its own."""
    read = loaded("dream", tmp_path)
    plain = [public.make_backend(read, public.make_runner(read)).fill(gap, threading.Event()) for gap in GAPS]
    captures = []

    def captured(run: partial[Tensor]) -> Callable[[], Tensor]:
        found = run()
        captures.append(run.args[:2])
        return lambda: found.copy_(run())

    passes = public.make_runner(read)
    passes._buckets.capture = captured  # type: ignore[assignment]
    backend = public.make_backend(read, passes)
    for _ in range(2):
        assert [backend.fill(gap, threading.Event()).text for gap in GAPS] == [fill.text for fill in plain]
    assert len(captures) == len(set(captures)) == len(passes._buckets)


@pytest.mark.parametrize("family", ["llada", "sdar"])
def test_what_is_captured_at_load_is_what_fills_take(family: str, tmp_path: Path) -> None:
    read = loaded(family, tmp_path)
    passes = public.make_runner(read)
    backend = public.make_backend(read, passes)
    for gap in GAPS:
        backend.fill(msgspec.structs.replace(gap, max_tokens=64), threading.Event())
    taken, ready = sizes(passes), set(public.warm_up_shapes(read))
    assert len(taken) > 2
    assert taken <= ready
    for each in ready - taken:
        passes.warm_up(*each)
    assert sizes(passes) == ready


def test_buckets_waste_at_most_half() -> None:
    assert all(bucket(size) >= size for size in range(1, SIZES[-1] + 9))
    assert all(bucket(size) <= max(size + 16, 1.5 * size) for size in range(1, SIZES[-1]))


def questions(count: int) -> list[ForwardInput]:
    return [ForwardInput([7, 50, 61 + n], [tiny.MASK] * (4 + n), [33, 44], [tiny.MASK]) for n in range(count)]


def same(ours: CanvasPredictions, theirs: CanvasPredictions) -> None:
    assert ours.tokens == theirs.tokens
    assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)


@pytest.mark.parametrize("family", ["dream", "sdar"])
def test_alternatives_are_one_pass_and_as_good_as_apart(family: str, tmp_path: Path) -> None:
    read = loaded(family, tmp_path)
    passes = BatchRunner(read.model, read.plan.infill.shift, slots=3, capacity=64)
    backend = public.make_backend(read, passes)
    ran = counted(passes)
    apart = []
    for question in questions(5):
        alone = Sequence(BatchRunner(read.model, read.plan.infill.shift, capacity=64))
        apart += alone.predict([question])
    own = backend._spare.get()
    own.begin()
    for ours, theirs in zip(own.predict(questions(5)), apart, strict=True):
        same(ours, theirs)
    assert ran == [3, 2]  # three slots
    chosen = questions(5)[4]
    [again] = own.predict([chosen])
    same(again, apart[4])
    own.end()
    assert backend._spare.qsize() == 2


def sizes(passes: BatchRunner) -> set[tuple[int | None, int, int]]:
    """Of the buckets that were made."""
    return {(alone, kind.rows, kind.canvas) for alone, kind in passes._buckets}


def counted(passes: BatchRunner) -> list[int]:
    """Sequences of each pass from now on."""
    ran: list[int] = []
    run = passes._passed

    def watched(asked: list[SequencePass], kind: BatchShape) -> object:
        ran.append(len(asked))
        return run(asked, kind)

    passes._passed = watched  # type: ignore[method-assign, assignment]
    return ran


def test_an_alternative_that_is_chosen_goes_on_where_its_pass_left_off(tmp_path: Path) -> None:
    read = loaded("dream", tmp_path)
    passes = BatchRunner(read.model, True, slots=3, capacity=64)
    own = public.make_backend(read, passes)._spare.get()
    own.begin()
    first = own.predict(questions(3))
    asked = own.ask(questions(3)[1])
    assert asked.slot == own.slot
    assert len(asked.tokens) == len(asked.model_input.canvas) + 1  # the canvas and, for the shift, the row before it
    same(passes.predict([asked])[0].predictions, first[1])


def test_concurrent_requests_share_passes_and_get_what_they_would_get_alone(tmp_path: Path) -> None:
    read = loaded("dreamon", tmp_path)
    passes = BatchRunner(read.model, True, slots=4, capacity=512)
    backend = public.make_backend(read, passes)
    gaps = [FillRequest(prefix=f"a{n} = ", suffix="\n", max_tokens=12) for n in range(8)]
    alone = [backend.fill(gap, threading.Event()) for gap in gaps]
    ran = counted(passes)
    start = threading.Barrier(len(gaps))

    def one(gap: FillRequest) -> str:
        start.wait()
        return backend.fill(gap, threading.Event()).text

    with ThreadPoolExecutor(len(gaps)) as pool:
        assert list(pool.map(one, gaps)) == [fill.text for fill in alone]
    assert max(ran) > 1
    assert len(ran) < sum(fill.passes for fill in alone)


def test_weights_are_read_in_the_type_asked_for(tmp_path: Path) -> None:
    model = loaded("dream", tmp_path, torch.bfloat16).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.memory(8).dtype == torch.bfloat16


def test_bfloat16_writes_nearly_what_float32_writes(tmp_path: Path) -> None:
    exact, half = (loaded("sdar", tmp_path / kind, getattr(torch, kind)) for kind in ("float32", "bfloat16"))
    ids = torch.randint(4, tiny.VOCAB, (1, 26), generator=torch.Generator().manual_seed(0))
    ours, theirs = (tiny.passed(read.model, ids, read.model.memory(32)).float().softmax(-1) for read in (half, exact))
    assert (ours - theirs).abs().sum(-1).mean() < 0.05  # twice the total variation, of a row
