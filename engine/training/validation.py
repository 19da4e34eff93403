"""What the losses do not tell of a model in training: how fills end up.

Fills are those of `python -m engine eval`, in float32. What a base knew may go while its model learns to fill:
HumanEval's lines tell, with what follows them and without.
"""

from __future__ import annotations

from pathlib import Path

import torch

from engine.backends.kv_cache import ModelShape
from engine.backends.torch_runner import TorchRunner
from engine.embedded import Embedded
from engine.evaluation import humaneval
from engine.evaluation.lines import evaluate
from engine.models.trunk import Trunk
from engine.tokenizer import Tokenizer
from engine.training.dataset import SamplerConfig

FILLS = 60
PROBLEMS = 40
SHOWN = ["exact", "tokens_a_pass"]
CANARY = {"humaneval": False, "humaneval_prefix_only": True}


def shape_of(config: SamplerConfig) -> ModelShape:
    """What the engine needs to know of a model that was trained on such rows."""
    return ModelShape(context=config.context, rest_first=config.rest_first)


def quality(
    model: Trunk, config: SamplerConfig, tokenizer: Tokenizer, folder: Path, canary: Path | None = None
) -> dict[str, float]:
    """Values of `SHOWN` on the corpus in a folder, and of `CANARY` on the problems in another."""
    passes = TorchRunner(model, shape_of(config), torch.device("cpu"))
    embedded = Embedded(passes, tokenizer)
    fills = evaluate(embedded, folder, FILLS, copies=False)
    shown = {"exact": fills.exact, "tokens_a_pass": fills.tokens_a_pass}
    if canary is not None:
        for name, prefix_only in CANARY.items():
            score = humaneval.evaluate(embedded, canary, "single-line", PROBLEMS, 0, prefix_only, copies=False)
            shown[name] = score.passed / score.problems
    return shown
