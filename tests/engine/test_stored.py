"""Weights as they are stored and as they are multiplied."""

from __future__ import annotations

import numpy as np
import pytest

from engine.stored import COMPUTED, quantise


@pytest.mark.parametrize("columns", [64, 576, 1536])
def test_wide_blocks_keep_what_few_bits_say(columns: int) -> None:
    weight = np.random.default_rng(columns).normal(size=(40, columns)).astype(np.float32)
    stored = quantise(weight, 6, 64)
    wide = stored.wide()
    assert wide.block == COMPUTED
    assert wide.numbers.min() >= 1  # symmetric
    whole = wide.floats()
    assert (whole[:, columns:] == 0).all()  # what fills up the last block adds nothing
    lost, stores = np.abs(whole[:, :columns] - stored.floats()).mean(), np.abs(stored.floats() - weight).mean()
    assert lost < 0.3 * stores


def test_eight_bits_are_multiplied_as_they_are() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 128)).astype(np.float32)
    stored = quantise(weight, 8, 64)
    assert stored.wide() is stored
