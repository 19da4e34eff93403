"""What the project promises, beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.evaluation.typing import print_table


class Promise(msgspec.Struct):
    """`target` is the most that `value` should be."""

    name: str
    value: float
    unit: str
    target: float

    @property
    def kept(self) -> bool:
        return self.value <= self.target


def print_promises(promises: Sequence[Promise]) -> None:
    print_table([msgspec.structs.asdict(each) | {"kept": "yes" if each.kept else "no"} for each in promises])
