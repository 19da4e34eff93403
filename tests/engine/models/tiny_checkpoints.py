"""Tiny random checkpoints in each family's own format, and independent implementations to hold ours to."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import tokenizers
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from engine.backends import sampling
from engine.contract import Sampling
from engine.decoding.runner import CanvasPredictions, ForwardInput
from engine.models.transformer import Transformer, visible

torch.set_num_threads(1)
SPECIALS = ["<|endoftext|>", "<|beginoftext|>", "<|mask|>", "<|expand|>"]
FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
EOS, BOS, MASK, EXPAND = range(4)
VOCAB = 320  # specials, bytes and a few merges
TEXT = "def add(a, b):\n    return a + b\n\n\nclass Point:\n    def __init__(self, x, y):\n        self.x = x\n" * 4

Reference = Callable[[Tensor], Tensor]  # ids (1, n) to logits (1, n, vocab)


def passed(
    model: Transformer,
    ids: Tensor,
    memory: Tensor,
    start: int = 0,
    total: int | None = None,
) -> Tensor:
    """Logits (1, n, vocab) of our model's pass of ids (1, n) at positions from `start`, over `total` that count."""
    positions = torch.arange(start, start + ids.shape[1])[None]
    counts = torch.tensor([[start + ids.shape[1] if total is None else total]])
    seen = visible(positions, counts, memory.shape[4], model.shape.block)
    logits: Tensor = model(ids, positions, memory, seen, torch.arange(ids.shape[1])[None])
    return logits


def guess_of(
    logits: Tensor, question: ForwardInput, picks: Sampling | None = None, seed: int | None = None
) -> CanvasPredictions:
    """What a model with these logits (rows, vocab) says."""
    allowed = torch.ones(1, logits.shape[1], dtype=torch.bool)
    row = 0
    if question.allowed is not None:
        row = question.allowed[0]
        allowed[:] = False
        allowed[0, question.allowed[1]] = True
    noise = None if seed is None else torch.rand(1, *logits.shape, generator=torch.Generator().manual_seed(seed))
    numbers = [torch.tensor([each]) for each in (question.canvas, question.suppressed, [row])]
    dials = torch.tensor([sampling.dials(picks or Sampling())])
    found = sampling.summary(logits[None], *numbers, allowed, None if noise is None else dials, noise)
    tokens, *rest, agrees = found[:, 0].tolist()
    return CanvasPredictions([int(token) for token in tokens], *rest, bool(agrees[0]), question.canvas)


@lru_cache
def tokenizer_json(fim: bool, marks: tuple[str, ...] = FIM, begins: bool = False) -> str:
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIALS + list(marks) * fim,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([TEXT], trainer)
    if begins:
        bpe.post_processor = tokenizers.processors.TemplateProcessing(
            f"{SPECIALS[BOS]} $A", None, [(SPECIALS[BOS], BOS)]
        )
    text: str = bpe.to_str()
    return text


