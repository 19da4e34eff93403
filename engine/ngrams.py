"""Hashed n-grams of the input: a bigram and a trigram that end at each token, as rows of one small embedding.

Bucket 0 stands for "none": canvas tokens, whose neighbours are not known, have it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.tokenizer import MASK

Ids = NDArray[np.int64]


def hashed_ngrams(tokens: Ids, previous: Ids, before: Ids, buckets: int) -> Ids:
    """tokens and the one and two before each (n,) -> buckets of (bigram, trigram) (n, 2)."""
    bigram = tokens * 0x9E3779B1 + previous * 0x85EBCA6B
    trigram = bigram + before * 0xC2B2AE35 + 0x27D4EB2F
    keys = np.stack((bigram, trigram), axis=-1) & 0xFFFFFFFF
    keys ^= keys >> 15
    keys = (keys * 0x2C1B3C6D) & 0xFFFFFFFF
    keys ^= keys >> 13
    ids = 1 + keys % (max(buckets, 2) - 1)
    ids[previous == MASK] = 0
    return ids
