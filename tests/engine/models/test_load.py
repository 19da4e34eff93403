"""`Engine.load` takes our model, a folder or a hub id; the embedded model is equal in torch."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
import tiny_checkpoints as tiny
import torch

from engine import Engine, EngineError, FillRequest, stored
from engine.backends.kv_cache import ModelShape
from engine.backends.onnx import OnnxRunner, session
from engine.backends.torch_runner import TorchRunner, read_model
from engine.embedded import WEIGHTS, Embedded
from engine.models.trunk import Trunk, TrunkConfig
from engine.training.export import packed
from engine.training.graph import build

REQUEST = FillRequest(prefix="def add(a, b):\n    ", suffix="\n", max_tokens=8)


def test_a_folder_of_a_public_checkpoint(tmp_path: Path) -> None:
    folder, _ = tiny.FAMILIES["sdar"](tmp_path)
    assert Engine.load(str(folder), "cpu").fill(REQUEST, threading.Event()).tokens <= 8


def test_names_that_are_nobodys() -> None:
    with pytest.raises(EngineError, match="no model 'nani'"):
        Engine.load("nani")


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for model in ("small", str(tiny.FAMILIES["sdar"](tmp_path)[0])):
        with pytest.raises(EngineError, match="finds no cuda device"):
            Engine.load(model, "cuda")


def test_without_torch_a_public_checkpoint_says_what_to_install(tmp_path: Path) -> None:
    folder, _ = tiny.FAMILIES["sdar"](tmp_path)
    script = f"""
import sys
sys.modules["torch"] = None
from engine import Engine, EngineError
try:
    Engine.load({str(folder)!r})
except EngineError as error:
    sys.exit("inpaint-lsp[gpu]" not in str(error))
sys.exit(3)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=120, check=False).returncode == 0


def test_the_embedded_model_in_torch_equals_onnx() -> None:
    """The same random weights, passes with memory and forgetting in between."""
    torch.manual_seed(5)
    config = TrunkConfig(vocab=300, dim=64, layers=2, heads=2, head_dim=32, mlp=128)
    model = Trunk(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    shape = ModelShape(context=256)
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    ours = TorchRunner(model, shape, torch.device("cpu"))
    theirs = OnnxRunner(session(build(config, 512, weights).SerializeToString(), weights, threads=1), shape)
    text = torch.randint(10, 300, (120,)).tolist()
    for passed, results, forget in ((40, 9, 40), (5, 1, 43), (60, 17, 100), (1, 1, 0)):
        begin = len(ours.sequence)
        rows = [each.forward(text[begin : begin + passed], results) for each in (ours, theirs)]
        assert rows[0].tokens == rows[1].tokens
        assert rows[0].probabilities == pytest.approx(rows[1].probabilities, abs=1e-4)
        ours.truncate(forget or len(ours.sequence))
        theirs.truncate(forget or len(theirs.sequence))
    assert ours.sequence == theirs.sequence


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_the_embedded_models_weights_in_few_bits(bits: int, tmp_path: Path) -> None:
    model = Trunk(config := TrunkConfig(vocab=300, dim=64, layers=1, heads=2, head_dim=32, mlp=128))
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    weights = {name: packed(weight.detach().numpy(), bits) for name, weight in model.named_parameters()}
    stored.write(tmp_path / "model.safetensors", weights, msgspec.json.encode(config).decode())
    allowed = {4: 0.12, 5: 0.06, 6: 0.03, 8: 0.008}[bits]  # of the weights' size, for normal weights
    after = read_model(tmp_path / "model.safetensors").state_dict()
    for name, before in model.state_dict().items():
        assert float((before - after[name]).square().mean().sqrt() / before.std()) < allowed


def test_the_shipped_model_in_torch_writes_what_it_writes_in_onnx(small: Embedded) -> None:
    in_torch, in_onnx = Embedded.load("small", torch.device("cpu")), small
    prefix = "import os\n\n\ndef main() -> None:\n    for name in os.listdir("
    request = FillRequest(prefix=prefix, suffix=")\n", max_lines=1)
    first, second = in_torch.fill(request, threading.Event()), in_onnx.fill(request, threading.Event())
    assert first.confidence == pytest.approx(second.confidence, abs=0.15)  # activations in int8 against float32
    assert first.encoded + first.reused == second.encoded + second.reused > 0  # what warmed them up differs


def test_missing_weights_of_the_embedded_model_in_torch(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((WEIGHTS / "small" / name).read_bytes())
    with pytest.raises(EngineError, match="missing or damaged"):
        Embedded.load(str(tmp_path), torch.device("cpu"))
