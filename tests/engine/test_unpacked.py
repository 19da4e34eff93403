"""Weights are unpacked once, and are the same from wherever they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine import EngineError, checksums, stored, unpacked
from engine.stored import Matrix, quantise


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a shipped model, whose copies lie in `tmp_path / "copies"`."""
    monkeypatch.setattr(unpacked, "WEIGHTS", tmp_path)
    monkeypatch.setattr(unpacked, "copies", lambda: tmp_path / "copies")
    (tmp_path / "model").mkdir()
    return version(tmp_path / "model", 1)


def version(folder: Path, seed: int) -> Path:
    weight = np.random.default_rng(seed).normal(size=(40, 192)).astype(np.float32)
    stored.write(folder / "model.safetensors", {"w": quantise(weight, 6, 64), "norm": weight[0]}, "{}")
    checksums.write(folder)
    return folder


def copies(model: Path) -> list[Path]:
    return list((model.parent / "copies").iterdir())


def is_read(model: Path) -> Matrix:
    """The matrix that is read, which is that of the model's file."""
    found, packed = unpacked.read(model), stored.read(model / "model.safetensors", wide=True)
    matrix, expected = found["w"], packed["w"]
    assert isinstance(matrix, Matrix)
    assert isinstance(expected, Matrix)
    for ours, theirs in ((matrix.numbers, expected.numbers), (matrix.scales, expected.scales)):
        assert (ours == theirs).all()
    assert (np.asarray(found["norm"]) == packed["norm"]).all()
    return matrix


def test_what_was_unpacked_once_is_mapped_until_there_is_a_new_version(model: Path) -> None:
    assert isinstance(is_read(model).numbers, np.memmap)
    [first] = copies(model)
    (model / "model.safetensors").rename(model / "away")
    unpacked.read(model)  # the copy alone is looked at
    is_read(version(model, 2))
    [second] = copies(model)
    assert second != first


def test_what_a_workspace_taught_is_added_up(model: Path, tmp_path: Path) -> None:
    tuned, random = tmp_path / "mine" / "tuned", np.random.default_rng(3)
    tuned.mkdir(parents=True)
    low, high = (random.normal(size=size).astype(np.float32) for size in ((2, 192), (40, 2)))
    save_file({"w.a": low, "w.b": high}, tuned / "adapter.safetensors")
    checksums.write(tuned)
    found, before = unpacked.read(tuned, "model")["w"], stored.read(model / "model.safetensors")["w"]
    assert isinstance(found, Matrix)
    assert isinstance(before, Matrix)
    assert (found.numbers.shape, found.block) == (before.wide().numbers.shape, before.wide().block)
    expected = before.floats() + high @ low
    assert np.abs(found.floats()[:, :192] - expected).max() < 0.01 * np.abs(expected).max()
    assert isinstance(found.numbers, np.memmap)
    with pytest.raises(EngineError, match="none, which the model is a change of, is not on this machine"):
        unpacked.read(tuned, "none")


def test_a_damaged_copy_is_made_again(model: Path) -> None:
    is_read(model)
    [copy] = copies(model)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert isinstance(is_read(model).numbers, np.memmap)


def test_where_no_copy_can_be_made_weights_are_unpacked_in_memory(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, weights: object, about: str) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stored, "write_each", full)
        is_read(model)
    assert copies(model) == []
    (model.parent / "copies").rmdir()
    (model.parent / "copies").touch()  # no folder
    assert not isinstance(is_read(model).numbers, np.memmap)


def test_damaged_weights_are_a_sentence(model: Path) -> None:
    with (model / "model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(EngineError, match="its SHA-256 is another"):
        unpacked.read(model)
