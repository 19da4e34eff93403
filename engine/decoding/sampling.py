"""From logits to a guess: the likeliest token of each row, or one drawn at a temperature from the likeliest tokens."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from engine.decoding.canvas import Guess, Question


class Sampling(msgspec.Struct, frozen=True):
    """Temperature 0 takes the likeliest. `top_p` is the probability that the tokens drawn from have together."""

    temperature: float = 0.0
    top_p: float = 1.0


def guess(logits: Tensor, question: Question, sampling: Sampling, generator: torch.Generator | None = None) -> Guess:
    """logits (rows of the canvas, vocab), changed in place. Reads from the device once."""
    logits = logits.float()
    device = logits.device
    if question.banned:
        logits.index_fill_(1, torch.tensor(question.banned, device=device), -torch.inf)
    if question.firsts:
        allowed = torch.tensor(question.firsts, device=device)
        first = torch.full_like(logits[0], -torch.inf)
        logits[0] = first.index_copy_(0, allowed, logits[0, allowed])
    chances = logits.softmax(-1)
    entropies = torch.special.entr(chances).sum(-1)
    drawn = _drawn(logits, sampling, generator) if sampling.temperature > 0 else chances.argmax(-1)
    held = torch.tensor(question.canvas, device=device)
    columns = torch.stack(
        (
            drawn.float(),
            chances.gather(1, drawn[:, None])[:, 0].float(),
            entropies.float(),
            chances.gather(1, held[:, None])[:, 0].float(),
        )
    ).tolist()
    return Guess([int(token) for token in columns[0]], *columns[1:])


def _drawn(logits: Tensor, sampling: Sampling, generator: torch.Generator | None) -> Tensor:
    chances = (logits / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        ranked, order = chances.sort(-1, descending=True)
        ranked[ranked.cumsum(-1) - ranked >= sampling.top_p] = 0  # the likeliest always stays
        chances = torch.zeros_like(chances).scatter_(-1, order, ranked)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]
