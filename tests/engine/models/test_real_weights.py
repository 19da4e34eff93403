"""A real model through the road of hub folders: its own tokenizer, one token a pass, int8, several at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import smollm2
import torch
from transformers import AutoModelForCausalLM

from engine import public
from engine.contract import FillRequest
from engine.models import checkpoint, memory_plan

CPU = torch.device("cpu")
SUM = FillRequest(
    prefix='def add(a, b):\n    """Return the sum."""\n    retur', suffix="\n", max_lines=1, max_tokens=12
)
NAME = FillRequest(prefix="import numpy as ", suffix="\n\nx = np.zeros(3)\n", max_lines=1, max_tokens=12)
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder() -> Path:
    return smollm2.folder()


def backend(folder: Path) -> public.Public:
    config = checkpoint.read_config(str(folder))
    read = checkpoint.load(str(folder), config, CPU, torch.float32, "autoregressive")
    return public.make_backend(read, public.make_runner(read))


@pytest.fixture(scope="module")
def plain(folder: Path) -> public.Public:
    return backend(folder)


def test_it_completes_code(plain: public.Public) -> None:
    """Several at once say what one says alone."""
    with ThreadPoolExecutor() as pool:
        added, named = pool.map(lambda request: plain.fill(request, threading.Event()), (SUM, NAME))
    assert added.text == "n a + b"
    assert added.confidence > 0.5
    assert named.text.startswith("np")
    assert plain.fill(NAME, threading.Event()).text == named.text


def test_it_writes_what_transformers_writes(folder: Path, plain: public.Public) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    request = FillRequest(prefix="def fibonacci(n):\n", max_tokens=8)
    ids = torch.tensor([plain.vocabulary.gap(request, 100).before])
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False)
    fill = plain.fill(request, threading.Event())
    assert plain.vocabulary.decode(expected[0, ids.shape[1] :].tolist()).startswith("\n" + fill.text)
    assert fill.tokens + 1 == fill.passes == 9  # the line's end goes with the indentation after it


@pytest.mark.parametrize("before", ["", "\n", "    ", "    total = a + b\n\n    "])
def test_a_line_begins_as_the_tokenizer_has_it(plain: public.Public, before: str) -> None:
    """It makes one token of a line's end and the indentation after it."""
    request = msgspec.structs.replace(SUM, prefix=SUM.prefix.removesuffix("    retur") + before)
    assert plain.fill(request, threading.Event()).text.strip() in ("return a + b", "return total")


def test_int8_completes_it_too(folder: Path, plain: public.Public, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = checkpoint.load(
        str(folder), checkpoint.read_config(str(folder)), CPU, torch.float32, "autoregressive"
    ).memory
    monkeypatch.setattr(memory_plan, "fit", lambda *_: msgspec.structs.replace(chosen, int8=True))
    narrow = backend(folder).fill(SUM, threading.Event())
    wide = plain.fill(SUM, threading.Event())
    assert narrow.text == wide.text
    assert narrow.confidence == pytest.approx(wide.confidence, abs=0.05)
    assert narrow.confidence != wide.confidence
