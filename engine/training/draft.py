"""Trains a drafter on what a trunk makes of source code: `python -m engine train drafter`.

* Features and labels are collected first, to disk, as far as a budget goes (`draft_data`), and stay for another run.
* The drafter begins as the one that the model has, if that has the same shape, else as two layers of the trunk. AdamW,
  warm-up and cosine; a step has the canvases of a few training rows, with other anchors each time that a row comes
  again, many of them in middles. Of a canvas those rows are computed of which a label is known.
* The state is written every few minutes by an atomic rename, so that a killed trainer goes on.
* What is kept is in eight bits, and with it how often drafts up to each place are right on held-out packages: by that,
  and by what passes cost on a machine, is decided whether and how far to draft.
"""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from tqdm import tqdm

from engine import stored
from engine.backends.drafting import DRAFTER, GRAPH, About
from engine.backends.torch_runner import read_model
from engine.embedded import folder_of, read_shape
from engine.models.drafter import Drafter, DrafterConfig
from engine.models.trunk import Trunk, linear
from engine.stored import COMPUTED, quantise
from engine.tokenizer import Tokenizer
from engine.training import draft_data
from engine.training.dataset import SamplerConfig
from engine.training.draft_data import Canvases, Shard
from engine.training.draft_graph import DraftGraph
from engine.training.graph import POSITIONS
from engine.training.train import StopSignal, fast_dtype

SAVE_SECONDS = 180
SMOOTHING = 0.5  # of the chances in the loss
LEAST = 0.1  # how often a draft and all before it are right that is served
HELD_OUT = 0.2  # gigabytes of features that are measured on


