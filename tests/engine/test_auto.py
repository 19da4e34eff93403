"""small hands over to a better model where that keeps the deadline, and what is read ahead changes no text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import msgspec
import pytest
import torch

from engine import Cancelled, Engine, EngineError, Fill, FillRequest, auto
from engine.auto import Auto
from engine.backends.kv_cache import ModelShape
from engine.backends.pace import LAST, Pace
from engine.embedded import LINE, ROWS, SLICES, WEIGHTS, Embedded
from engine.models.trunk import Trunk, TrunkConfig
from engine.training.export import write

LLAMA = TrunkConfig(vocab=16384, dim=64, layers=2, heads=4, shared=2, head_dim=16, mlp=96)
LONG = 256  # tokens
TEXT = Path(__file__).with_name("sample.txt").read_text(encoding="utf-8")
PLACE = TEXT.index("def fahrenheit(") + len("def fahrenheit(")
ASKED = FillRequest(prefix=TEXT[:PLACE], suffix=TEXT[TEXT.index("\n", PLACE) :], max_lines=1)
HOUR = 3_600_000.0  # ms


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model shaped as small is, of random weights."""
    made = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(1)
    trunk = Trunk(LLAMA)
    for weight in trunk.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    shape = ModelShape(context=LONG)
    write(trunk, shape, WEIGHTS / "small" / "tokenizer.json", 8, made)
    return made


@pytest.fixture
def tiny(folder: Path) -> Embedded:
    return Embedded.load(str(folder))


def paced(model: Embedded, seconds: float) -> None:
    """Have a model's passes cost so much, whatever they did."""
    model._model.pace = Fixed(seconds)


class Fixed(Pace):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._each = seconds

    def seconds(self, rows: int) -> float:
        return rows * self._each


def asked(deadline_ms: float | None) -> FillRequest:
    return msgspec.structs.replace(ASKED, deadline_ms=deadline_ms)


def fill(model: Embedded | Auto, deadline_ms: float | None) -> Fill:
    return model.fill(asked(deadline_ms), threading.Event())


