"""Which public checkpoints the engine runs.

Configurations are data; code that a repository carries is never run. Nor does the name of a folder decide anything:
where config.json does not tell families apart that are stored alike, the user does (`--family`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from engine.contract import EngineError
from engine.models import a2d, causal, dit, dream, gpt2, llada, llama, sdar, validation
from engine.models.family import Config, Family, Plan

FAMILIES: tuple[Family, ...] = tuple(
    family for module in (dream, a2d, sdar, llama, causal, llada, gpt2, dit) for family in module.FAMILIES
)


def supported() -> str:
    """A line for each family."""
    rows = [(family.key, family.name, family.how) for family in FAMILIES]
    rows.append(("", "DiffusionGemma", "asked to complete the file; through transformers' own classes"))
    return "\n".join(f"{key:16} {name:38} {how}" for key, name, how in rows)


def choose(config: Config, name: str, key: str | None = None, fills_gaps: Callable[[], bool] = lambda: False) -> Family:
    """The family of a checkpoint: the one asked for, else what config.json says, or a published hub id, or the
    tokenizer, which has tokens to fill gaps with.

    Raises EngineError where none knows it, or several do and nothing says which.
    """
    kind = str(config.get("model_type", "unknown")).lower()
    fitting = [family for family in FAMILIES if kind in family.kinds]
    if key is not None:
        asked = [family for family in fitting if family.key == key]
        if not asked:
            keys = ", ".join(family.key for family in fitting) or "none"
            raise EngineError(f"{name} (model type {kind!r}) cannot be of the family {key!r}; possible are: {keys}")
        return asked[0]
    if not fitting:
        known = ", ".join(family.name for family in FAMILIES)
        raise EngineError(
            f"{name} (model type {kind!r}) is no model that Inpaint runs; it runs {known}, DiffusionGemma"
        )
    known_as = {name.lower(), str(config.get("_name_or_path", "")).lower()}
    for family in fitting:
        if known_as & set(family.published) or family.certain(config):
            return family
    if fitting[-1] in causal.FAMILIES and "mask_token_id" not in config and fills_gaps():
        return fitting[-1]
    keys = " or ".join(f"--family {family.key} ({family.name})" for family in fitting)
    raise EngineError(f"the config.json of {name} does not say which model it is; say it with {keys}")


def plan(
    config: Config, name: str, key: str | None = None, fills_gaps: Callable[[], bool] = lambda: False
) -> tuple[Family, Plan]:
    """Raises EngineError where no family knows the checkpoint, or its config.json lacks something or asks for what is
    not supported.
    """
    family = choose(config, name, key, fills_gaps)
    validation.options(config, name, family.built)
    try:
        made = family.read(config)
        for part in (made.infill, made.shape):
            msgspec.convert(msgspec.to_builtins(part), type(part))  # of the types and within the bounds that these say
        validation.shape(made.shape, in_blocks=not made.infill.suffix)
    except KeyError as missing:
        raise EngineError(f"the config.json of {name} lacks {missing}, which {family.name} needs") from None
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise EngineError(f"the config.json of {name} describes no {family.name} model ({error})") from None
    return family, made
