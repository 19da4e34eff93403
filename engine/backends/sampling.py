"""From logits to a guess: the likeliest token of each row, or one drawn at a temperature from the likeliest tokens.

All of it happens on the device in operations whose shapes do not depend on what is asked, so that it is compiled and
captured with the pass.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

SAID = 5  # numbers of each row in a summary


class Sampling(msgspec.Struct, frozen=True):
    """Temperature 0 takes the likeliest. `top_p` is the probability that the tokens drawn from have together."""

    temperature: float = 0.0
    top_p: float = 1.0


def summary(
    logits: Tensor,
    stands: Tensor,
    banned: Tensor,
    forced: Tensor,
    allowed: Tensor,
    sampling: Sampling,
    noise: Tensor | None = None,
) -> Tensor:
    """All that `Summary` says of each row: (SAID, batch, rows) in float32, which tells token ids up to 2^24 apart.

    logits (batch, rows, vocab); stands (batch, rows) are the tokens of the canvas; no row may be one of banned
    (batch, n), and the row forced (batch, 1) must be one of allowed (batch, vocab): all of them where none is forced.
    At a temperature, noise (batch, rows, vocab) is uniform in [0, 1).
    """
    logits = logits.float().scatter(2, banned[:, None].expand(-1, logits.shape[1], -1), -torch.inf)
    at = forced[..., None].expand(-1, -1, logits.shape[2])
    meant = logits.gather(1, at)
    held_to = meant.masked_fill(~allowed[:, None], -torch.inf)
    willing = meant.argmax(-1) == held_to.argmax(-1)
    logits = logits.scatter(1, at, held_to)
    chances = logits.softmax(-1)
    tokens = chances.argmax(-1) if noise is None else _drawn(logits, sampling, noise)
    chosen, held = chances.gather(2, torch.stack((tokens, stands), dim=2)).unbind(2)
    entropies = torch.special.entr(chances).sum(-1)
    return torch.stack((tokens.float(), chosen, entropies, held, willing.float().expand(stands.shape)))


def _drawn(logits: Tensor, sampling: Sampling, noise: Tensor) -> Tensor:
    """Gumbel's way to draw: the likeliest after noise."""
    chances = (logits / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        ranked, order = chances.sort(-1, descending=True)
        ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= sampling.top_p, 0)  # the likeliest always stays
        chances = torch.zeros_like(chances).scatter(-1, order, ranked)
    return (chances.log() - (-noise.clamp_min(1e-20).log()).log()).argmax(-1)
