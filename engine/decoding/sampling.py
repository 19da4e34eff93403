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
    tokens, chosen, entropies, held, willing = summary(logits, question, sampling, generator).tolist()
    return Guess([int(token) for token in tokens], chosen, entropies, held, bool(willing[0]))


def summary(logits: Tensor, question: Question, sampling: Sampling, generator: torch.Generator | None) -> Tensor:
    """All that `Guess` says, on the device: (5, rows) in float32, which tells token ids up to 2^24 apart."""
    logits = logits.float()
    device = logits.device
    if question.banned:
        logits.index_fill_(1, torch.tensor(question.banned, device=device), -torch.inf)
    willing = _force(logits, *question.forced) if question.forced else torch.ones((), device=device)
    chances = logits.softmax(-1)
    tokens = _drawn(logits, sampling, generator) if sampling.temperature > 0 else chances.argmax(-1)
    stands = torch.tensor(question.canvas, device=device)
    chosen, held = chances.gather(1, torch.stack((tokens, stands), dim=1)).unbind(1)
    entropies = torch.special.entr(chances).sum(-1)
    return torch.stack((tokens.float(), chosen, entropies, held, willing.float().expand(len(stands))))


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
        ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= sampling.top_p, 0)  # the likeliest always stays
        chances = torch.zeros_like(chances).scatter_(-1, order, ranked)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]