class Stops(threading.Event):
    """Is set when it was looked at so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


# ---------------------------------------------------------------- reading ahead


def test_the_pace_is_the_median_of_the_last_passes_of_about_as_many_rows() -> None:
    pace = Pace()
    assert pace.seconds(1) == float("inf")
    for seconds in [9.0] * LAST + [1.0] * LAST:
        pace.note(1, seconds)
    pace.note(16, 4.0)
    assert (pace.seconds(1), pace.seconds(16), pace.seconds(64)) == (1.0, 4.0, 16.0)
    assert 1.0 < pace.seconds(8) < 4.0
    pace.note(1, 100.0)
    assert pace.seconds(1) == 1.0


def test_reading_ahead_changes_no_text(tiny: Embedded, folder: Path) -> None:
    unread = fill(Embedded.load(str(folder)), None)
    assert tiny.read(ASKED, threading.Event())
    read = fill(tiny, None)
    assert read.text == unread.text != ""
    assert read.confidence == pytest.approx(unread.confidence)
    assert (read.encoded, read.reused) == (0, unread.encoded + unread.reused)


def test_what_is_unread_and_what_passes_cost_decide_whether_there_is_time(tiny: Embedded) -> None:
    paced(tiny, 0.001)
    assert not tiny.meets_deadline(asked(50.0))
    tiny.read(ASKED, threading.Event())
    paced(tiny, 0.001)
    assert tiny.meets_deadline(asked(50.0))
    paced(tiny, 0.1)
    assert not tiny.meets_deadline(asked(50.0))


def test_loading_measures_what_passes_of_few_rows_cost(tiny: Embedded) -> None:
    """An estimate that nothing was measured for would keep a model from ever answering."""
    assert {rows.bit_length() for rows in (1, 2, ROWS)} <= tiny._model.pace._passes.keys()
    assert tiny.meets_deadline(asked(1000 * (LINE + 1) * tiny._model.pace.seconds(tiny._model.shape.context)))


def test_a_cancelled_reading_goes_on_where_it_was(tiny: Embedded) -> None:
    paced(tiny, 1.0)  # so slow that few tokens are read at once
    model, context = tiny._model, tiny._seen(ASKED)[1].context
    known = len(context) - model.num_uncached(context)
    with pytest.raises(Cancelled):
        tiny.read(ASKED, Stops(2))
    assert model.sequence == context[: known + 2 * SLICES[-1]]
    tiny.read(ASKED, threading.Event())
    assert model.sequence == context


def test_nothing_that_is_read_within_a_deadline_is_lost(tiny: Embedded) -> None:
    paced(tiny, 1.0)
    first = fill(tiny, 0.0001)
    assert (first.text, first.complete) == ("", False)
    for _ in range(LONG):
        paced(tiny, 1.0)
        if (made := fill(tiny, 0.5)).reused == made.encoded + made.reused:
            break
    assert made.reused > 2 * SLICES[-1]


def test_memories_are_bounded_by_their_size(tiny: Embedded) -> None:
    model = tiny._model
    assert model.memories == 4
    model.capacity = 1 << 20
    assert model._fitting(64) == 0


# ---------------------------------------------------------------- auto


@pytest.fixture
def better(small: Embedded, tiny: Embedded) -> Iterator[tuple[Auto, Embedded, Future[Embedded]]]:
    """`auto` of small and the tiny model, which is loaded when the future is done."""
    loaded: Future[Embedded] = Future()
    yield Auto(small, {"tiny": loaded.result}), tiny, loaded
    if not loaded.done():
        loaded.set_result(tiny)


def test_small_answers_until_the_better_model_is_loaded_and_fast_enough(
    small: Embedded, better: tuple[Auto, Embedded, Future[Embedded]]
) -> None:
    both, tiny, loaded = better
    first = fill(both, HOUR)
    assert (first.model, first.text, first.whole_window) == ("small", fill(small, HOUR).text, False)
    assert not both.read(asked(HOUR), threading.Event())
    loaded.set_result(tiny)
    assert fill(both, None).model == "tiny"  # waits for it
    paced(tiny, 0.001)
    tiny.read(ASKED, threading.Event())
    paced(tiny, 0.001)
    quick, invoked = fill(both, 5.0), fill(both, 400.0)
    assert (quick.model, invoked.model) == ("small", "tiny")
    assert both.read(asked(5.0), threading.Event())


def test_the_best_that_keeps_the_deadline_answers(small: Embedded, folder: Path) -> None:
    base, large = Embedded.load(str(folder)), Embedded.load(str(folder))
    base.name, large.name = "base", "large"
    ladder = Auto(small, {"base": lambda: base, "large": lambda: large})
    assert fill(ladder, None).model == "large"  # who has no deadline waits for the best
    ladder.read(ASKED, threading.Event())
    for seconds, answers in ((0.001, "large"), (1.0, "base")):
        paced(base, 0.001)
        paced(large, seconds)
        made = fill(ladder, 400.0)
        assert (made.model, made.whole_window) == (answers, answers == "large")


def test_a_better_model_that_cannot_be_loaded_is_told_of(small: Embedded) -> None:
    broken: Future[Embedded] = Future()
    broken.set_exception(EngineError("its files are damaged"))
    both = Auto(small, {"base": broken.result})
    made = fill(both, None)
    assert made.model == "small"
    assert made.instead == "small answers instead of base: its files are damaged."
    assert both.read(ASKED, threading.Event())


def test_without_a_better_model_auto_is_small() -> None:
    made = auto.load().fill(ASKED, threading.Event())
    assert (made.model, made.instead, made.whole_window) == ("small", "", True)


def test_auto_says_when_there_is_no_model_to_take_the_better_ones_place(tmp_path: Path) -> None:
    made = Engine.load(f"auto:{tmp_path}").fill(asked(None), threading.Event())
    assert made.model == "small"
    assert made.instead.startswith(f"small answers instead of {tmp_path}: no model '{tmp_path}'")
