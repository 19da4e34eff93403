"""A model shared among devices writes what it writes on one: two processes on the CPU."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest
import tiny_checkpoints as tiny

from engine import Engine, EngineError
from engine.backends.tensor_parallel import LeaderRunner
from engine.contract import FillRequest, Sampling
from engine.public import choose_devices

REQUESTS = [
    FillRequest(prefix="def add(a, b):\n    retur", suffix="\n\n\nclass Point:\n", max_tokens=8),
    FillRequest(prefix="x = 1\n" * 20, suffix="\n", max_tokens=10, steps=4, copies=False),
    FillRequest(prefix="x", suffix=")" * 30, max_tokens=6, sampling=Sampling(temperature=2.0, seed=3)),
]


def leader(engine: Engine) -> LeaderRunner:
    passes = engine._backend._spare.queue[0]._runner  # type: ignore[attr-defined]
    assert isinstance(passes, LeaderRunner)
    return passes


@pytest.mark.parametrize("family", ["open-dcoder", "sdar", "diffugpt"])
def test_two_processes_write_what_one_writes(family: str, tmp_path: Path) -> None:
    """Tied embeddings and biases, norms of queries and keys in blocks, GPT-2's; alternatives, and what is drawn."""
    folder = str(tiny.FAMILIES[family](tmp_path)[0])
    alone, shared = Engine.load(folder, "cpu"), Engine.load(folder, "cpu,cpu")
    block = leader(shared).model.blocks[0]
    assert 2 * len(block.qkv.weight.to_local()) == len(block.qkv.weight)  # type: ignore[union-attr, operator, arg-type]
    for request in REQUESTS:
        ours, theirs = (engine.fill(request, threading.Event()) for engine in (shared, alone))
        assert (ours.text, ours.tokens, ours.passes) == (theirs.text, theirs.tokens, theirs.passes)
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-4)
    processes = leader(shared)._others._processes
    assert [process.poll() for process in processes] == [None]
    processes[0].kill()
    processes[0].wait()
    with pytest.raises(EngineError, match="a process of a model on several devices has ended"):
        shared.fill(REQUESTS[0], threading.Event())


def test_processes_end_with_their_model(tmp_path: Path) -> None:
    engine = Engine.load(str(tiny.FAMILIES["sdar"](tmp_path)[0]), "cpu,cpu")
    [process] = leader(engine)._others._processes
    del engine
    gc.collect()
    assert process.wait(60) != 0


def test_what_cannot_be_shared_is_a_sentence(tmp_path: Path) -> None:
    folder = str(tiny.FAMILIES["sdar"](tmp_path)[0])
    with pytest.raises(EngineError, match="2 heads of keys and values, which 3 devices cannot share evenly"):
        Engine.load(folder, "cpu,cpu,cpu")
    with pytest.raises(EngineError, match=r"torch finds no cuda device|this machine has"):
        Engine.load(folder, "cuda:98,cuda:99")


def test_nothing_is_offloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert list(map(str, choose_devices("cuda:0,cuda:1"))) == ["cuda:0", "cuda:1"]
    with pytest.raises(EngineError, match="no part of a model is offloaded to the CPU or to disk"):
        choose_devices("cuda:0,cpu")
    with pytest.raises(EngineError, match="names a card twice"):
        choose_devices("cuda:0,cuda:0")