def write(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], fim: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tokenizer_json(fim))
    special = {"eos_token": SPECIALS[EOS], "bos_token": {"content": SPECIALS[BOS]}, "mask_token": SPECIALS[MASK]}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    save_file({name: tensor.contiguous().clone() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


def causal(made: tuple[Path, Reference], marks: tuple[str, ...], begins: bool = False) -> tuple[Path, Reference]:
    """With a causal code model's tokenizer, which has fill-in-the-middle tokens and no mask."""
    folder, reference = made
    (folder / "tokenizer.json").write_text(tokenizer_json(True, marks, begins))
    special = {"eos_token": SPECIALS[EOS], "bos_token": SPECIALS[BOS]}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return folder, reference


def block_mask(length: int, block: int) -> Tensor:
    """Added to scores, (1, 1, n, n): blocked where a key's block comes after the row's; block 0 blocks nothing."""
    row = torch.arange(length)
    hidden = row[None, :] // block > row[:, None] // block if block else torch.zeros(length, length, dtype=torch.bool)
    return torch.zeros(length, length).masked_fill(hidden, torch.finfo(torch.float32).min)[None, None]


def randomised(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Weights far from their initial ones, so that no norm, bias or gate is the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name and "weight" in name else 0.3 * noise)
    return model.eval()


def through_transformers(model: PreTrainedModel, block: int) -> Reference:
    @torch.no_grad()
    def logits(ids: Tensor) -> Tensor:
        out: Tensor = model(input_ids=ids, attention_mask=block_mask(ids.shape[1], block), use_cache=False).logits
        return out

    return logits


LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "attn_implementation": "eager",
}


def qwen2(folder: Path, marks: dict[str, Any], block: int = 0, **config: Any) -> tuple[Path, Reference]:
    return _llama_like(folder, Qwen2Config, Qwen2ForCausalLM, marks, block, config)


def qwen3(folder: Path, marks: dict[str, Any], block: int = 0, **config: Any) -> tuple[Path, Reference]:
    return _llama_like(folder, Qwen3Config, Qwen3ForCausalLM, marks, block, {"head_dim": 16, **config})


def llama(folder: Path, marks: dict[str, Any], block: int = 0, **config: Any) -> tuple[Path, Reference]:
    return _llama_like(folder, LlamaConfig, LlamaForCausalLM, marks, block, config)


def starcoder2(folder: Path) -> tuple[Path, Reference]:
    return _llama_like(folder, Starcoder2Config, Starcoder2ForCausalLM, {}, 1, {"norm_epsilon": 1e-5})


def _llama_like(
    folder: Path,
    kind: type[PreTrainedConfig],
    model_class: type[PreTrainedModel],
    marks: dict[str, Any],
    block: int,
    config: dict[str, Any],
) -> tuple[Path, Reference]:
    model = randomised(model_class(kind(**{**LLAMA_LIKE, **config})), seed=1)
    weights = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    return write(folder, {**model.config.to_dict(), **marks}, weights), through_transformers(model, block)


def gpt2(folder: Path, marks: dict[str, Any]) -> tuple[Path, Reference]:
    """DiffuGPT's names: the embedding beside the transformer, tied to a head that is not stored."""
    config = GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=512, attn_implementation="eager")
    model = randomised(GPT2LMHeadModel(config), seed=2)
    weights = {"embed_tokens.weight": model.transformer.wte.weight}
    weights |= {f"denoise_model.{name}": w for name, w in model.transformer.state_dict().items() if "wte" not in name}
    return write(folder, {**config.to_dict(), **marks}, weights), through_transformers(model, 0)


LLADA = {
    "model_type": "llada",
    "architectures": ["LLaDAModelLM"],
    "d_model": 32,
    "n_heads": 4,
    "n_kv_heads": 4,
    "n_layers": 2,
    "mlp_hidden_size": 48,
    "vocab_size": VOCAB - 2,
    "embedding_size": VOCAB,
    "max_sequence_length": 512,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5,
    "block_type": "llama",
    "activation_type": "silu",
    "include_bias": False,
    "include_qkv_bias": False,
    "weight_tying": False,
    "mask_token_id": MASK,
}


def llada(folder: Path) -> tuple[Path, Reference]:
    w, root = _Random(3), "model.transformer"
    w.matrix(f"{root}.wte.weight", VOCAB, 32)
    w.matrix(f"{root}.ff_out.weight", VOCAB, 32)
    w.scale(f"{root}.ln_f.weight", 32)
    for i in range(2):
        at = f"{root}.blocks.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "attn_out"):
            w.matrix(f"{at}.{name}.weight", 32, 32)
        w.matrix(f"{at}.ff_proj.weight", 48, 32)
        w.matrix(f"{at}.up_proj.weight", 48, 32)
        w.matrix(f"{at}.ff_out.weight", 32, 48)
        w.scale(f"{at}.attn_norm.weight", 32)
        w.scale(f"{at}.ff_norm.weight", 32)
    return write(folder, LLADA, w.tensors, fim=False), lambda ids: _llada_logits(w.tensors, ids)


