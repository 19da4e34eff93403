"""A canvas: what of a gap is unmasked, and what is still masked."""

from __future__ import annotations

import msgspec


class Canvas(msgspec.Struct):
    """`probabilities` are those that rows were unmasked with. `ended` where the model said that nothing follows, with
    the probability `end`, or a limit did.
    """

    tokens: list[int]
    probabilities: list[float]
    mask: int
    ended: bool = False
    end: float = 1.0
    expansions: int = 0  # rows that became two

    @classmethod
    def masked(cls, mask: int, size: int) -> Canvas:
        return cls([mask] * size, [1.0] * size, mask)

    def open_rows(self) -> list[int]:
        return [row for row, token in enumerate(self.tokens) if token == self.mask]

    def written(self) -> int:
        """Rows before the first open one."""
        return self.tokens.index(self.mask) if self.mask in self.tokens else len(self.tokens)

    def cut(self, length: int) -> None:
        del self.tokens[length:], self.probabilities[length:]
