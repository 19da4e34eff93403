"""From logits to predictions: the likeliest token of each row, or one drawn at a temperature from the likeliest.

All of it happens on the device in operations whose shapes do not depend on what is asked, so that it is compiled and
captured with the pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.contract import Sampling

SAID = 7  # numbers of each row in a summary


def shapes(asked: Sampling) -> bool:
    """Whether the distribution is another than the model's."""
    return bool(asked.temperature or asked.top_k) or (asked.top_p or 1) < 1


def dials(asked: Sampling) -> list[float]:
    """What `summary` takes of a sequence's options; no more than so many tokens are in a vocabulary."""
    return [asked.temperature or 0.0, asked.top_p or 1.0, float(asked.top_k or 2**24), asked.cfg_scale or 0.0]


def guided(logits: Tensor, other: Tensor, dials: Tensor) -> Tensor:
    """Classifier-free guidance (LLaDA, arXiv 2502.09992): away from what the sequence `other` (batch, 1) says, which
    sees the canvas alone. logits (batch, rows, vocab).
    """
    scale = dials[:, 3, None, None]
    alone = logits[other[:, 0]]
    return torch.where(scale > 0, alone + (scale + 1) * (logits - alone), logits)


def summary(
    logits: Tensor,
    current: Tensor,
    suppressed: Tensor,
    constrained: Tensor,
    allowed: Tensor,
    dials: Tensor | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """All that `CanvasPredictions` says of each row: (SAID, batch, rows) in float32, which tells token ids up to 2^24
    apart.

    logits (batch, rows, vocab); current (batch, rows) are the tokens of the canvas; no row may be one of suppressed
    (batch, n), and the row constrained (batch, 1) must be one of allowed (batch, vocab): all of them where none is.
    With dials (batch, 4), the distribution is shaped; noise (batch, rows, vocab) is uniform in [0, 1).
    """
    logits = logits.float().scatter(2, suppressed[:, None].expand(-1, logits.shape[1], -1), -torch.inf)
    at = constrained[..., None].expand(-1, -1, logits.shape[2])
    meant = logits.gather(1, at)
    held_to = meant.masked_fill(~allowed[:, None], -torch.inf)
    agrees = meant.argmax(-1) == held_to.argmax(-1)
    logits = logits.scatter(1, at, held_to)
    chances = logits.softmax(-1)
    if dials is None or noise is None:
        shaped, tokens = chances, chances.argmax(-1)
    else:
        shaped, tokens = _drawn(logits, dials, noise)
    chosen, current_chances = chances.gather(2, torch.stack((tokens, current), dim=2)).unbind(2)
    drawn = shaped.gather(2, tokens[..., None])[..., 0]
    first, second = shaped.topk(2).values.unbind(-1)
    entropies = torch.special.entr(shaped).sum(-1)
    agreed = agrees.float().expand(current.shape)
    return torch.stack((tokens.float(), chosen, entropies, current_chances, drawn, first - second, agreed))


def _drawn(logits: Tensor, dials: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The shaped distribution (batch, rows, vocab), and a token of each row, drawn in Gumbel's way: the likeliest after
    noise. First temperature, then top-p, then top-k, as Dream's sampler does.
    """
    temperature, top_p, top_k = dials[:, :3, None, None].unbind(1)
    ranked, order = (logits / torch.where(temperature > 0, temperature, 1)).softmax(-1).sort(-1, descending=True)
    place = torch.arange(ranked.shape[-1], device=ranked.device)
    out = (ranked.cumsum(-1) - ranked > top_p) | (place >= top_k)  # the likeliest always stays
    kept = torch.zeros_like(ranked).scatter(-1, order, ranked.masked_fill(out, 0))
    shaped = kept / kept.sum(-1, keepdim=True)
    gumbel = -(-noise.clamp_min(1e-20).log()).log()
    return shaped, (shaped.log() + torch.where(temperature > 0, gumbel, 0)).argmax(-1)
