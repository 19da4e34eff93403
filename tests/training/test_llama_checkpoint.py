"""The trunk as a Llama checkpoint: transformers computes what we do, and the engine reads it back as a public model."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trunk_pass import logits

from engine import Engine, EngineError, FillRequest, public
from engine.backends.torch_runner import read_model
from engine.embedded import WEIGHTS
from engine.models.trunk import Trunk, TrunkConfig
from engine.models.vocabulary import SUFFIX_FIRST
from engine.tokenizer import BOS, EOM, MID, PRE, SUF, Tokenizer
from engine.training import hub
from engine.training.dataset import SamplerConfig
from engine.training.export import write
from engine.training.validation import shape_of

TOKENIZER = WEIGHTS / "small" / "tokenizer.json"
SHAPE = {"vocab": 16384, "dim": 96, "layers": 2, "heads": 6, "shared": 3, "head_dim": 16, "mlp": 128}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    trunk = Trunk(TrunkConfig(**SHAPE))
    for weight in trunk.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    folder = tmp_path_factory.mktemp("exported")
    write(trunk, shape_of(SamplerConfig(context=128)), TOKENIZER, 8, folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    hub.write(exported, made := tmp_path_factory.mktemp("hub") / "made")
    return made


def test_transformers_computes_the_same(exported: Path, checkpoint: Path) -> None:
    trunk = read_model(exported / "model.safetensors")
    tokens = torch.randint(10, 16384, (40,), generator=torch.Generator().manual_seed(2))
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        ours = logits(trunk.bfloat16().float(), tokens)
        torch.testing.assert_close(theirs(tokens[None]).logits[0], ours, atol=1e-3, rtol=1e-3)


def test_the_tokenizer_is_ours_with_the_marks_that_others_know(checkpoint: Path) -> None:
    theirs, text = AutoTokenizer.from_pretrained(checkpoint), "def area(width):\n    return width * 2\n"
    assert theirs(text)["input_ids"] == Tokenizer.load(TOKENIZER).encode(text)
    assert theirs.convert_tokens_to_ids(list(SUFFIX_FIRST)) == [SUF, PRE, MID]
    assert (theirs.bos_token_id, theirs.eos_token_id) == (BOS, EOM)


def test_the_engine_fills_with_it_as_with_a_public_model(checkpoint: Path) -> None:
    engine = Engine.load(str(checkpoint), "cpu")
    fill = engine.fill(FillRequest(prefix="import os\n\ndef f(", suffix="):\n", max_tokens=6), threading.Event())
    assert fill.tokens == 6


def test_small_writes_what_transformers_writes_with_it(tmp_path: Path) -> None:
    """The model as shipped, by the road of hub folders."""
    hub.write(WEIGHTS / "small", tmp_path / "small")
    small = public.load(str(tmp_path / "small"), "cpu", "autoregressive")
    assert isinstance(small, public.Public)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32)
    request = FillRequest(prefix="def fibonacci(n):\n", max_tokens=8, copies=False)
    ids = torch.tensor([small.vocabulary.gap(request, 100).before])
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False)
    fill = small.fill(request, threading.Event())
    assert small.vocabulary.decode(expected[0, ids.shape[1] :].tolist()) == "\n" + fill.text
    assert fill.tokens + 1 == fill.passes == 9  # the line's end goes with the indentation after it


def test_another_shape_is_refused(tmp_path: Path) -> None:
    trunk = Trunk(TrunkConfig(**SHAPE, qkv_bias=True))
    write(trunk, shape_of(SamplerConfig(context=128)), TOKENIZER, 8, tmp_path / "biased")
    with pytest.raises(EngineError, match="not shaped as a Llama"):
        hub.write(tmp_path / "biased", tmp_path / "out")
