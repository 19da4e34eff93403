"""How a model is chosen on a command line: the same options for every command that loads one, and as arguments for a
process that loads it in its stead.
"""

from __future__ import annotations

import argparse
import logging
import re
from typing import TYPE_CHECKING

import msgspec

from engine.contract import EngineError, Sampling

if TYPE_CHECKING:
    from engine import Engine

DEVICES = ("auto", "cpu", "cuda", "mps")
SAMPLING = "sampling_"  # before the names of its fields, among the arguments
NUMBERED = re.compile(r"(cpu|cuda:\d+)(,(cpu|cuda:\d+))*")  # several share one model


class ModelChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of Engine.load."""

    model: str = "small"
    device: str = "auto"
    family: str | None = None
    sampling: Sampling = Sampling()

    def load(self) -> Engine:
        """Loaded, saying on stderr what was chosen for the device."""
        from engine import Engine

        logging.basicConfig(format="inpaint: %(message)s")
        logging.getLogger("engine").setLevel(logging.INFO)
        return Engine.load(self.model, self.device, self.family, self.sampling)

    def arguments(self) -> list[str]:
        """That say the same to another command."""
        said = {"model": self.model, "device": self.device, "family": self.family}
        said |= msgspec.to_builtins(self.sampling)
        return [f"--{name.replace('_', '-')}={_text(value)}" for name, value in said.items() if value is not None]


def add(
    command: argparse.ArgumentParser, model: str = "small", device: str | None = "auto", *, seed: bool = True
) -> None:
    """The options, with their defaults; without `seed` where the command has another use for that word."""
    command.add_argument(
        "--model", metavar="NAME|DIR|HUB-ID", default=model, help=f"shipped, or a public checkpoint (default: {model})"
    )
    command.add_argument(
        "--device", type=_device, default=device, help=f"where it runs: {', '.join(DEVICES)}, or cuda:0,cuda:1 together"
    )
    command.add_argument("--family", help="what a checkpoint's config.json does not tell: python -m engine models")
    group = command.add_argument_group(
        "how tokens are chosen, by the samplers' authors' names; ours have temperature, top-p and seed"
    )
    for option in Sampling.__struct_fields__:
        if option != "seed" or seed:
            group.add_argument(f"--{option.replace('_', '-')}", dest=SAMPLING + option, metavar="VALUE")


def chosen(args: argparse.Namespace) -> ModelChoice:
    """Raises EngineError for a value that an option does not take."""
    said: dict[str, object] = {
        name: value
        for name in Sampling.__struct_fields__
        if (value := getattr(args, SAMPLING + name, None)) is not None
    }
    if isinstance(tokens := said.get("suppress_tokens"), str):
        said["suppress_tokens"] = tokens.split(",")
    try:
        sampling = msgspec.convert(said, Sampling, strict=False)
    except msgspec.ValidationError as error:
        raise EngineError(str(error)) from None
    return ModelChoice(model=args.model, device=args.device or "auto", family=args.family, sampling=sampling)


def _device(text: str) -> str:
    if text in DEVICES or NUMBERED.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"no device {text!r}: give {', '.join(DEVICES)}, or several as cuda:0,cuda:1")


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
