"""Reads Llama and Qwen2 checkpoints out of GGUF files: weights by the names of our trunk, tokens and merges.

The vocabulary of a general model is several times what source code needs, and its head is multiplied in every pass. So
it is cut: of the tokens those stay that make up most of a corpus, each with the tokens that its merges go through, and
all bytes, so that any text can still be spelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers

from engine.tokenizer import SPECIALS, cut_as_qwen2

Floats = NDArray[np.float32]

LAYER = {
    "norm.weight": ("attn_norm.weight",),
    "qkv.weight": ("attn_q.weight", "attn_k.weight", "attn_v.weight"),
    "qkv.bias": ("attn_q.bias", "attn_k.bias", "attn_v.bias"),
    "out.weight": ("attn_output.weight",),
    "mlp_norm.weight": ("ffn_norm.weight",),
    "up.weight": ("ffn_gate.weight", "ffn_up.weight"),
    "down.weight": ("ffn_down.weight",),
}


class GgufCheckpoint:
    """Raises OSError or ValueError where the file cannot be read or is no GGUF."""

    def __init__(self, path: Path) -> None:
        self._reader = GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.architecture = str(self.field("general.architecture"))
        self.layers = self.number("block_count")
        self.tokens: list[str] = self.field("tokenizer.ggml.tokens")
        self.merges = [tuple(merge.split(" ")) for merge in self.field("tokenizer.ggml.merges")]

    def field(self, name: str) -> Any:
        return self._reader.fields[name].contents()

    def number(self, name: str) -> int:
        """A field of the architecture's."""
        return int(self.field(f"{self.architecture}.{name}"))

    def real(self, name: str) -> float:
        return float(self.field(f"{self.architecture}.{name}"))

    def embedding(self, rows: list[int]) -> Floats:
        """Of some tokens (rows, dim). Where the head is stored beside the embedding, it is the same in more bits."""
        tensor = self._tensors.get("output.weight", self._tensors["token_embd.weight"])
        return np.asarray(dequantize(tensor.data[rows], tensor.tensor_type), np.float32)

    def weights(self) -> Iterator[tuple[str, Floats]]:
        """All weights but the embedding, one after the other, by our names."""
        yield "norm.weight", self._read("output_norm.weight")
        for layer in range(self.layers):
            for ours, theirs in LAYER.items():
                names = [f"blk.{layer}.{name}" for name in theirs]
                if names[0] in self._tensors:
                    yield f"blocks.{layer}.{ours}", np.concatenate([self._read(name) for name in names])

    def _read(self, name: str) -> Floats:
        tensor = self._tensors[name]
        weight = dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        heads = {"attn_q.weight": "attention.head_count", "attn_k.weight": "attention.head_count_kv"}
        part = name.partition(".")[2].partition(".")[2]
        if self.architecture == "llama" and part in heads:  # has the two halves of a rotated head interleaved
            halves = weight.reshape(self.number(heads[part]), -1, 2, weight.shape[-1]).swapaxes(1, 2)
            weight = halves.reshape(weight.shape)
        return np.ascontiguousarray(weight, np.float32)

    def bpe(self, numbers: dict[str, int]) -> tokenizers.Tokenizer:
        """The tokenizer with the tokens that are given numbers, and the merges among them."""
        merges = [merge for merge in self.merges if {*merge, "".join(merge)} <= numbers.keys()]
        bpe = tokenizers.Tokenizer(models.BPE(vocab=numbers, merges=merges))
        if self.architecture == "qwen2":
            cut_as_qwen2(bpe)
        else:  # SmolLM2's GGUF does not tell that digits stand alone
            digits = pre_tokenizers.Digits(individual_digits=True)
            bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        bpe.decoder = decoders.ByteLevel()
        return bpe

    def whole_bpe(self) -> tokenizers.Tokenizer:
        return self.bpe({text: number for number, text in enumerate(self.tokens)})

    def cut_bpe(self, kept: Iterable[int]) -> tokenizers.Tokenizer:
        """The tokenizer of our special tokens and the tokens that are kept."""
        bpe = self.bpe({text: i for i, text in enumerate([*SPECIALS, *(self.tokens[number] for number in kept)])})
        bpe.add_special_tokens(list(SPECIALS))
        return bpe

    def rows(self, bpe: tokenizers.Tokenizer, begin_as: dict[int, int]) -> list[int]:
        """The numbers here of the tokens of a cut tokenizer; `begin_as` has those of our special tokens."""
        number = {text: i for i, text in enumerate(self.tokens)}
        own = [bpe.id_to_token(i) or "" for i in range(len(SPECIALS), bpe.get_vocab_size())]
        return [*(begin_as[i] for i in range(len(SPECIALS))), *(number[text] for text in own)]

    def cut(self, counts: Counter[int], size: int) -> list[int]:
        """At most `size` tokens, in their order: all bytes, then the most frequent tokens, each with all that its
        merges go through.
        """
        number = {text: i for i, text in enumerate(self.tokens)}
        parts = {"".join(merge): merge for merge in reversed(self.merges)}  # the first merge that makes a token counts
        kept = set(pre_tokenizers.ByteLevel.alphabet()) & number.keys()
        for token, _ in counts.most_common():
            needed, open_ = set[str](), [self.tokens[token]]
            while open_:
                text = open_.pop()
                if text not in kept and text not in needed:
                    needed.add(text)
                    open_ += parts.get(text, ())
            if len(kept) + len(needed) <= size:
                kept |= needed
        return sorted(number[text] for text in kept)
