"""A left-to-right model made into one of masked diffusion: rows are as inference puts gaps, and it learns to fill."""

from __future__ import annotations

import itertools
import random
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from test_llama_checkpoint import SHAPE, TOKENIZER
from transformers import AutoModelForCausalLM

from engine import Engine, FillRequest
from engine.__main__ import main
from engine.corpus import FileEntry
from engine.decoding.length import SIZES
from engine.evaluation.places import Place
from engine.models.family import Infill
from engine.models.trunk import Trunk, TrunkConfig
from engine.models.vocabulary import Vocabulary
from engine.tokenizer import BOS, EOM, MASK
from engine.training import adapt, hub
from engine.training.dataset import SamplerConfig
from engine.training.export import write
from engine.training.validation import shape_of

TEXT = "def area(width, height):\n    return width * height\n" * 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "corpus.bin").write_bytes(TEXT.encode())
    np.save(folder / "index.npy", np.array([0, len(TEXT)]))
    (folder / "files.jsonl").write_bytes(msgspec.json.encode(FileEntry("shapes", "shapes.py", len(TEXT))))
    return folder


def a_model(folder: Path) -> Path:
    """A tiny one of ours as it is exported, of random weights."""
    torch.manual_seed(1)
    trunk = Trunk(TrunkConfig(**SHAPE))
    for weight in trunk.parameters():
        if weight.ndim > 1:  # norms stay as they begin
            torch.nn.init.normal_(weight, std=0.05)
    write(trunk, shape_of(SamplerConfig(context=128)), TOKENIZER, 8, folder)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model(tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize("family", ["diffullama", "tiny-a2d"])
def test_what_it_writes_fills_as_a_public_model(family: str, exported: Path, corpus: Path, tmp_path: Path) -> None:
    asked = ["--model", str(exported), "--corpus", str(corpus), "--out", str(tmp_path / "made"), "--family", family]
    assert main(["train", "adapt", *asked, "--tokens", "500"]) == 0
    engine = Engine.load(str(tmp_path / "made"), "cpu", family)
    assert engine.fill(FillRequest(prefix=TEXT, copies=False), threading.Event()).tokens


@pytest.mark.parametrize("shift", [True, False])
def test_it_learns_what_it_is_shown(
    shift: bool, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "RATE", 1e-2)
    hub.write(exported, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    row = adapt.masked([BOS, 11, 12], [20, 21, EOM, EOM], [30, 31], random.Random(1))
    first = adapt.loss(model, row, shift).item()
    adapt.train(model, itertools.repeat(row), shift, 20 * adapt.BATCH * len(row.tokens))
    assert adapt.loss(model, row, shift).item() < first / 2


def test_rows_are_gaps_whose_canvas_holds_the_middle_and_ends(exported: Path, corpus: Path, tmp_path: Path) -> None:
    hub.write(exported, tmp_path / "hub")
    vocabulary = Vocabulary.load(tmp_path / "hub", Infill(mask=MASK, bos=True))
    whole = set[str]()
    for row in itertools.islice(adapt.rows(corpus, vocabulary), 60):
        size = len(row.targets)
        canvas = row.tokens[row.start : row.start + size]
        assert size in SIZES
        assert [at for at, token in enumerate(canvas) if token == MASK] == row.hidden != []
        assert all(token == target for token, target in zip(canvas, row.targets, strict=True) if token != MASK)
        middle = row.targets[: row.targets.index(EOM)]
        assert set(row.targets[len(middle) :]) == {EOM}
        before, after = row.tokens[: row.start], row.tokens[row.start + size :]
        whole.add(vocabulary.decode([*before, *middle, *after]))
    assert whole == {TEXT}


def test_a_gap_of_more_lines() -> None:
    place = Place("a.py", "python", "a = ", "1", "\nb\nc")
    assert [(target, request.suffix) for request, target in (adapt.longer(place, n) for n in range(4))] == [
        ("1", "\nb\nc"),
        ("1\nb", "\nc"),
        ("1\nb\nc", ""),
        ("1\nb\nc", ""),
    ]


def test_every_row_is_trained_to_see_what_stands_after_it(exported: Path, tmp_path: Path) -> None:
    hub.write(exported, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    row = adapt.masked([10, 11, 12], [20, 21, EOM, EOM], [30, 31], random.Random(1))
    other = msgspec.structs.replace(row, tokens=[*row.tokens[:-1], 99])
    with torch.no_grad():
        losses = [adapt.loss(model, each, True).item() for each in (row, other)]
    assert losses[0] != losses[1]