class DraftTraining(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    drafter: DrafterConfig = DrafterConfig()
    gigabytes: float = 8.0  # of features
    canvases: int = 1_500_000  # in all
    rows: int = 4  # training rows a step
    anchors: int = 100  # canvases of a row
    middles: float = 0.4  # of them in middles, where there are as many
    lr: float = 6e-4
    warmup: int = 60  # steps
    seed: int = 0


class Learner:
    """A drafter in training, beside the frozen trunk's embedding and head."""

    def __init__(
        self, trunk: Trunk, config: DraftTraining, state: Path, dtype: torch.dtype, shipped: Path | None = None
    ) -> None:
        """`shipped` is a drafter to go on from, where it is there and has this shape."""
        torch.manual_seed(config.seed)
        self.config, self.state, self.dtype = config, state, dtype
        self.embedding = trunk.embed.weight.detach()
        self.head = self.embedding.to(self.dtype)
        self.drafter = Drafter(trunk.config, config.drafter)
        self.drafter.begin(trunk)
        if shipped and shipped.exists() and _shape(shipped) == msgspec.structs.asdict(config.drafter):
            floats = stored.floats(stored.read(shipped))
            self.drafter.load_state_dict({name: torch.from_numpy(each) for name, each in floats.items()})
        self.optimizer = torch.optim.AdamW(self.drafter.parameters(), config.lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.done, self.hours = 0, 0.0
        if (state / "state.pt").exists():
            saved = torch.load(state / "state.pt", weights_only=True)
            self.drafter.load_state_dict(saved["drafter"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.done, self.hours = saved["done"], saved["hours"]

    def save(self) -> None:
        partial = self.state / "state.partial"
        parts = {"drafter": self.drafter.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**parts, "done": self.done, "hours": self.hours}, partial)
        partial.replace(self.state / "state.pt")

    def rate(self) -> float:
        """Warm-up, then half a cosine to nought."""
        step = self.done / (self.config.rows * self.config.anchors)
        left = math.cos(math.pi / 2 * min(1.0, self.done / self.config.canvases)) ** 2
        return self.config.lr * min((step + 1) / self.config.warmup, left)

    def step(self, several: list[Canvases]) -> float:
        started, total = time.monotonic(), 0.0
        for each in several:
            logits = self.logits(each)
            part = loss(logits, each.labels[each.valid], each.valid) / len(several)
            part.backward()
            total += float(part.detach())
            self.done += len(each.valid)
        torch.nn.utils.clip_grad_norm_(self.drafter.parameters(), 1.0)
        self.optimizer.param_groups[0]["lr"] = self.rate()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.hours += (time.monotonic() - started) / 3600
        return total

    def logits(self, each: Canvases) -> Tensor:
        """(N, vocab), as if every row knew the token before the one that it predicts."""
        hidden, before = self.drafter(each.blocks, self.embedding[each.blocks.anchors], self.dtype)
        logits: Tensor = hidden @ self.head.T + linear(before.to(self.dtype), self.drafter.after)
        return logits

    @torch.no_grad()
    def drafted(self, each: Canvases) -> Tensor:
        """What is drafted (A, B) where the blocks have every row, each after what was drafted before it."""
        hidden, _ = self.drafter(each.blocks, self.embedding[each.blocks.anchors])
        own, previous, tokens = (hidden @ self.embedding.T).view(*each.valid.shape, -1), each.blocks.anchors, []
        for row in range(self.config.drafter.rows):
            previous = (own[:, row] + self.drafter.after(self.drafter.before(previous))).argmax(-1)
            tokens.append(previous)
        return torch.stack(tokens, 1)

    def accepted(self, shards: list[Shard]) -> list[float]:
        """How often the first k drafts are all right, for each k, of canvases in middles of which so much is known."""
        rows, generator = self.config.drafter.rows, np.random.default_rng(7)
        right, known = torch.zeros(rows), torch.zeros(rows)
        for shard in shards:
            for row in range(len(shard.tokens)):
                anchors = draft_data.drawn(shard, row, 48, 1.0, generator)
                each = draft_data.canvases(shard, row, anchors, rows, every=True)
                known += each.valid.sum(0)
                right += ((self.drafted(each) == each.labels) & each.valid).long().cumprod(1).sum(0)
        return [round(float(share), 4) for share in right / known.clamp(min=1)]


def loss(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy on what the trunk would write, a row weighing what it is worth (D-PACE): the mean over A canvases
    of B rows, of which N are valid (A, B); logits (N, vocab) and labels (N,) are theirs.
    """
    negative = F.cross_entropy(logits.float(), labels, reduction="none")
    every = torch.zeros(valid.shape).masked_scatter(valid, negative.detach())
    return (worth(every, valid)[valid] * negative).sum() / len(valid)


def worth(negative: Tensor, valid: Tensor) -> Tensor:
    """Of each row (A, B), from the negative logarithm of its label's probability.

    A draft counts up to its first wrong token. So row j is worth the sum, over the rows m from j on, of the chance that
    everything up to m is right, each chance smoothed by a half: w_j = Σ_{m≥j} Π_{i≤m} (1 + q_i) / 2, where q_i is the
    probability of the label. (SpecForge and speculators have it so; their comparison is in the latter's pull request
    736.)
    """
    chances = torch.where(valid, (1 - SMOOTHING) * torch.exp(-negative) + SMOOTHING, 1.0)
    together = torch.where(valid, chances.cumprod(1), 0.0)
    return torch.where(valid, together.flip(1).cumsum(1).flip(1), 0.0)


def _shape(drafter: Path) -> dict[str, int]:
    return msgspec.json.decode(stored.about(drafter), type=About).config


def run(model: str, corpus: Path, state: Path, out: Path, config: DraftTraining) -> None:
    """Collect, train as far as the budget goes or a signal asks to stop, and write the drafter."""
    folder = folder_of(model)
    state.mkdir(parents=True, exist_ok=True)
    words, shape = Tokenizer.load(folder / "tokenizer.json"), read_shape(folder)
    sampler = SamplerConfig(context=shape.context, middle=96, rest_first=shape.rest_first, snippets=0.5)
    teacher = draft_data.served(folder)
    held_out = draft_data.collect(teacher, words, corpus / "validation", sampler, state / "held-out", HELD_OUT)
    shards = draft_data.collect(teacher, words, corpus, sampler, state / "features", config.gigabytes)
    del teacher
    trunk = read_model(folder / "model.safetensors")
    learner, stop = Learner(trunk, config, state, fast_dtype(), folder / DRAFTER), StopSignal()
    train(learner, [Shard.load(shard) for shard in shards], stop)
    accepted = learner.accepted([Shard.load(shard) for shard in held_out])
    print(f"{learner.done:,} canvases, accepted {accepted}")
    if not stop.asked:
        write(learner.drafter, accepted, folder, out)


def train(learner: Learner, shards: list[Shard], stop: StopSignal) -> None:
    config, saved = learner.config, time.monotonic()
    random = np.random.default_rng(config.seed + learner.done)
    places = [(shard, row) for shard in range(len(shards)) for row in range(len(shards[shard].tokens))]
    log = learner.state / "log.csv"
    with log.open("a", newline="") as file, tqdm(total=config.canvases, initial=learner.done, unit="canvas") as bar:
        writer, order = csv.writer(file), list[tuple[int, int]]()
        while learner.done < config.canvases and not stop.asked:
            several = []
            for _ in range(config.rows):
                order = order or [places[i] for i in random.permutation(len(places))]
                number, row = order.pop()
                anchors = draft_data.drawn(shards[number], row, config.anchors, config.middles, random)
                several.append(draft_data.canvases(shards[number], row, anchors, config.drafter.rows))
            before, total = learner.done, learner.step(several)
            bar.update(learner.done - before)
            bar.set_postfix_str(f"loss {total:.3f}")
            writer.writerow([learner.done, round(learner.hours, 5), round(total, 4)])
            if time.monotonic() - saved > SAVE_SECONDS:
                learner.save()
                file.flush()
                saved = time.monotonic()
        learner.save()


def write(drafter: Drafter, accepted: list[float], folder: Path, out: Path) -> None:
    """The drafter in eight bits, and the graph of its step, for the model in a folder. A step denoises the rows that
    are right at least so often that they may pay on some machine.
    """
    out.mkdir(parents=True, exist_ok=True)
    arrays = {name: weight.detach().numpy() for name, weight in drafter.named_parameters()}
    weights = {
        name: quantise(weight, 8, COMPUTED) if weight.ndim == 2 and name != "masks" else weight
        for name, weight in arrays.items()
    }
    accepted = accepted[:1] + [share for share in accepted[1:] if share >= LEAST]
    about = {"config": drafter.config, "accepted": accepted}
    stored.write(out / DRAFTER, weights, msgspec.json.encode(about).decode())
    trunk = stored.read(folder / "model.safetensors")
    shared = {"embed.weight": trunk["embed.weight"]}
    longest = POSITIONS * read_shape(folder).context
    graph = DraftGraph(drafter.trunk, drafter.config, longest, {**weights, **shared}, len(accepted))
    onnx.save(graph.model(), out / GRAPH)
