"""A drafter: what is served is what was trained, whatever was read before, and the loss is what its source says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from engine import stored
from engine.backends.drafting import DRAFTER, DraftRunner, worthwhile
from engine.backends.kv_cache import ModelShape
from engine.backends.onnx import OnnxRunner, session
from engine.backends.pace import Pace
from engine.models.drafter import DrafterConfig, depths
from engine.models.trunk import Trunk, TrunkConfig
from engine.tokenizer import PAD
from engine.training import draft_data
from engine.training.dataset import MIDDLE, NONE, Batch
from engine.training.draft import DraftTraining, Learner, worth, write
from engine.training.draft_graph import DraftGraph
from engine.training.graph import build

TRUNK = TrunkConfig(vocab=80, dim=64, layers=6, heads=4, shared=2, head_dim=16, mlp=96, qkv_bias=True)
CONFIG = DrafterConfig(rows=4, mlp=48, rank=16)
SHAPE = ModelShape(context=128)


def random(module: torch.nn.Module) -> None:
    torch.manual_seed(3)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.3)


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    made = Trunk(TRUNK)
    random(made)
    return made.eval()


@pytest.fixture(scope="module")
def learner(trunk: Trunk, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    made = Learner(trunk, DraftTraining(drafter=CONFIG), tmp_path_factory.mktemp("state"), torch.float32)
    random(made.drafter)
    return made


def weights_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: weight.detach().numpy() for name, weight in module.named_parameters()}


@pytest.fixture
def served(trunk: Trunk, learner: Learner) -> OnnxRunner:
    weights = weights_of(trunk)
    own = {**weights_of(learner.drafter), "embed.weight": weights["embed.weight"]}
    graph = DraftGraph(learner.drafter.trunk, CONFIG, 256, own, CONFIG.rows).model().SerializeToString()
    drafter = DraftRunner(session(graph, own, 1), [0.5] * CONFIG.rows)
    return OnnxRunner(session(build(TRUNK, 256, weights).SerializeToString(), weights, 1), SHAPE, drafter)


def row() -> Batch:
    """A context of 20 tokens in room for 24, and behind its first 9 and 15 a branch of 7 and 5."""
    random = np.random.default_rng(5)
    tokens = np.full(40, PAD)
    tokens[:20], tokens[24:36] = random.integers(10, 80, 20), random.integers(10, 80, 12)
    positions, mask = np.arange(40), np.zeros((1, 16, 40), bool)
    for at, length, anchor in ((0, 7, 9), (7, 5, 15)):
        positions[24 + at : 24 + at + length] = np.arange(anchor, anchor + length)
        mask[0, at : at + length, :anchor] = True
        mask[0, at : at + length, 24 + at : 24 + at + length] = np.tri(length, dtype=bool)
    kinds, targets = np.zeros(40, int), np.full(40, NONE)
    kinds[26:31], targets[26:31] = MIDDLE, tokens[27:32]
    return Batch(tokens, positions, targets, kinds, mask)


def test_what_a_drafter_learns_from(trunk: Trunk) -> None:
    shard = draft_data.sharded(trunk, [row()])
    assert [int((shard.segments[0] == segment).sum()) for segment in range(3)] == [20, 7, 5]
    assert np.flatnonzero(shard.middle[0]).tolist() == [27, 28, 29, 30]
    served = OnnxRunner(session(build(TRUNK, 256, weights_of(trunk)).SerializeToString(), weights_of(trunk), 1), SHAPE)
    assert shard.labels[0][:20].tolist() == served.forward(row().tokens[:20].tolist(), 20).tokens
    served.truncate(9)
    assert shard.labels[0][24:31].tolist() == served.forward(row().tokens[24:31].tolist(), 7).tokens


def test_a_label_counts_while_the_text_is_what_the_trunk_would_write(trunk: Trunk) -> None:
    shard = draft_data.sharded(trunk, [row()])
    shard.tokens[0][28:30] = shard.labels[0][27:29]  # as if the trunk had written two tokens after an anchor
    canvases = draft_data.canvases(shard, 0, np.array([27, 5]), CONFIG.rows)
    assert canvases.valid.tolist()[0] == [True, True, True, False]
    assert canvases.labels[0, :3].tolist() == shard.labels[0][27:30].tolist()
    assert canvases.blocks.previous.tolist() == [*shard.tokens[0][27:30].tolist(), shard.tokens[0][5]]
    assert canvases.blocks.canvas.tolist() == [0, 0, 0, 1] and canvases.blocks.row.tolist() == [0, 1, 2, 0]
    assert canvases.blocks.starts.tolist() == [9 + 3, 5]
    assert np.flatnonzero(canvases.blocks.visible[0]).tolist() == [*range(9), 24, 25, 26]
    assert np.flatnonzero(canvases.blocks.visible[1]).tolist() == [*range(5)]


def test_what_is_served_is_what_was_trained(
    trunk: Trunk, learner: Learner, served: OnnxRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read at once, token by token, and again after some of it was forgotten."""
    monkeypatch.setattr(Pace, "seconds", lambda self, rows: 1.0 if self is served.pace else 1e-6)  # all drafts pay
    shard, tokens = draft_data.sharded(trunk, [row()]), row().tokens
    anchors = np.array([12, 18, 27, 30])
    expected = learner.drafted(draft_data.canvases(shard, 0, anchors, CONFIG.rows, every=True)).tolist()
    context, branch = tokens[:20].tolist(), [*tokens[:9].tolist(), *tokens[24:31].tolist()]
    texts = [context[:13], context[:19], branch[:13], branch[:16]]
    for text, drafts in zip(texts, expected, strict=True):
        served.reuse_prefix(text)
        for token in text[len(served.sequence) : -1]:
            served.forward([token], 1)
        assert served.draft(text).tokens == drafts
    served.reuse_prefix(texts[1])
    assert served.draft(texts[1]).tokens == []  # what stands before the newest token is not read
    served.forward(texts[1][len(served.sequence) : -1], 1)
    assert served.draft(texts[1]).tokens == expected[1]


