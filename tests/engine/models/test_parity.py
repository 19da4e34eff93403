"""Our rules unmask what the authors' own samplers unmask, token for token: traces.safetensors, by make_traces.py."""

from __future__ import annotations

import threading

import msgspec
import pytest
import synthetic
from safetensors import safe_open
from synthetic import EOS, EXPAND, MASK, Case, Table

from engine.contract import FillRequest
from engine.decoding import length
from engine.decoding.canvas import Canvas
from engine.decoding.denoise import Task, unmask
from engine.decoding.limits import Limits
from engine.decoding.runner import Gap
from engine.decoding.unmasking import Policy, above, chosen


class NoSpelling:
    ended = False
    ends, end = frozenset[int](), None

    def encode(self, text: str) -> list[int]:
        return []

    def decode(self, tokens: list[int]) -> str:
        return ""


with safe_open(synthetic.TRACES, framework="pt") as file:
    TRACES = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    CASES = [msgspec.json.decode(file.metadata()[f"case.{at}"], type=Case) for at in range(len(file.metadata()))]


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=lambda at: f"{CASES[at].reference}-{CASES[at].sampling.alg}-{at}"
)
def test_what_is_revealed_is_what_the_reference_reveals(number: int) -> None:
    case = CASES[number]
    expands, broadcast = case.reference == "dreamon", case.sampling.pad_eos_to_right is not False
    limits = Limits(FillRequest(prefix="", max_tokens=20), NoSpelling(), threading.Event())

    def settle(canvas: Canvas) -> None:
        if expands:
            length.resize(canvas, EXPAND, frozenset({EOS}), synthetic.LONGEST, broadcast)

    def suppressed(canvas: Canvas) -> list[int]:
        full = expands and not length.can_expand(canvas, len(canvas.tokens), synthetic.LONGEST)
        return [MASK, EXPAND] if full else [MASK]

    task = Task(Gap(case.prefix, case.suffix), MASK, settle, suppressed, lambda canvas, done=None: None)
    usual = Policy(rule=above(), passes=case.steps)
    policy = chosen(case.sampling, usual, frozenset({EOS}), one_each=expands)
    canvas = Canvas.masked(MASK, case.canvas)
    unmask(Table(TRACES, case), task, canvas, policy, limits)
    assert canvas.tokens == TRACES[f"canvas.{number}"].tolist()
    assert limits.passes <= case.steps


def test_the_traces_tell_the_algorithms_apart() -> None:
    dream = {tuple(TRACES[f"canvas.{at}"].tolist()) for at, case in enumerate(CASES) if case.reference == "dream"}
    assert len(dream) >= 6
    lengths = {len(TRACES[f"canvas.{at}"]) for at, case in enumerate(CASES) if case.reference == "dreamon"}
    assert len(lengths) > 1 and lengths != {6}
    assert len({case.reference for case in CASES}) == 4
