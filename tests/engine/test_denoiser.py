"""A denoiser on the trunk's features: alike in ONNX Runtime and torch, trained by the trainer, never in the text."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

import engine
from engine import FillRequest
from engine.__main__ import main
from engine.backends.onnx import OnnxPasses
from engine.backends.torch_passes import TorchPasses, read_model
from engine.contract import Fill
from engine.corpus import FileEntry
from engine.decoding.passes import Question
from engine.embedded import WEIGHTS, Embedded
from engine.models.denoiser import Denoiser
from engine.models.trunk import Trunk, TrunkConfig
from engine.tokenizer import MASK, Tokenizer
from engine.training import export
from engine.training.dataset import NONE, Sampler, SamplerConfig, to_torch
from engine.training.objective import DraftObjective

TOKENIZER = WEIGHTS / "nano" / "tokenizer.json"
SHAPE = {"vocab": 8192, "dim": 64, "layers": 3, "heads": 4, "shared": 2, "head_dim": 16, "mlp": 96, "gated": True}
KIND = {"weighted_norms": True, "qk_norm": False, "embed_norm": False, "tied": True, "ngram_buckets": 0}
DRAFTS = {"layers": 2, "depths": [0, 2], "vocab": 512, "canvas": 6}
CONFIG = msgspec.convert({**SHAPE, **KIND, "denoiser": DRAFTS}, TrunkConfig)
TRAINED = {
    "model": msgspec.to_builtins(CONFIG),
    "sampler": {"context": 96, "tail": 64, "canvases": 0, "marks_empty_rest": False},
    "batch": 2,
    "micro_batch": 2,
    "warmup": 1,
    "lr_muon": 0,
    "lr_adam": 0.01,
    "drafts": 8,
    "workers": 1,
}
PLACES = [("def mean(values):\n    return ", "\n"), ("import os\n\n\nclass Reader:\n    def ", ":\n        pass\n")]


def corpus(folder: Path) -> Path:
    """The engine's own sources, laid out as `train corpus` does."""
    for part in (folder, folder / "validation"):
        part.mkdir(parents=True)
        texts = [path.read_bytes() for path in sorted(Path(engine.__file__).parent.glob("*.py"))]
        (part / "corpus.bin").write_bytes(b"".join(texts))
        np.save(part / "index.npy", np.cumsum([0, *map(len, texts)]))
        entries = [msgspec.json.encode(FileEntry("inpaint", "engine/x.py", len(text))) for text in texts]
        (part / "files.jsonl").write_bytes(b"\n".join(entries))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a denoiser, exported."""
    torch.manual_seed(3)
    trunk = Trunk(CONFIG)
    for weight in trunk.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    denoiser = Denoiser(trunk, list(range(100, 612)))
    torch.nn.init.normal_(denoiser.fuse.weight, std=0.3)
    out = tmp_path_factory.mktemp("model")
    shape = export.shape_of(trunk, SamplerConfig(context=128, canvases=0, marks_empty_rest=False))
    export.write(trunk, denoiser, shape, TOKENIZER, 8, out)
    return out


def test_a_step_in_onnx_is_that_of_torch(folder: Path) -> None:
    embedded = Embedded.load(str(folder))
    onnx = embedded._model
    assert isinstance(onnx, OnnxPasses)
    assert onnx.denoises
    trunk, denoiser = read_model(folder / "model.safetensors")
    in_torch = TorchPasses(trunk, onnx.shape, torch.device("cpu"), denoiser)
    text = torch.randint(10, 8000, (60,), generator=torch.Generator().manual_seed(1)).tolist()
    question = Question(text, [200, MASK, 300, MASK, MASK, MASK])
    for read in (20, 45, 60):  # in passes of several sizes, after others
        for model in (onnx, in_torch):
            model.guess([Question(text[:read], [MASK], read=0)])
    theirs, ours = (model.guess([question])[0] for model in (onnx, in_torch))
    assert ours.tokens == theirs.tokens
    assert ours.probabilities == pytest.approx(theirs.probabilities, rel=0.05)  # the products' activations are int8
    assert {*ours.tokens} <= {*range(100, 612)}
    assert onnx.sequence == in_torch.sequence == text


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("place", PLACES)
def test_drafts_do_not_change_the_text(folder: Path, place: tuple[str, str], steps: int) -> None:
    prefix, suffix = place
    model = Embedded.load(str(folder))
    asked = FillRequest(prefix=prefix, suffix=suffix, max_tokens=24, steps=steps, copies=False)

    def fill(**changes: bool) -> Fill:
        return model.fill(msgspec.structs.replace(asked, **changes), threading.Event())

    drafted, plain = fill(), fill(drafts=False)
    assert drafted.text == plain.text
    assert plain.passes >= drafted.passes > 0


def test_canvases_are_put_where_the_trunk_agrees_and_count_no_further(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk = Trunk(CONFIG)
    torch.nn.init.normal_(trunk.embed.weight)
    objective = DraftObjective(trunk, Denoiser(trunk, list(range(512))), 16, torch.float32)
    sampler = Sampler(
        engine.corpus.Corpus(corpus(tmp_path / "corpus")),
        Tokenizer.load(TOKENIZER),
        SamplerConfig(context=96, tail=64, canvases=0, marks_empty_rest=False),
        seed=1,
    )
    batch = to_torch(sampler.batch(2))
    canvas, labels, logits = objective.drafted(*batch)
    assert canvas.shape == labels.shape == (2, 16, 6)
    assert logits.shape == (2, 16, 6, 512)
    assert (labels[..., 0] == NONE).all(), "the first token is known"
    assert ((canvas == NONE) | (labels == NONE)).all(), "what is shown is not asked for"


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three steps; where the data and the state are, as options."""
    at = tmp_path_factory.mktemp("trained")
    (at / "config.json").write_text(json.dumps(TRAINED))
    (folder / "NOTICE").write_text("derived")
    places = ["--corpus", str(corpus(at / "corpus")), "--tokenizer", str(TOKENIZER), "--state", str(at / "state")]
    begun = ["--base", str(folder / "model.safetensors"), "--config", str(at / "config.json"), "--steps", "3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_COMPILE_DISABLE", "1")  # compiling takes longer than these steps
        assert main(["train", "run", *places, *begun]) == 0
    return places


