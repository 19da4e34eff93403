"""DiffusionGemma through transformers' own classes, on a tiny random checkpoint in its own format."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import tiny_checkpoints as tiny
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
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


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def said(folder: Path) -> str:
    with pytest.raises(EngineError) as failure:
        load(str(folder), "cpu")
    assert "\n" not in str(failure.value)
    return str(failure.value)


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def test_no_weights(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")  # a pickle may run code
    assert "safetensors only" in said(copy)


def test_damaged_weights(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:999])
    assert "is damaged" in said(copy)


def test_an_index_that_is_none(copy: Path) -> None:
    (copy / "model.safetensors.index.json").write_text("{")
    assert "is damaged" in said(copy)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda weights, name: weights.pop(name), "missing"),
        (lambda weights, name: weights.update({name + "s": weights[name].clone()}), "unexpected"),
        (lambda weights, name: weights.update({name: weights[name][:-1].clone()}), "cannot be loaded"),
        (lambda weights, name: weights.update({name: weights[name] * math.nan}), "no numbers"),
        (lambda weights, name: weights.update({name: weights[name].to(torch.int8)}), "stored as I8"),
    ],
)
def test_weights_that_are_not_those_of_the_config(
    change: Callable[[dict[str, Tensor], str], object], why: str, copy: Path
) -> None:
    weights = load_file(copy / "model.safetensors")
    change(weights, next(name for name in sorted(weights) if "mlp" in name and "down_proj" in name))
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert why in said(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"text_config": 3},
        {"text_config": {"hidden_size": "x"}},
        {"canvas_length": 0},
        {"canvas_length": 10**9},
        {"canvas_length": 16.5},
        {"vision_config": [1]},
    ],
)
def test_a_config_that_makes_no_sense(change: dict[str, object], copy: Path) -> None:
    change_config(copy, **change)
    assert "describes no DiffusionGemma model" in said(copy)


def test_quantised_weights(copy: Path) -> None:
    change_config(copy, quantization_config={"quant_method": "fp8"})
    assert "are quantised" in said(copy)


def templated(template: str) -> str:
    special = {"eos_token": tiny.SPECIALS[tiny.EOS], "chat_template": template}
    return json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special})


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer_config.json", "{}"),
        ("tokenizer_config.json", templated("{% for m in %}")),
        ("tokenizer_config.json", templated("{{ messages[0].of.nothing }}")),
        ("tokenizer_config.json", templated("{{ raise_exception('no') }}")),
        ("chat_template.jinja", "{% for m in %}"),
    ],
)
def test_no_tokenizer_or_no_chat_template(file: str, content: str, copy: Path) -> None:
    (copy / file).write_text(content)
    assert "no tokenizer that can be read" in said(copy)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "is damaged"),
        ("[1]", "is no JSON object"),
        ('{"eos_token_id": "x"}', "names no tokens"),
        ('{"eos_token_id": [0, 1.5]}', "names no tokens"),
        ('{"pad_token_id": "x"}', "names no tokens"),
    ],
)
def test_a_generation_config_that_is_none(content: str, why: str, copy: Path) -> None:
    (copy / "generation_config.json").write_text(content)
    assert why in said(copy)


def test_tokens_without_an_embedding(copy: Path) -> None:
    bpe = tokenizers.Tokenizer.from_str(tiny.tokenizer_json(True))
    bpe.add_tokens([f"<|{number}|>" for number in range(tiny.VOCAB)])
    bpe.save(str(copy / "tokenizer.json"))
    assert f"{tiny.VOCAB} embeddings and a token of id" in said(copy)


def test_copies_stand_in_the_noise_and_doubt_ends_a_fill(folder: Path) -> None:
    backend = load(str(folder), "cpu")
    line = "        self.height = measured_height(width, depth)"
    request = FillRequest(prefix=f"{line}\n    x = 1\n{line[:40]}", suffix="\n", steps=2, max_tokens=8, max_lines=1)
    seen: list[list[int]] = []
    decoder = backend._model.model.decoder
    forward = decoder.forward

    def watched(*args: object, **options: object) -> object:
        seen.append(options["decoder_input_ids"][0].tolist())
        return forward(*args, **options)

    decoder.forward = watched
    backend.fill(request, threading.Event())
    assert backend._tokenizer.decode(seen[0]).startswith("dth, dep")
    unsure = backend.fill(msgspec.structs.replace(request, min_confidence=0.99, copies=False), threading.Event())
    assert not backend._tokenizer.decode(seen[2]).startswith("dth, dep")
    assert (unsure.tokens, unsure.complete) == (1, False)


@pytest.mark.parametrize("option", [{"drafts": False}, {"trust": 0.5}])
def test_what_it_cannot_do_is_refused(folder: Path, option: dict[str, object]) -> None:
    with pytest.raises(EngineError, match="leave drafts on and trust at 1"):
        load(str(folder), "cpu").fill(FillRequest(prefix="a = ", **option), threading.Event())
