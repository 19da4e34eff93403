"""small's weights in transformers' own Llama compute and write what they do here."""

from __future__ import annotations

import threading
from pathlib import Path

import llama_checkpoint
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trunk_pass import logits

from engine import FillRequest, public
from engine.backends.torch_runner import read_model
from engine.embedded import WEIGHTS
from engine.tokenizer import Tokenizer

SMALL = WEIGHTS / "small"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    llama_checkpoint.write(SMALL, made := tmp_path_factory.mktemp("hub") / "small")
    return made


def test_transformers_computes_the_same(checkpoint: Path) -> None:
    trunk = read_model(SMALL / "model.safetensors")
    tokens = torch.randint(10, trunk.config.vocab, (40,), generator=torch.Generator().manual_seed(2))
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        ours = logits(trunk.bfloat16().float(), tokens)
        torch.testing.assert_close(theirs(tokens[None]).logits[0], ours, atol=1e-3, rtol=1e-3)


def test_the_tokenizer_is_ours(checkpoint: Path) -> None:
    theirs, text = AutoTokenizer.from_pretrained(checkpoint), "def area(width):\n    return width * 2\n"
    assert theirs(text)["input_ids"] == Tokenizer.load(SMALL / "tokenizer.json").encode(text)


def test_small_writes_what_transformers_writes_with_it(checkpoint: Path) -> None:
    """The model as shipped, by the road of hub folders."""
    small = public.load(str(checkpoint), "cpu", "autoregressive")
    assert isinstance(small, public.Public)
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    request = FillRequest(prefix="def fibonacci(n):\n", max_tokens=8, copies=False)
    ids = torch.tensor([small.vocabulary.gap(request, 100).before])
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False)
    fill = small.fill(request, threading.Event())
    assert small.vocabulary.decode(expected[0, ids.shape[1] :].tolist()) == "\n" + fill.text
    assert fill.tokens + 1 == fill.passes == 9  # the line's end goes with the indentation after it
