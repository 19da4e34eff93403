"""The base: its vocabulary is cut so that any text can be spelled, and its weights are read as others read them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quantize
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM
from trunk_pass import logits

from engine.contract import EngineError
from engine.models.trunk import Trunk, TrunkConfig
from engine.tokenizer import SPECIALS, Tokenizer
from engine.training import base
from engine.training.train import read_base

MERGES = [("Ġ", "r"), ("e", "t"), ("Ġr", "et"), ("Ġ", "Ġ"), ("Ċ", "Ġ"), ("u", "r"), ("ur", "n"), ("Ġret", "urn")]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = [*(f"<special{i}>" for i in range(17)), *ALPHABET, *("".join(merge) for merge in MERGES)]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama in the format of the base: two layers, four heads that share two of keys, weights in 4 bits."""
    path = tmp_path_factory.mktemp("base") / "base.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(256)
    writer.add_embedding_length(64)
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
    writer.add_token_types([3] * 17 + [1] * (len(TOKENS) - 17))
    writer.add_token_merges([" ".join(merge) for merge in MERGES])
    dice = np.random.default_rng(0)
    shapes = {"token_embd": (len(TOKENS), 64)}
    for layer in range(2):
        block = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
        block |= {"ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    for name, shape in shapes.items():
        weight = (dice.standard_normal(shape) * 0.2).astype(np.float32)
        kind = GGMLQuantizationType.Q4_1
        writer.add_tensor(f"{name}.weight", quantize(weight, kind), raw_dtype=kind)
    for name in ("output_norm", *(f"blk.{layer}.{norm}" for layer in range(2) for norm in ("attn_norm", "ffn_norm"))):
        writer.add_tensor(f"{name}.weight", dice.uniform(0.5, 1.5, 64).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_logits_are_those_of_transformers_own_reading(gguf: Path) -> None:
    reader = GGUFReader(gguf)
    config = base.config(reader, len(TOKENS))
    ours = Trunk(config).eval()
    weights = base.trunk_weights(reader, config)
    ours.load_state_dict(weights | {"head.weight": weights["embed.weight"]})
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokens = torch.arange(20, 60)
    with torch.no_grad():
        expected = theirs(tokens[None]).logits[0]
    torch.testing.assert_close(logits(ours, tokens), expected, atol=1e-4, rtol=1e-4)


def test_a_cut_is_closed_under_merges_and_keeps_all_bytes() -> None:
    counts = Counter({TOKENS.index("Ġreturn"): 100, TOKENS.index("ĠĠ"): 50, TOKENS.index("ĊĠ"): 10})
    kept = {TOKENS[i] for i in base.cut(TOKENS, MERGES, counts, len(ALPHABET) + 7)}
    assert kept >= {"Ġreturn", "Ġret", "urn", "ur", "et", "Ġr", "ĠĠ"}
    assert kept >= set(ALPHABET)
    assert "ĊĠ" not in kept
    assert not any(text.startswith("<special") for text in kept)


def test_what_is_written_can_be_trained(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "fetched", lambda folder: gguf)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    text = b"def f():\n    return  1234 + r\n" * 4
    (corpus / "corpus.bin").write_bytes(text)
    np.save(corpus / "index.npy", [0, len(text)])
    (corpus / "files.jsonl").write_text('{"package": "p", "path": "p/a.py", "bytes": 120}')
    size = len(SPECIALS) + len(ALPHABET) + 8
    base.run(corpus, tmp_path / "out", size)
    words = Tokenizer.load(tmp_path / "out" / "tokenizer.json")
    size = words.vocab
    assert size > len(SPECIALS) + len(ALPHABET)
    assert words.decode(words.encode("a <mask> 漢\n\treturn\t12\x00")) == "a <mask> 漢\n\treturn\t12\x00"
    assert [words.decode([i]) for i in words.encode(" return12")] == [" return", "1", "2"]
    config = base.config(GGUFReader(gguf), size)
    model = Trunk(config)
    read_base(model, tmp_path / "out" / "base.safetensors")
    whole = base.trunk_weights(GGUFReader(gguf), config)["embed.weight"]
    spelled = words.encode("r")[0]
    assert torch.equal(model.embed.weight[spelled], whole[TOKENS.index("r")])
    assert "SmolLM2" in (tmp_path / "out" / "NOTICE").read_text()
    with pytest.raises(EngineError, match="not that of the configured model"):
        read_base(Trunk(TrunkConfig(layers=1)), tmp_path / "out" / "base.safetensors")
