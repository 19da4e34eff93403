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
    willing = _force(logits, *question.forced) if question.forced else torch.ones((), device=device)
    chances = logits.softmax(-1)
    entropies = torch.special.entr(chances).sum(-1)
    drawn = _drawn(logits, sampling, generator) if sampling.temperature > 0 else chances.argmax(-1)
    stands = torch.tensor(question.canvas, device=device)
    columns = torch.stack(
        (
            drawn.float(),
            chances.gather(1, drawn[:, None])[:, 0].float(),
            entropies.float(),
            chances.gather(1, stands[:, None])[:, 0].float(),
            willing.float().expand(len(question.canvas)),
        )
    ).tolist()
    tokens, probabilities, spread, present, agreed = columns
    return Guess([int(token) for token in tokens], probabilities, spread, present, bool(agreed[0]))


def _force(logits: Tensor, row: int, tokens: list[int]) -> Tensor:
    """Leave a row these tokens only; tells whether the likeliest was among them."""
    allowed = torch.tensor(tokens, device=logits.device)
    likeliest = logits[row].argmax()
    logits[row] = torch.full_like(logits[row], -torch.inf).index_copy_(0, allowed, logits[row, allowed])
    return likeliest == logits[row].argmax()


def _drawn(logits: Tensor, sampling: Sampling, generator: torch.Generator | None) -> Tensor:
    chances = (logits / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        ranked, order = chances.sort(-1, descending=True)
        ranked[ranked.cumsum(-1) - ranked >= sampling.top_p] = 0  # the likeliest always stays
        chances = torch.zeros_like(chances).scatter_(-1, order, ranked)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]
