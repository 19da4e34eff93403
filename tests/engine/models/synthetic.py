"""A model that is a table: what it says of a place depends on the tokens there and beside it, and on the place."""

from __future__ import annotations

from pathlib import Path

import msgspec
import tiny_checkpoints as tiny
import torch
from torch import Tensor

from engine.backends import sampling
from engine.contract import Sampling
from engine.decoding.runner import CanvasPredictions, ForwardInput

VOCAB, MASK, EOS, EXPAND = 24, 20, 21, 22
PLACES = 64
LONGEST = 14  # rows of a canvas that expands
TRACES = Path(__file__).with_name("traces.safetensors")


class Case(msgspec.Struct):
    """What a reference was asked for: a sampler's options, tokens around a canvas and its length."""

    reference: str
    sampling: Sampling
    steps: int
    canvas: int
    prefix: list[int]
    suffix: list[int] = []
    shift: bool = True


def tables(seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"here": VOCAB, "before": VOCAB, "after": VOCAB, "place": PLACES}
    made = {name: 0.8 * torch.randn(size, VOCAB, generator=generator) for name, size in sizes.items()}
    made["place"][:, MASK] -= 100  # the samplers differ in whether a mask may unmask a mask, and no model does that
    made["place"][:, EXPAND] += 0.5
    made["place"][:, EOS] += 1.6
    return made


def logits(found: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """(batch, n) to (batch, n, VOCAB)."""
    edge = torch.zeros_like(tokens[:, :1])
    before, after = torch.cat((edge, tokens[:, :-1]), 1), torch.cat((tokens[:, 1:], edge), 1)
    return found["here"][tokens] + found["before"][before] + found["after"][after] + found["place"][: tokens.shape[1]]


class Table:
    """`decoding.runner.ModelRunner` of the table."""

    capacity = 1000

    def __init__(self, found: dict[str, Tensor], case: Case) -> None:
        self._tables, self._case = found, case

    def predict(self, questions: list[ForwardInput]) -> list[CanvasPredictions]:
        return [self._predict(question) for question in questions]

    def _predict(self, question: ForwardInput) -> CanvasPredictions:
        said = self._rows(question)
        scale = self._case.sampling.cfg_scale
        if scale:
            before, after = ([MASK] * len(side) for side in (question.before, question.after))
            alone = self._rows(msgspec.structs.replace(question, before=before, after=after))
            dials = torch.tensor([sampling.dials(Sampling(cfg_scale=scale)), sampling.dials(Sampling())])
            said = sampling.guided(torch.stack((said, alone)), torch.tensor([[1], [1]]), dials)[0]
        seed = 0 if sampling.shapes(self._case.sampling) else None
        return tiny.guess_of(said, question, self._case.sampling, seed)

    def _rows(self, question: ForwardInput) -> Tensor:
        tokens = torch.tensor([[*question.before, *question.canvas, *question.after]])
        start = len(question.before) - self._case.shift
        return logits(self._tables, tokens)[0, start : start + len(question.canvas)]