def _llada_logits(w: dict[str, Tensor], ids: Tensor) -> Tensor:
    """From the description of LLaDA: pre-norm RMS blocks, every row sees every row, rotary positions in halves."""

    def rms(x: Tensor, scale: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * scale

    root = "model.transformer"
    x = w[f"{root}.wte.weight"][ids]
    for i in range(2):
        at = f"{root}.blocks.{i}"
        h = rms(x, w[f"{at}.attn_norm.weight"])
        q, k, v = (h @ w[f"{at}.{name}_proj.weight"].T for name in "qkv")
        x = x + _plain_attention(q, k, v, 4, 500000.0) @ w[f"{at}.attn_out.weight"].T
        h = rms(x, w[f"{at}.ff_norm.weight"])
        gate = h @ w[f"{at}.ff_proj.weight"].T
        x = x + (gate * gate.sigmoid() * (h @ w[f"{at}.up_proj.weight"].T)) @ w[f"{at}.ff_out.weight"].T
    return rms(x, w[f"{root}.ln_f.weight"]) @ w[f"{root}.ff_out.weight"].T


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, base: float, block: int = 0) -> Tensor:
    """q, k, v (1, n, dim), with loops over heads and complex numbers for the turns."""
    n, size = q.shape[1], q.shape[2] // heads
    angle = torch.arange(n)[:, None] * base ** (-torch.arange(0, size, 2) / size)
    turn = torch.polar(torch.ones_like(angle), angle)

    def turned(x: Tensor) -> Tensor:
        z = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * turn
        return torch.cat((z.real, z.imag), dim=-1)

    parts = []
    for a, b, c in zip(q.split(size, -1), k.split(size, -1), v.split(size, -1), strict=True):
        scores = turned(a) @ turned(b).transpose(1, 2) / math.sqrt(size) + block_mask(n, block)[0]
        parts.append(scores.softmax(-1) @ c)
    return torch.cat(parts, dim=-1)


DIT = {"hidden_dim": 32, "cond_dim": 16, "n_blocks": 2, "n_heads": 4, "model_length": 256, "time_conditioning": False}


def dit(folder: Path, marks: dict[str, Any], block: int = 0) -> tuple[Path, Reference]:
    w = _Random(4)
    w.matrix("backbone.vocab_embed.embedding", VOCAB, 32)
    for name, out, width in (("0", 16, 256), ("2", 16, 16)):
        w.linear(f"backbone.sigma_map.mlp.{name}", out, width)
    for i in range(2):
        at = f"backbone.blocks.{i}"
        w.scale(f"{at}.norm1.weight", 32)
        w.scale(f"{at}.norm2.weight", 32)
        w.matrix(f"{at}.attn_qkv.weight", 96, 32)
        w.matrix(f"{at}.attn_out.weight", 32, 32)
        w.linear(f"{at}.mlp.0", 128, 32)
        w.linear(f"{at}.mlp.2", 32, 128)
        w.linear(f"{at}.adaLN_modulation", 192, 16)
    w.scale("backbone.output_layer.norm_final.weight", 32)
    w.linear("backbone.output_layer.linear", VOCAB, 32)
    w.linear("backbone.output_layer.adaLN_modulation", 64, 16)
    w.scale("backbone.rotary_emb.inv_freq", 4)  # a buffer that checkpoints carry
    config = {"vocab_size": VOCAB, **DIT, **marks}
    return write(folder, config, w.tensors, fim=False), lambda ids: _dit_logits(w.tensors, ids, block)


