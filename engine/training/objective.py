"""The losses: of a trunk's training rows, and of a denoiser's drafts.

A trunk has next-token cross-entropy on the context and in branches, and masked-token cross-entropy on canvases: one
sum, each target with the weight of its kind, no 1/t weight (it costs about 12 % of the compute's worth, arXiv
2602.15014). The head's logits are made in chunks, so that they stay in the cache and never exist at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.denoiser import Denoiser
from engine.models.trunk import BLOCKED, Trunk
from engine.training.dataset import MIDDLE, NONE
from engine.training.lora import SpecialRows

KINDS = ("context", "middle", "canvas")
CHUNK = 512  # rows of logits at a time


class Objective(nn.Module):
    weights: Tensor

    def __init__(self, model: Trunk, weights: tuple[float, float, float], dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.register_buffer("weights", torch.tensor(weights))

    def forward(
        self, tokens: Tensor, ngrams: Tensor, positions: Tensor, targets: Tensor, kinds: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A batch (see dataset.Batch) -> (weighted sum of losses, sums of losses and counts (2, 3) by kind)."""
        hidden = self.model(tokens, ngrams, positions, mask, self.dtype)
        hidden, targets, kinds = hidden.flatten(0, 1), targets.flatten(), kinds.flatten()
        return self._counted(hidden, targets, kinds)

    def compile_parts(self) -> None:
        """The blocks, which share their code, and what follows them."""
        for block in self.model.blocks:
            block.compile(dynamic=False)
        self._counted = torch.compile(self._counted, dynamic=False)  # type: ignore[method-assign]

    def _counted(self, hidden: Tensor, targets: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        losses = torch.cat(
            [
                F.cross_entropy(self._logits(rows).float(), target, reduction="none", ignore_index=NONE)
                for rows, target in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
            ]
        )
        counted = (targets != NONE).float()
        total = (losses * self.weights[kinds]).sum()
        sums = [[((kinds == kind) * part).sum() for kind in range(len(KINDS))] for part in (losses.detach(), counted)]
        return total, torch.stack([torch.stack(part) for part in sums])

    def _logits(self, rows: Tensor) -> Tensor:
        head = self.model.head
        return head.logits(rows) if isinstance(head, SpecialRows) else rows @ head.weight.to(self.dtype).T


class DraftObjective(nn.Module):
    """Of a denoiser: cross-entropy of its drafts with the tokens that the frozen trunk would write.

    Canvases are put where the trunk writes what stands in the text, and count as far as it goes on to do so and one
    token further. To there the text is the trunk's own greedy text, and its choice at each place is what a draft is
    verified against: nothing needs to be generated. A third of the canvases are partly revealed, so that more
    denoising steps are better ones.
    """

    def __init__(self, trunk: Trunk, denoiser: Denoiser, canvases: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.trunk, self.denoiser, self.canvases, self.dtype = trunk, denoiser, canvases, dtype
        self.size = denoiser.shape.canvas
        numbers = torch.full((trunk.config.vocab,), NONE)
        numbers[denoiser.tokens] = torch.arange(len(denoiser.tokens))
        self.register_buffer("numbers", numbers)

    def compile_parts(self) -> None:
        for block in [*self.trunk.blocks, *self.denoiser.blocks]:
            block.compile(dynamic=False)

    def forward(
        self, tokens: Tensor, ngrams: Tensor, positions: Tensor, targets: Tensor, kinds: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See Objective.forward; the sums of `context` count tokens that the trunk has read."""
        _, labels, logits = self.drafted(tokens, ngrams, positions, targets, kinds, mask)
        losses = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none", ignore_index=NONE)
        counted = (labels != NONE).sum()
        context = ((kinds != MIDDLE) & (targets != NONE)).sum()
        zero = torch.zeros(())
        sums = torch.stack((torch.stack((zero, zero, losses.detach().sum())), torch.stack((context, zero, counted))))
        return losses.sum() * context / counted.clamp(min=1), sums.float()

    def drafted(
        self, tokens: Tensor, ngrams: Tensor, positions: Tensor, targets: Tensor, kinds: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Canvases (batch, canvases, size) as shown, the places of what the trunk writes among the tokens that are
        drafted, or NONE (the same shape), and logits of them (batch, canvases, size, denoiser.vocab).
        """
        batch, rows = tokens.shape
        with torch.no_grad():
            hidden, streams = self.trunk.read(tokens, ngrams, positions, mask, self.dtype, self.denoiser.shape.depths)
            head = self.trunk.head.weight.to(self.dtype)
            written = torch.cat([(part @ head.T).argmax(-1) for part in hidden.split(256, dim=1)], dim=1)
            starts = self._starts(tokens, targets, kinds, written)
        places = starts[..., None] + torch.arange(self.size)  # the row before each canvas row
        beyond = places >= rows - 1
        places = places.clamp(max=rows - 2)
        of = torch.arange(batch)[:, None, None]
        right = (written == targets)[of, places] & (tokens[of, places + 1] == targets[of, places]) & ~beyond
        alive = right.cumprod(-1).bool()  # so far the text is what the trunk writes
        known = alive & (torch.rand(alive.shape) < torch.rand(batch, self.canvases, 1))
        known &= torch.rand(batch, self.canvases, 1) < 0.33
        known[..., 0] = True
        labels = self.numbers[written[of, places]]  # type: ignore[index]
        before = torch.cat((alive[..., :1], alive[..., :-1]), dim=-1)
        labels = labels.masked_fill(~before | known | (targets[of, places] == NONE) | beyond, NONE)
        shown = tokens[of, places + 1]
        at = positions[of, starts[..., None]] + 1 + torch.arange(self.size)
        bias = self._bias(starts, mask, rows)
        hidden = self.denoiser(
            self.trunk.embed(shown.flatten(1)).to(self.dtype).detach(),
            ~known.flatten(1),
            at.flatten(1),
            self.denoiser.memory(torch.cat(streams, dim=-1), positions),
            bias[:, None, None].to(self.dtype),
        )
        head = self.trunk.head.weight[self.denoiser.tokens].detach().to(self.dtype)
        logits = (hidden @ head.T).float()
        return shown.masked_fill(~known, NONE), labels, logits.view(batch, self.canvases, self.size, -1)

    def _starts(self, tokens: Tensor, targets: Tensor, kinds: Tensor, written: Tensor) -> Tensor:
        """Rows (batch, canvases) after which a canvas begins: in middles rather than in contexts."""
        linked = torch.zeros_like(targets, dtype=torch.bool)
        linked[:, :-1] = tokens[:, 1:] == targets[:, :-1]
        weight = (linked & (written == targets)) * torch.where(kinds == MIDDLE, 8.0, 1.0)
        return torch.multinomial(weight + 1e-9, self.canvases, replacement=True)

    def _bias(self, starts: Tensor, mask: Tensor, rows: int) -> Tensor:
        """(batch, canvases · size, rows + canvases · size): a canvas sees what its first row's predecessor sees, and
        itself.
        """
        length = rows - mask.shape[2]
        sees = torch.ones(rows, rows, dtype=torch.bool).tril().repeat(len(starts), 1, 1)
        sees[:, length:] = mask[:, 0]
        context = sees[torch.arange(len(starts))[:, None], starts].repeat_interleave(self.size, dim=1)
        own = torch.block_diag(*[torch.ones(self.size, self.size)] * self.canvases).bool()
        seen = torch.cat((context, own.expand(len(starts), -1, -1)), dim=-1)
        return torch.where(seen, 0.0, BLOCKED)