def test_the_trainer_trains_it_on_a_trunk_that_stays(folder: Path, trained: list[str]) -> None:
    trunk, denoiser, _, progress = export.averaged(Path(trained[-1]))
    assert progress.step == 3
    shipped, before = read_model(folder / "model.safetensors")
    assert all(torch.equal(one, other) for one, other in zip(trunk.parameters(), shipped.parameters(), strict=True))
    assert denoiser is not None and before is not None
    assert any(not torch.equal(a, b) for a, b in zip(denoiser.parameters(), before.parameters(), strict=True))


def test_what_is_exported_has_a_card_with_what_was_measured(
    trained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = {"package": "inpaint", "version": "1", "use": "train", "licence": "Apache-2.0", "files": 9, "bytes": 9000}
    (Path(trained[1]) / "report.json").write_text(json.dumps({"packages": [package]}))
    monkeypatch.setattr(export, "PLACES", 3)
    monkeypatch.setattr(export, "ROWS", 2)
    assert main(["train", "export", *trained, "--out", str(tmp_path / "tiny"), "--bits", "6"]) == 0
    card = (tmp_path / "tiny" / "README.md").read_text()
    assert card.startswith("# tiny\n")
    assert "| python | as shipped | 3 |" in card
    assert "| as stored |" in card
    assert "inpaint\t1\tApache-2.0\t0.0\n" in (tmp_path / "tiny" / "packages.tsv").read_text()
    assert (tmp_path / "tiny" / "NOTICE").read_text() == "derived"
    fill = Embedded.load(str(tmp_path / "tiny")).fill(FillRequest(prefix="x = "), threading.Event())
    assert fill.passes > 0
