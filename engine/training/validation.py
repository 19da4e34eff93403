"""What the losses do not tell of a model in training: how right canvases are at each place, and how fills end up.

Fills are those of `python -m engine eval`, in float32; tokens a pass above one are those that a draft brought. What a
base knew may go while its model learns to fill: HumanEval's lines tell, with what follows them and without.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from engine.backends.memory import ModelShape
from engine.backends.torch_passes import TorchPasses
from engine.corpus import Corpus
from engine.embedded import Embedded
from engine.evaluation import humaneval
from engine.evaluation.lines import evaluate
from engine.models.trunk import Trunk
from engine.tokenizer import Tokenizer
from engine.training.dataset import CANVAS, NONE, Batch, Sampler, SamplerConfig

PLACES = 8  # of a canvas
FILLS = 60
ONE_THREAD = 50_000_000  # the most parameters of a model for whose passes a second thread gains nothing
PROBLEMS = 40
SHOWN = [*(f"right_at_{place}" for place in range(1, PLACES + 1)), "exact", "tokens_a_pass"]
CANARY = {"humaneval": False, "humaneval_prefix_only": True}


def shape_of(model: Trunk, config: SamplerConfig) -> ModelShape:
    """What the engine needs to know of a model that was trained on such rows."""
    return ModelShape(
        context=config.context,
        canvas=config.canvas if config.canvases else 0,
        ngram_buckets=model.config.ngram_buckets,
        marks_empty_rest=config.marks_empty_rest,
        sees_snippets=config.snippets > 0,
        rest_first=config.rest_first,
        threads=2 if sum(weight.numel() for weight in model.parameters()) > ONE_THREAD else 1,
    )


def quality(
    model: Trunk, config: SamplerConfig, tokenizer: Tokenizer, folder: Path, canary: Path | None = None
) -> dict[str, float]:
    """Values of `SHOWN` on the corpus in a folder, and of `CANARY` on the problems in another."""
    passes = TorchPasses(model, shape_of(model, config), torch.device("cpu"))
    passes.rows_are_free = config.canvases > 0
    embedded = Embedded(passes, tokenizer)
    fills = evaluate(embedded, folder, FILLS, copies=False)
    shown = {"exact": fills.exact, "tokens_a_pass": fills.tokens_a_pass}
    if canary is not None:
        for name, prefix_only in CANARY.items():
            score = humaneval.evaluate(embedded, canary, "single-line", PROBLEMS, 0, prefix_only, copies=False)
            shown[name] = score.passed / score.problems
    if config.canvases:
        batch = Sampler(Corpus(folder), tokenizer, config, seed=99).batch(16)
        right, counted = right_by_position(model, batch, config.canvas)
        shown |= dict(zip(SHOWN, (right / counted.clamp(min=1)).tolist()[:PLACES], strict=False))
    return shown


@torch.no_grad()
def right_by_position(model: Trunk, batch: Batch, size: int) -> Tensor:
    """How many masked tokens are predicted right, and how many there are, at each place of a canvas (2, size)."""
    tokens, ngrams, positions, targets, kinds, offsets, mask = (
        torch.from_numpy(getattr(batch, name)) for name in Batch.__struct_fields__
    )
    rows = (kinds == CANVAS) & (targets != NONE)
    right = model.head(model(tokens, ngrams, positions, mask)[rows]).argmax(-1) == targets[rows]
    places = F.one_hot(offsets[rows], size)
    return torch.stack(((places * right[:, None]).sum(0), places.sum(0)))
