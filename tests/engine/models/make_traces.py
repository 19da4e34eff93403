"""What the authors' samplers unmask of a canvas, beside the table that was their model: traces.safetensors.

    python tests/engine/models/make_traces.py FOLDER

FOLDER holds clones of ML-GSAI/LLaDA, NVlabs/Fast-dLLM, DreamLM/DreamOn and pengzhangzhi/Open-dLLM, by these names.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import synthetic
import torch
from safetensors.torch import save_file
from synthetic import EOS, EXPAND, LONGEST, MASK, Case
from torch import Tensor

from engine.contract import Sampling

FILES = {
    "llada": "LLaDA/generate.py",
    "dream": "Fast-dLLM/dream/model/generation_utils.py",
    "dreamon": "DreamOn/eval/generator.py",
    "p2": "Open-dLLM/veomni/models/transformers/qwen2/generation_utils.py",
}
TABLES = synthetic.tables()
PREFIX, SUFFIX = [3, 7, 1, 12, 5], [9, 2, EOS]


class Model:
    """The table, as the references call a model."""

    device, config = torch.device("cpu"), SimpleNamespace(pad_token_id=None)

    def __call__(self, input_ids: Tensor, *args: object, **options: object) -> Any:
        return SimpleNamespace(logits=synthetic.logits(TABLES, input_ids))


def cases() -> list[Case]:
    def case(reference: str, steps: int, canvas: int, suffix: list[int], shift: bool = True, **options: Any) -> Case:
        return Case(reference, Sampling(**options), steps, canvas, PREFIX, suffix, shift)

    algorithms = ("maskgit_plus", "topk_margin", "entropy")
    lengths = ((8, 16), (5, 17), (20, 12))
    found = [case("dream", *length, SUFFIX, alg=alg) for alg, length in itertools.product(algorithms, lengths)]
    found += [case("dream", 6, 16, SUFFIX, alg=alg, top_k=3) for alg in algorithms]
    found += [
        case("llada", steps, 16, [], False, alg="low_confidence", block_length=block, cfg_scale=scale)
        for steps, block, scale in ((16, 16, 0.0), (8, 8, 0.0), (12, 4, 0.0), (8, 8, 0.7))
    ]
    found += [case("p2", *length, SUFFIX, alg="p2") for length in lengths]
    found += [
        case("dreamon", 200, 6, SUFFIX, alg=alg, pad_eos_to_right=right)
        for alg, right in itertools.product(algorithms, (True, False))
    ]
    return found


def run(module: ModuleType, case: Case) -> list[int]:
    """The canvas at the end."""
    start, asked = len(case.prefix), case.sampling
    tokens = torch.tensor([[*case.prefix, *[MASK] * case.canvas, *case.suffix]])
    if case.reference == "llada":
        assert asked.block_length
        out = module.generate(
            Model(), tokens[:, :start], steps=case.steps, gen_length=case.canvas, block_length=asked.block_length,
            cfg_scale=asked.cfg_scale, mask_id=MASK, attention_mask=torch.ones(1, start, dtype=torch.long),
        )  # fmt: skip
    elif case.reference == "dreamon":
        return dreamon(module, case, tokens)
    else:
        mixin = {"dream": "DreamGenerationMixin", "p2": "MDMGenerationMixin"}[case.reference]
        sampler = type("Sampler", (Model, getattr(module, mixin)), {})()
        options = {"mask_token_id": MASK, "steps": case.steps, "eps": 1e-3, "output_history": False, "alg_temp": 0.0}
        config = SimpleNamespace(
            alg=asked.alg, temperature=0.0, top_p=asked.top_p, top_k=asked.top_k, max_length=tokens.shape[1],
            return_dict_in_generate=False, **options,
        )  # fmt: skip
        hooks = (lambda step, x, logits: x, lambda step, x, logits: logits)
        out = (
            sampler._sample(tokens, None, config, *hooks)
            if mixin[0] == "D"
            else sampler._mdm_sample(tokens, None, config)
        )
    found: list[int] = getattr(out, "sequences", out)[0, start : start + case.canvas].tolist()
    return found


def dreamon(module: ModuleType, case: Case, tokens: Tensor) -> list[int]:
    sampler = object.__new__(module.MDMGenerator)
    vars(sampler).update(
        model=Model(), tokenizer=SimpleNamespace(eos_id=EOS), mask_id=MASK, expand_id=EXPAND, max_tokens=64,
        min_gen_len=case.canvas, max_gen_len=LONGEST, expand_budget=LONGEST, steps=case.steps, alg=case.sampling.alg,
        alg_temp=None, temperature=0.0, top_p=None, top_k=None, device="cpu", show_progress=False,
        pad_eos_to_right=bool(case.sampling.pad_eos_to_right), delete_eos_token=True,
    )  # fmt: skip
    out, length = sampler.batch_generate_with_expand_as_token(tokens)
    found: list[int] = out[0, len(case.prefix) : len(case.prefix) + length].tolist()
    return found


def main(folder: Path) -> None:
    sys.modules.setdefault("omegaconf", SimpleNamespace(OmegaConf=None))  # type: ignore[arg-type]
    tensors, asked = dict(TABLES), {}
    for number, case in enumerate(cases()):
        spec = importlib.util.spec_from_file_location(f"reference_{case.reference}", folder / FILES[case.reference])
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        tensors[f"canvas.{number}"] = torch.tensor(run(module, case))
        asked[f"case.{number}"] = msgspec.json.encode(case).decode()
    save_file(tensors, synthetic.TRACES, metadata=asked)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
