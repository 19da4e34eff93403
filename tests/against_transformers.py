"""A fetched model against transformers' reading of the checkpoint that it grows from, all layers of it.

    python tests/against_transformers.py GGUF [--model base] [--tokens 400]

transformers' own Qwen2 gets the checkpoint's numbers in float32, by its names for them. Ours are compared with it on
source code, on the tokens that our vocabulary keeps: in float32, which tells whether shapes, biases and rotations are
right, and as it runs, in eight bits. No adapter is merged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from tokenizers import Tokenizer as Bpe
from transformers import Qwen2Config, Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine import get
from engine.backends.onnx import OnnxRunner
from engine.embedded import read_shape
from engine.evaluation.latency import SAMPLE, read
from engine.models.gguf import GgufCheckpoint
from engine.models.trunk import Trunk
from engine.tokenizer import SPECIALS, Tokenizer
from engine.training.recipe import config

PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip

Logits = NDArray[np.float32]  # (tokens, kept vocabulary)


def of_transformers(path: Path, ids: list[int], rows: list[int]) -> Logits:
    """Its logits of the tokens `rows` after each of `ids`, which are the checkpoint's own."""
    found = GgufCheckpoint(path)
    weights = {
        each.name: torch.tensor(dequantize(each.data, each.tensor_type).reshape(each.shape[::-1]), dtype=torch.float32)
        for each in GGUFReader(path).tensors
    }
    vocab, dim = weights["token_embd.weight"].shape
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocab,
            hidden_size=dim,
            intermediate_size=found.number("feed_forward_length"),
            num_hidden_layers=found.layers,
            num_attention_heads=found.number("attention.head_count"),
            num_key_value_heads=found.number("attention.head_count_kv"),
            rms_norm_eps=found.real("attention.layer_norm_rms_epsilon"),
            rope_parameters={"rope_type": "default", "rope_theta": found.real("rope.freq_base")},
            tie_word_embeddings=False,
        )
    )
    head = weights.get("output.weight", weights["token_embd.weight"])  # in more bits: ours is read from it for both
    state = {
        "model.embed_tokens.weight": head,
        "lm_head.weight": head,
        "model.norm.weight": weights["output_norm.weight"],
    }
    for name, weight in weights.items():
        if name.startswith("blk."):
            _, layer, part, kind = name.split(".")
            state[f"model.layers.{layer}.{PARTS[part]}.{kind}"] = weight
    model.load_state_dict(state)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    return np.asarray(logits[:, rows].numpy())


def in_floats(path: Path, tokens: list[int], rows: list[int]) -> Logits:
    found = GgufCheckpoint(path)
    trunk = Trunk(config(found, len(rows)))
    state = {name: torch.tensor(weight) for name, weight in found.weights()}
    state["embed.weight"] = state["head.weight"] = torch.tensor(found.embedding(rows))
    trunk.load_state_dict(state)
    with torch.no_grad():
        read = torch.tensor([tokens])
        tail = torch.ones(1, 1, 1, len(tokens), dtype=torch.bool)  # the last is the tail, and sees all
        hidden = trunk(read, torch.zeros(1, len(tokens), 2, dtype=torch.long), torch.arange(len(tokens))[None], tail)
        return np.asarray(trunk.head(hidden)[0].numpy())


def as_it_runs(name: str, path: Path, tokens: list[int]) -> Logits:
    adapter, get.ADAPTER = get.ADAPTER, "none"
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / name
            get.convert(get.WEIGHTS / name, path, made, lambda text: None)
            passes = OnnxRunner.load(made, read_shape(made))
            return passes.forward(tokens, [], len(tokens)).logits
    finally:
        get.ADAPTER = adapter


def nats(logits: Logits, tokens: list[int]) -> float:
    """A token, of the next ones."""
    own = logits[:-1, len(SPECIALS) :].astype(np.float64)
    chosen = own[np.arange(len(own)), np.array(tokens[1:]) - len(SPECIALS)]
    return float((np.logaddexp.reduce(own, axis=1) - chosen).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="the GGUF")
    parser.add_argument("--model", default="base", choices=get.MODELS)
    parser.add_argument("--tokens", type=int, default=400)
    arguments = parser.parse_args()
    recipe = get.WEIGHTS / arguments.model
    tokenizer = recipe / "tokenizer.json"
    tokenizer = tokenizer if tokenizer.exists() else get.WEIGHTS / "base" / "tokenizer.json"
    tokens = Tokenizer.load(tokenizer).encode(read(SAMPLE))[: arguments.tokens]
    rows = GgufCheckpoint(arguments.checkpoint).rows(Bpe.from_file(str(tokenizer)), get.QWEN_BEGIN_AS)
    theirs = of_transformers(arguments.checkpoint, [rows[token] for token in tokens], rows)
    print(f"{len(tokens)} tokens; transformers: {nats(theirs, tokens):.4f} nats a token")
    for how, ours in (
        ("in float32", in_floats(arguments.checkpoint, tokens, rows)),
        ("in eight bits", as_it_runs(arguments.model, arguments.checkpoint, tokens)),
    ):
        agreed = (ours[:, len(SPECIALS) :].argmax(1) == theirs[:, len(SPECIALS) :].argmax(1)).mean()
        largest = np.abs(ours - theirs)[:, len(SPECIALS) :].max()
        print(
            f"ours {how}: {nats(ours, tokens):.4f} nats a token, the same greedy token in {agreed:.1%}, logits at most "
            f"{largest:.4f} apart"
        )


if __name__ == "__main__":
    main()
