"""Trains the byte-level BPE on a sample of the corpus, and counts the corpus in its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from engine.corpus import Corpus
from engine.tokenizer import PATTERN, SPECIALS


def split() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train(texts: Iterator[str], vocab: int) -> tokenizers.Tokenizer:
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = split()
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=True,
    )
    bpe.train_from_iterator(texts, trainer)
    return bpe


def sample(corpus: Corpus, megabytes: float, seed: int = 0) -> Iterator[str]:
    """Whole files in random order until the sample is full, of each language what training draws of it."""
    likely = corpus.weights() / np.diff(corpus.offsets)
    order = np.random.default_rng(seed).choice(len(corpus), len(corpus), replace=False, p=likely / likely.sum())
    left = megabytes * 1e6
    for number in order.tolist():
        text = corpus.text(number)
        yield text
        left -= len(text)
        if left < 0:
            return


def run(corpus_folder: Path, out: Path, vocab: int, megabytes: float) -> None:
    corpus = Corpus(corpus_folder)
    bpe = train(sample(corpus, megabytes), vocab)
    out.parent.mkdir(parents=True, exist_ok=True)
    bpe.save(str(out))
    held_out = list(sample(corpus, 4, seed=1))
    tokens = sum(len(encoding.ids) for encoding in bpe.encode_batch(held_out))
    per_token = sum(len(text.encode()) for text in held_out) / tokens
    millions = corpus.bytes / per_token / 1e6
    print(f"{out}: {vocab} tokens, {per_token:.2f} bytes a token, {millions:.0f}M tokens in the corpus")
