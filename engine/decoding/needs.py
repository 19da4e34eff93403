"""What an option of the samplers needs to have an effect, see `contract.Sampling`. One that has none is refused: who
asks for it would take what comes for what it makes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from engine.contract import Refusal, Sampling
from engine.decoding.algorithms import SCORES

RANKING = SCORES.keys() - {"origin"}


class Case(NamedTuple):
    """`block` is that of the model, 0 where every row sees every row; `expands` whether it has marks for lengths."""

    alg: str | None
    drafts: bool
    block: int
    expands: bool


class Need(NamedTuple):
    options: tuple[str, ...]
    what: str
    met: Callable[[Case], bool]


NEEDS = (
    Need(("left_pad",), "a model in blocks of several tokens", lambda case: case.block > 1),
    Need(("pad_eos_to_right",), "a model that expands and deletes", lambda case: case.expands),
    Need(("cache",), "a model that sees both sides in place", lambda case: not case.block),
    Need(("alg", "alg_temp", "threshold", "confidence_eos_eot_inf"), "drafts", lambda case: case.drafts),
    Need(("alg_temp",), "an alg that ranks by a score", lambda case: case.alg in RANKING - {"random"}),
    Need(("confidence_eos_eot_inf",), "an alg that ranks", lambda case: case.alg in RANKING),
    Need(("threshold",), "confidence_threshold as alg", lambda case: case.alg in (None, "confidence_threshold")),
)


def require(asked: Sampling, usual: Sampling, case: Case) -> None:
    """Raises Refusal for the first of the options `asked` for that has no effect. One that is 0 or False, or as is
    `usual` for all models, changes nothing.
    """
    said, default = msgspec.structs.asdict(asked), msgspec.structs.asdict(usual)
    for need in NEEDS:
        for option in need.options:
            if said[option] and said[option] != default[option] and not need.met(case):
                raise Refusal(f"{option} has no effect here, for it needs {need.what}: leave it out")
