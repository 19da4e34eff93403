"""What `engine get` makes a model of, beside the public checkpoint that it grows from:

    python -m engine train recipe base --checkpoint GGUF --corpus corpus --out engine/weights/base

Of the checkpoint's tokens those stay that make up most of a corpus, each with the tokens that its merges go through,
and all bytes, so that any text can still be spelled. The languages count by their shares in training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import tokenizers
import torch
from tqdm import tqdm

from engine.backends.kv_cache import ModelShape
from engine.corpus import Corpus
from engine.models.gguf import GgufCheckpoint
from engine.models.trunk import Trunk, TrunkConfig
from engine.stored import COMPUTED, ZERO, Matrix, Weights
from engine.tokenizer import SPECIALS, lines_of
from engine.training.graph import POSITIONS, build

MEGABYTES = 40.0  # of the corpus that tokens are counted in
BATCH = 20_000  # lines
CONTEXT = 512  # tokens, of the models that `engine get` makes


def run(name: str, checkpoint: Path, corpus: Path, out: Path, vocab: int) -> None:
    """Write tokenizer, shapes, and the graph of a pass."""
    found = GgufCheckpoint(checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    bpe = cut_tokenizer(found, corpus, vocab)
    bpe.save(str(out / "tokenizer.json"))
    write_shapes(name, config(found, bpe.get_vocab_size()), out)


def write_shapes(name: str, trunk: TrunkConfig, out: Path) -> None:
    """Write trunk.json, config.json and graph.onnx, which depend on no weight."""
    shape = ModelShape(context=CONTEXT, rest_first=True, name=name)
    (out / "trunk.json").write_bytes(msgspec.json.encode(trunk))
    (out / "config.json").write_bytes(msgspec.json.format(msgspec.json.encode(shape), indent=2))
    onnx.save(build(trunk, POSITIONS * CONTEXT, blank(trunk)), out / "graph.onnx")


def blank(trunk: TrunkConfig) -> Weights:
    """Weights of the shapes that a trunk's have, as `engine get` quantises them, which take no memory."""
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in Trunk(trunk).state_dict().items()}
    zeros, ones = np.uint8(ZERO), np.float32(1)
    return {
        name: Matrix(
            np.broadcast_to(zeros, shape),
            np.broadcast_to(ones, (shape[0], shape[1] // math.gcd(shape[1], COMPUTED))),
            8,
        )
        if len(shape) == 2
        else np.broadcast_to(ones, shape)
        for name, shape in shapes.items()
    }


def cut_tokenizer(checkpoint: GgufCheckpoint, corpus: Path, vocab: int) -> tokenizers.Tokenizer:
    """Of the tokens that are the most frequent in a corpus; prints what the cut costs."""
    counts = counted(checkpoint.whole_bpe(), sample(Corpus(corpus)), checkpoint.architecture == "qwen2")
    kept = checkpoint.cut(counts, vocab - len(SPECIALS))
    lost = 1 - sum(counts[i] for i in kept) / counts.total()
    print(f"{len(SPECIALS) + len(kept)} tokens, which are all but {lost:.2%} of the corpus's")
    return checkpoint.cut_bpe(kept)


def sample(corpus: Corpus) -> Iterator[str]:
    """Whole files in random order until the sample is full, of each language what training draws of it."""
    likely = corpus.weights() / np.diff(corpus.offsets)
    order = np.random.default_rng(0).choice(len(corpus), len(corpus), replace=False, p=likely / likely.sum())
    left = MEGABYTES * 1e6
    for number in order.tolist():
        text = corpus.text(number)
        yield text
        left -= len(text)
        if left < 0:
            return


def counted(bpe: tokenizers.Tokenizer, texts: Iterable[str], ended: bool) -> Counter[int]:
    """How often each token stands in the texts. A line that stands there often is encoded once."""
    lines = Counter(line for text in texts for line in lines_of(text, ended))
    each, counts = list(lines), Counter[int]()
    for start in tqdm(range(0, len(each), BATCH), "Counting"):
        batch = each[start : start + BATCH]
        for encoding, line in zip(bpe.encode_batch_fast(batch, add_special_tokens=False), batch, strict=True):
            for token in encoding.ids:
                counts[token] += lines[line]
    return counts


def config(checkpoint: GgufCheckpoint, vocab: int) -> TrunkConfig:
    heads, dim = checkpoint.number("attention.head_count"), checkpoint.number("embedding_length")
    return TrunkConfig(
        vocab=vocab,
        dim=dim,
        layers=checkpoint.layers,
        heads=heads,
        shared=heads // checkpoint.number("attention.head_count_kv"),
        head_dim=dim // heads,
        mlp=checkpoint.number("feed_forward_length"),
        qkv_bias=checkpoint.architecture == "qwen2",
        rope_base=checkpoint.real("rope.freq_base"),
        eps=checkpoint.real("attention.layer_norm_rms_epsilon"),
    )
