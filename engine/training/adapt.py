"""Makes a model of our own, trained from left to right, into one of masked diffusion, as Tiny-A2D and DiffuLLaMA were
made: a little real one, for what is to be measured of public checkpoints.

The trunk is taken as `train hub` writes it, and sees both sides from then on. A row is a gap as `public` puts it to a
model, the canvas as long as it may try, filled up with ends. So much of the canvas is masked as a random time says,
and the loss is that of masked tokens divided by the time (MDLM, arXiv 2406.07524; LLaDA, arXiv 2502.09992). What the
folder holds is a checkpoint of the family that it was adapted to.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from tqdm import tqdm
from transformers import AutoModelForCausalLM, PreTrainedModel

from engine.contract import FillRequest
from engine.decoding.length import SIZES
from engine.evaluation.places import Place, cursors
from engine.models import registry
from engine.models.vocabulary import Vocabulary
from engine.tokenizer import EOM, MASK
from engine.training import hub
from engine.training.train import fast_dtype

KINDS = {"tiny-a2d": "a2d-llama", "diffullama": "llama"}  # families to model types
WINDOW = 160  # tokens around the canvas
CONTEXT = WINDOW + 2 * SIZES[-1]  # what the checkpoint says, so that a window is no longer when it fills
BATCH = 4  # rows a step: each its own forward, as they differ in length
RATE, WARM_UP = 3e-4, 10  # the learning rate, and steps until it is reached; it falls to zero over the budget
EARLIEST = 0.05  # time: what is masked less teaches little, at a large weight
MORE_LINES = (0, 0, 0, 1, 2)  # of a gap after its first
SMOOTH = 400  # rows that the loss shown is a mean of


class Row(msgspec.Struct, frozen=True):
    """`targets` are what stands in the canvas, which begins at `start`; `hidden` are its masked rows."""

    tokens: list[int]
    start: int
    targets: list[int]
    hidden: list[int]
    time: float


def run(model: Path, corpus: Path, out: Path, family: str, budget: int, seed: int = 0) -> None:
    """Train on `budget` tokens of a corpus folder and write a checkpoint. Raises EngineError where the model is not
    shaped as a Llama, or there is no corpus.
    """
    hub.write(model, out)
    config = json.loads((out / "config.json").read_bytes())
    trained = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    config |= {"model_type": KINDS[family], "mask_token_id": MASK, "max_position_embeddings": CONTEXT}
    _, plan = registry.plan(config, str(out), family)
    vocabulary = Vocabulary.load(out, plan.infill)
    train(trained, rows(corpus, vocabulary, seed), plan.infill.shift, budget)
    save_file({name: each.bfloat16() for name, each in trained.named_parameters()}, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(config, indent=2))


def train(model: PreTrainedModel, rows: Iterator[Row], shift: bool, budget: int) -> None:
    """Shows what is done, and the loss that is trained, in nats a token, smoothed."""
    optimizer = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.95), weight_decay=0.0)
    dtype, done, step, smooth = fast_dtype(), 0, 0, 0.0
    model.config.is_causal = False
    with tqdm(total=budget, unit="token", unit_scale=True) as bar:
        while done < budget:
            batch = list(itertools.islice(rows, BATCH))
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                for row in batch:
                    each = loss(model, row, shift)
                    (each / BATCH).backward()
                    smooth += (each.item() - smooth) / min(SMOOTH, step * BATCH + 1)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.param_groups[0]["lr"] = RATE * min((step + 1) / WARM_UP, 1 - done / budget)
            optimizer.step()
            optimizer.zero_grad()
            size = sum(len(row.tokens) for row in batch)
            done, step = done + size, step + 1
            bar.update(size)
            bar.set_postfix_str(f"loss {smooth:.3f}")


def loss(model: PreTrainedModel, row: Row, shift: bool) -> Tensor:
    """The cross-entropy of masked tokens, divided by the time and by the length of the canvas."""
    size = len(row.tokens)
    everything = torch.ones(1, 1, size, size, dtype=torch.bool)
    features = model.base_model(torch.tensor([row.tokens]), attention_mask=everything).last_hidden_state[0]
    at = torch.tensor(row.hidden)
    logits = model.lm_head(features[row.start + at - int(shift)]).float()
    found: Tensor = F.cross_entropy(logits, torch.tensor(row.targets)[at], reduction="sum")
    return found / row.time / len(row.targets)


def rows(corpus: Path, vocabulary: Vocabulary, seed: int = 0) -> Iterator[Row]:
    """Without an end."""
    dice = random.Random(seed)
    for place in cursors(corpus, sys.maxsize, seed):
        request, target = longer(place, dice.choice(MORE_LINES))
        gap = vocabulary.gap(request, WINDOW)
        middle = vocabulary.encode(gap.taken + target)
        fitting = [size for size in SIZES if size > len(middle)]
        if fitting:
            canvas = middle + [EOM] * (dice.choice(fitting) - len(middle))
            yield masked(gap.before, canvas, gap.after, dice)


def longer(place: Place, lines: int) -> tuple[FillRequest, str]:
    """A gap of so many lines more."""
    first, *more = place.request.suffix.split("\n")
    taken = "\n".join([first, *more[:lines]])
    suffix = place.request.suffix[len(taken) :]
    return msgspec.structs.replace(place.request, suffix=suffix), place.todo + taken


def masked(before: list[int], canvas: list[int], after: list[int], dice: random.Random) -> Row:
    """A canvas between two texts at a random time: each token is masked with that probability, and one at least."""
    time = dice.uniform(EARLIEST, 1)
    hidden = [row for row in range(len(canvas)) if dice.random() < time] or [dice.randrange(len(canvas))]
    shown = [MASK if row in hidden else token for row, token in enumerate(canvas)]
    return Row([*before, *shown, *after], len(before), canvas, hidden, time)
