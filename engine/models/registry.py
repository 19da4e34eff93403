"""Which public checkpoints the engine runs.

Configurations are data; code that a repository carries is never run.
"""

from __future__ import annotations

from engine.contract import EngineError
from engine.models import a2d, dit, dream, gpt2, llada, llama, sdar
from engine.models.family import Config, Plan

FAMILIES = tuple(family for module in (dream, a2d, sdar, llama, llada, gpt2, dit) for family in module.FAMILIES)


def supported() -> str:
    """A line for each family."""
    lines = [f"{family.name:32} {family.how}" for family in FAMILIES]
    return "\n".join([*lines, f"{'DiffusionGemma':32} asked to complete the file; through transformers' own classes"])


def plan(config: Config, name: str) -> Plan:
    """Raises EngineError where no family knows the checkpoint, or its config.json lacks something or asks for what is
    not supported.
    """
    for family in FAMILIES:
        if family.claims(config, name):
            try:
                return _checked(family.read(config))
            except KeyError as missing:
                raise EngineError(f"the config.json of {name} lacks {missing}, which {family.name} needs") from None
            except (TypeError, ValueError, ZeroDivisionError) as error:
                raise EngineError(f"the config.json of {name} describes no {family.name} model ({error})") from None
    known = ", ".join(family.name for family in FAMILIES)
    kind = config.get("model_type", "unknown")
    raise EngineError(
        f"{name} (model type {kind!r}) is no diffusion model that Inpaint runs; it runs {known}, DiffusionGemma"
    )


def _checked(made: Plan) -> Plan:
    """Raises ValueError or TypeError where a size is none."""
    shape = made.shape
    sizes = (
        shape.vocab,
        shape.dim,
        shape.layers,
        shape.heads,
        shape.kv_heads,
        shape.head_dim,
        shape.mlp,
        shape.context,
    )
    if not all(isinstance(size, int) and size > 0 for size in sizes) or shape.heads % shape.kv_heads or shape.block < 0:
        raise ValueError("sizes must be positive whole numbers, and heads a multiple of those of keys and values")
    return made