def test_a_drafter_begins_as_layers_of_its_trunk_and_learns(trunk: Trunk, tmp_path: Path) -> None:
    shard = draft_data.sharded(trunk, [row()])
    config = DraftTraining(drafter=CONFIG, canvases=10_000, warmup=1, lr=3e-3)
    learner, random = Learner(trunk, config, tmp_path, torch.float32), np.random.default_rng(0)
    before = learner.accepted([shard])
    for _ in range(60):
        anchors = draft_data.drawn(shard, 0, 8, 0.5, random)
        learner.step([draft_data.canvases(shard, 0, anchors, CONFIG.rows)])
    assert before[0] < 1 == learner.accepted([shard])[0]
    learner.save()
    again = Learner(trunk, config, tmp_path, torch.float32)
    assert again.done == 480 and again.accepted([shard])[0] == 1


def test_training_goes_on_from_the_drafter_that_the_model_has(trunk: Trunk, learner: Learner, tmp_path: Path) -> None:
    stored.write(tmp_path / "model.safetensors", weights_of(trunk), msgspec.json.encode(TRUNK).decode())
    (tmp_path / "config.json").write_text('{"context": 128}')
    (tmp_path / "graph.onnx").write_bytes(build(TRUNK, 256, weights_of(trunk)).SerializeToString())
    write(learner.drafter, [0.5], tmp_path, tmp_path)
    before = weights_of(learner.drafter)
    for config, goes_on in ((CONFIG, True), (msgspec.structs.replace(CONFIG, rows=5), False)):
        again = Learner(trunk, DraftTraining(drafter=config), tmp_path, torch.float32, tmp_path / DRAFTER)
        alike = np.abs(weights_of(again.drafter)["fuse.weight"] - before["fuse.weight"]).max() < 0.01
        assert alike == goes_on
    assert OnnxRunner.load(tmp_path, SHAPE).drafter


def test_a_row_weighs_what_it_is_good_for() -> None:
    """By the formula, of three rows of which the last is not known."""
    chances, valid = torch.tensor([[0.8, 0.4, 0.9]]), torch.tensor([[True, True, False]])
    first, second = 0.9, 0.9 * 0.7
    assert worth(-chances.log(), valid).tolist() == [[pytest.approx(first + second), pytest.approx(second), 0]]


@pytest.mark.parametrize(("layers", "expected"), [(30, [1, 8, 14, 20, 27]), (24, [1, 6, 11, 16, 21]), (1, [0] * 5)])
def test_features_leave_layers_from_the_second_to_the_third_from_the_end(layers: int, expected: list[int]) -> None:
    assert depths(layers) == expected


def test_drafts_are_as_many_as_pay() -> None:
    """A pass of one row takes 10, and each row more 1 with fast rows and 10 with slow ones."""
    together, fast, slow = [0.6, 0.3, 0.1], lambda rows: 9.0 + rows, lambda rows: 10.0 * rows
    assert [worthwhile(together, fast, 2), worthwhile(together, slow, 2)] == [2, 0]
    assert worthwhile([0.05], fast, 2) == 0


@pytest.mark.parametrize(("step", "drafts"), [(0.1, True), (30.0, False)])
def test_who_would_draft_in_vain_does_not(
    served: OnnxRunner, monkeypatch: pytest.MonkeyPatch, step: float, drafts: bool
) -> None:
    """A pass takes 9, and 1 more for each row; all four drafts are right half the time."""
    assert served.drafter
    monkeypatch.setattr(Pace, "fastest", lambda self, rows: step if self is served.drafter.pace else 9.0 + rows)
    settled = served.settled()
    assert (settled is served) is drafts
    settled.forward([11, 12], 1)
    assert drafts or settled.draft([11, 12, 13]).tokens == []
