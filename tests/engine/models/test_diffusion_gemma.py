"""DiffusionGemma through transformers' own classes, on a tiny random checkpoint in its own format."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch
from transformers import (
    DiffusionGemmaConfig,
    DiffusionGemmaForBlockDiffusion,
    DiffusionGemmaTextConfig,
    Gemma4VisionConfig,
)

from engine.contract import Cancelled, EngineError, FillRequest
from engine.models.diffusion_gemma import DiffusionGemma, cut
from engine.public import load

REQUEST = FillRequest(prefix="def add(a, b):\n    ", suffix="\n\nclass Point:\n", steps=4, max_tokens=8)
TEMPLATE = "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}{% if add_generation_prompt %}<m>{% endif %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("diffusiongemma")
    text = DiffusionGemmaTextConfig(
        vocab_size=tiny.VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        global_head_dim=8,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=64,
        max_position_embeddings=4096,
        num_experts=2,
        top_k_experts=1,
        moe_intermediate_size=16,
        pad_token_id=tiny.EOS,
        eos_token_id=tiny.EOS,
        bos_token_id=tiny.BOS,
    )
    vision = Gemma4VisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    ids = {"boi_token_id": 4, "eoi_token_id": 5, "image_token_id": 6}
    torch.manual_seed(0)
    model = DiffusionGemmaForBlockDiffusion(
        DiffusionGemmaConfig(text_config=text, vision_config=vision, canvas_length=16, **ids)
    )
    model.save_pretrained(at)
    (at / "tokenizer.json").write_text(tiny.tokenizer_json(True))
    special = {"eos_token": tiny.SPECIALS[tiny.EOS], "bos_token": tiny.SPECIALS[tiny.BOS], "chat_template": TEMPLATE}
    (at / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))
    return at


def test_a_fill_is_what_transformers_generates_after_the_prefix(folder: Path) -> None:
    backend = load(str(folder), "cpu")
    assert isinstance(backend, DiffusionGemma)
    made = backend.fill(REQUEST, threading.Event())
    ids = backend._prompt(REQUEST)
    text = backend._tokenizer.decode(ids[0])
    assert text.endswith("<m>```\ndef add(a, b):\n    ")
    assert "class Point:" in text
    torch.manual_seed(0)
    plain = backend._model.generate(ids, max_new_tokens=16, max_denoising_steps=4).sequences[0, ids.shape[1] :].tolist()
    expected = plain[: min(8, plain.index(tiny.EOS) if tiny.EOS in plain else 8)]
    assert made.text == cut(backend._tokenizer.decode(expected, skip_special_tokens=True), REQUEST)
    assert made.passes == 4
    assert made.tokens == len(expected) > 0
    assert backend.fill(REQUEST, threading.Event()).text == made.text
    assert 0 <= made.confidence < 0.5  # random weights are unsure


def test_cancelling_and_deadline_are_looked_at_in_every_pass(folder: Path) -> None:
    backend = load(str(folder), "cpu")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        backend.fill(REQUEST, cancel)
    late = backend.fill(FillRequest(prefix="a = ", steps=40, deadline_ms=0.0), threading.Event())
    assert late.passes == 1
    assert not late.complete


@pytest.mark.parametrize(
    ("answer", "lines", "expected"),
    [
        ("x = 1\n```\nThat is it.", None, "x = 1\n"),
        ("x = 1\n\nclass Point:\n    pass", None, "x = 1\n"),
        ("x = 1\ny = 2", 1, "x = 1"),
        ("é\ufffd", None, "é"),
    ],
)
def test_an_answer_is_cut_where_the_fill_ends(answer: str, lines: int | None, expected: str) -> None:
    assert cut(answer, FillRequest(prefix="", suffix="\nclass Point:\n", max_lines=lines)) == expected


def test_crlf() -> None:
    assert cut("a\nb", FillRequest(prefix="x\r\n")) == "a\r\nb"


def test_a_missing_shard_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EngineError, match="cannot be loaded") as failure:
        load(str(tmp_path), "cpu")
    assert "\n" not in str(failure.value)
