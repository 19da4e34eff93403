"""A checkpoint of two layers in the format of those that our models grow from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from tokenizers import pre_tokenizers

MERGES = [("Ġ", "r"), ("e", "t"), ("Ġr", "et"), ("Ġ", "Ġ"), ("Ċ", "Ġ"), ("u", "r"), ("ur", "n"), ("Ġret", "urn")]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
MARKS = 17  # special tokens
TOKENS = [*(f"<special{i}>" for i in range(MARKS)), *ALPHABET, *("".join(merge) for merge in MERGES)]
DIM, LAYERS = 64, 2


def write(path: Path, architecture: str, kind: GGMLQuantizationType, tied: bool = True) -> Path:
    """Four heads that share two of keys; Qwen's has biases. `kind` is that of the matrices."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(DIM)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(100_000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(TOKENS))
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * MARKS + [1] * (len(TOKENS) - MARKS))
    writer.add_token_merges([" ".join(merge) for merge in MERGES])
    dice = np.random.default_rng(0)
    sizes = {"attn_q": (64, DIM), "attn_k": (32, DIM), "attn_v": (32, DIM), "attn_output": (DIM, 64)}
    sizes |= {"ffn_gate": (96, DIM), "ffn_up": (96, DIM), "ffn_down": (DIM, 96)}
    matrices = {f"blk.{layer}.{name}": size for layer in range(LAYERS) for name, size in sizes.items()}
    for name, size in ({"token_embd": (len(TOKENS), DIM)} | matrices).items():
        weight = quantize((dice.standard_normal(size) * 0.2).astype(np.float32), kind)
        writer.add_tensor(f"{name}.weight", weight, raw_dtype=kind)
        if name == "token_embd" and not tied:
            writer.add_tensor("output.weight", weight, raw_dtype=kind)
    for name in (
        "output_norm",
        *(f"blk.{layer}.{norm}" for layer in range(LAYERS) for norm in ("attn_norm", "ffn_norm")),
    ):
        writer.add_tensor(f"{name}.weight", dice.uniform(0.5, 1.5, DIM).astype(np.float32))
    if architecture == "qwen2":
        for name, (rows, _) in matrices.items():
            if name.endswith(("_q", "_k", "_v")):
                writer.add_tensor(f"{name}.bias", dice.standard_normal(rows).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
