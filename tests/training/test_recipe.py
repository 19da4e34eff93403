"""A checkpoint's vocabulary is cut so that any text can be spelled, and its weights are read as others read them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoint
import torch
from gguf import GGMLQuantizationType
from tiny_checkpoint import ALPHABET, TOKENS
from transformers import AutoModelForCausalLM
from trunk_pass import logits

from engine.__main__ import main
from engine.embedded import read_shape
from engine.models.gguf import GgufCheckpoint
from engine.models.trunk import Trunk
from engine.tokenizer import SPECIALS, Tokenizer
from engine.training import recipe


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama, weights in 4 bits."""
    return tiny_checkpoint.write(tmp_path_factory.mktemp("base") / "base.gguf", "llama", GGMLQuantizationType.Q4_1)


def test_logits_are_those_of_transformers_own_reading(gguf: Path) -> None:
    found = GgufCheckpoint(gguf)
    ours = Trunk(recipe.config(found, len(TOKENS))).eval()
    weights = {name: torch.tensor(weight) for name, weight in found.weights()}
    weights["embed.weight"] = weights["head.weight"] = torch.tensor(found.embedding([*range(len(TOKENS))]))
    ours.load_state_dict(weights)
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokens = torch.arange(20, 60)
    with torch.no_grad():
        expected = theirs(tokens[None]).logits[0]
    torch.testing.assert_close(logits(ours, tokens), expected, atol=1e-4, rtol=1e-4)


def test_a_cut_is_closed_under_merges_and_keeps_all_bytes(gguf: Path) -> None:
    counts = Counter({TOKENS.index("Ġreturn"): 100, TOKENS.index("ĠĠ"): 50, TOKENS.index("ĊĠ"): 10})
    kept = {TOKENS[i] for i in GgufCheckpoint(gguf).cut(counts, len(ALPHABET) + 7)}
    assert kept >= {"Ġreturn", "Ġret", "urn", "ur", "et", "Ġr", "ĠĠ"}
    assert kept >= set(ALPHABET)
    assert "ĊĠ" not in kept
    assert not any(text.startswith("<special") for text in kept)


def test_what_is_written_spells_any_text(gguf: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    text = b"def f():\n    return  1234 + r\n" * 4
    (corpus / "corpus.bin").write_bytes(text)
    np.save(corpus / "index.npy", [0, len(text)])
    (corpus / "files.jsonl").write_text('{"package": "p", "path": "p/a.py", "bytes": 120}')
    asked = ["--checkpoint", str(gguf), "--corpus", str(corpus), "--out", str(tmp_path / "out")]
    size = len(SPECIALS) + len(ALPHABET) + 8
    assert main(["train", "recipe", "tiny", *asked, "--vocab", str(size)]) == 0
    words = Tokenizer.load(tmp_path / "out" / "tokenizer.json")
    assert len(SPECIALS) + len(ALPHABET) < words.vocab <= size
    assert words.decode(words.encode("a <mask> 漢\n\treturn\t12\x00")) == "a <mask> 漢\n\treturn\t12\x00"
    assert [words.decode([i]) for i in words.encode(" return12")] == [" return", "1", "2"]
    assert read_shape(tmp_path / "out").name == "tiny"