def _dit_logits(w: dict[str, Tensor], ids: Tensor, block: int) -> Tensor:
    """From the description of a DiT with adaptive norms, at time zero, its modulation computed anew in every layer."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normed(x: Tensor, name: str, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(x, (32,)) * w[f"{name}.weight"] * (1 + scale) + shift

    frequency = torch.exp(-math.log(10000) * torch.arange(128) / 128)
    time = torch.cat((torch.cos(0 * frequency), torch.sin(0 * frequency)))[None]
    c = F.silu(linear(F.silu(linear(time, "backbone.sigma_map.mlp.0")), "backbone.sigma_map.mlp.2"))
    x = w["backbone.vocab_embed.embedding"][ids]
    for i in range(2):
        at = f"backbone.blocks.{i}"
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = linear(c, f"{at}.adaLN_modulation").chunk(6, dim=-1)
        q, k, v = (normed(x, f"{at}.norm1", shift_a, scale_a) @ w[f"{at}.attn_qkv.weight"].T).chunk(3, dim=-1)
        x = x + gate_a * (_plain_attention(q, k, v, 4, 10000.0, block) @ w[f"{at}.attn_out.weight"].T)
        up = F.gelu(linear(normed(x, f"{at}.norm2", shift_m, scale_m), f"{at}.mlp.0"), approximate="tanh")
        x = x + gate_m * linear(up, f"{at}.mlp.2")
    shift, scale = linear(c, "backbone.output_layer.adaLN_modulation").chunk(2, dim=-1)
    return linear(normed(x, "backbone.output_layer.norm_final", shift, scale), "backbone.output_layer.linear")


class _Random:
    def __init__(self, seed: int) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def matrix(self, name: str, *size: int) -> None:
        self.tensors[name] = 0.3 * torch.randn(size, generator=self._generator)

    def scale(self, name: str, size: int) -> None:
        self.tensors[name] = 1 + 0.3 * torch.randn(size, generator=self._generator)

    def linear(self, name: str, out: int, width: int) -> None:
        self.matrix(f"{name}.weight", out, width)
        self.matrix(f"{name}.bias", out)


def shard(folder: Path) -> None:
    """Split a checkpoint's weights in two files with an index, as large checkpoints come."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    files = {f"model-0000{part + 1}-of-00002.safetensors": names[part::2] for part in range(2)}
    for file, part in files.items():
        save_file({name: weights[name] for name in part}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in files.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
DREAM = {"model_type": "Dream", "architectures": ["DreamModel"], "mask_token_id": MASK}

CAUSAL: dict[str, Callable[[Path], tuple[Path, Reference]]] = {
    "qwen2.5-coder": lambda at: causal(qwen2(at / "Qwen2.5-Coder", {}, block=1, tie_word_embeddings=True), FIM),
    "seed-coder": lambda at: causal(
        llama(at / "Seed-Coder", {}, block=1), ("<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>")
    ),
    "deepseek-coder": lambda at: causal(
        llama(at / "deepseek-coder", {}, block=1, rope_parameters=LINEAR),
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # noqa: RUF001
        begins=True,
    ),
    "granite-code": lambda at: causal(
        llama(at / "granite", {}, block=1, attention_bias=True, mlp_bias=True),
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ),
    "starcoder2": lambda at: causal(starcoder2(at / "starcoder2"), ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")),
}
FAMILIES: dict[str, Callable[[Path], tuple[Path, Reference]]] = {
    **CAUSAL,
    "dream": lambda at: qwen2(at / "Dream-v0-Base", DREAM),
    "dreamon": lambda at: qwen2(at / "DreamOn-v0", {**DREAM, "expand_token_id": EXPAND}),
    "open-dcoder": lambda at: qwen2(
        at / "open-dcoder-0.5B", {"_name_or_path": "fredzzp/open-dcoder-0.5B"}, tie_word_embeddings=True
    ),
    "fast-dllm-v2": lambda at: qwen2(
        at / "Fast_dLLM_v2", {"model_type": "Fast_dLLM_Qwen", "bd_size": 8, "mask_token_id": MASK}, block=8
    ),
    "tiny-a2d-qwen2": lambda at: qwen2(
        at / "Qwen2.5-diffusion-mdlm",
        {
            "model_type": "a2d-qwen2",
            "_name_or_path": "dllm-hub/Qwen2.5-Coder-0.5B-Instruct-diffusion-mdlm-v0.1",
        },
    ),
    "tiny-a2d-qwen3": lambda at: qwen3(
        at / "Qwen3-diffusion-mdlm",
        {"model_type": "a2d-qwen3", "_name_or_path": "dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1"},
        tie_word_embeddings=True,
    ),
    "tiny-a2d-blocks": lambda at: qwen3(
        at / "Qwen3-diffusion-bd3lm", {"model_type": "a2d-qwen3", "block_size": 8}, block=8
    ),
    "sdar": lambda at: qwen3(at / "SDAR", {"model_type": "sdar", "mask_token_id": MASK}, block=4),
    "stable-diffcoder": lambda at: llama(
        at / "Stable-DiffCoder", {"architectures": ["StableDiffcoderForCausalLM"], "mask_token_id": MASK}, block=4
    ),
    "diffullama": lambda at: llama(
        at / "diffullama",
        {"mask_token_id": MASK, "_name_or_path": "diffusionfamily/diffullama"},
        num_key_value_heads=4,
    ),
    "llada": lambda at: llada(at / "LLaDA-8B"),
    "diffugpt": lambda at: gpt2(at / "diffugpt-s", {"mask_token_id": MASK}),
    "mdlm": lambda at: dit(at / "mdlm-owt", {"model_type": "mdlm"}),
    "bd3lm": lambda at: dit(at / "bd3lm-owt", {"model_type": "bd3lm", "block_size": 4}, block=4),
}
