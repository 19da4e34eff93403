"""Causal code models: what transformers' greedy generation writes, whatever was drafted, in each format."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest
import tiny_checkpoints as tiny
import torch
from transformers import AutoModelForCausalLM

from engine import public
from engine.backends.batch_runner import BatchRunner
from engine.backends.sequence import Sequence
from engine.contract import FillRequest, Refusal, Sampling
from engine.decoding import draft_verify
from engine.decoding.limits import DecodedTokens, Limits
from engine.models import checkpoint

BEFORE, AFTER = "class Point:", "        self.x = x\n"
GAP = FillRequest(prefix=BEFORE + "\n", suffix=AFTER, max_tokens=11)
ORDERS: dict[str, tuple[str, ...]] = {
    "qwen2.5-coder": ("<|fim_prefix|>", "<|fim_suffix|>", AFTER, "<|fim_middle|>", BEFORE),
    "seed-coder": ("<[fim-suffix]>", AFTER, "<[fim-prefix]>", BEFORE, "<[fim-middle]>"),
    "deepseek-coder": (tiny.SPECIALS[tiny.BOS], "<｜fim▁begin｜>", BEFORE, "<｜fim▁hole｜>", AFTER, "<｜fim▁end｜>"),  # noqa: RUF001
    "granite-code": ("<fim_prefix>", BEFORE, "<fim_suffix>", AFTER, "<fim_middle>"),
    "starcoder2": ("<fim_prefix>", BEFORE, "<fim_suffix>", AFTER, "<fim_middle>"),
}


class Drafts:
    """A copier that drafts what it is told, and has no say in what is chosen."""

    next, ahead = None, list[int]()

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens

    def draft(self) -> list[int]:
        return self.tokens[:4]

    def decided(self) -> DecodedTokens:
        return DecodedTokens()

    def advance(self, tokens: list[int]) -> None:
        self.tokens = self.tokens[len(tokens) :]


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_it_writes_what_transformers_writes_with_and_without_drafts(family: str, tmp_path: Path) -> None:
    """config.json and tokenizer tell the family; the prompt is the format's; right drafts save passes, wrong ones cost
    none; what is kept of the request before is reused.
    """
    folder, _ = tiny.CAUSAL[family](tmp_path)
    read = checkpoint.load(str(folder), checkpoint.read_config(str(folder)), torch.device("cpu"), torch.float32)
    vocabulary = read.vocabulary
    gap = vocabulary.gap(GAP, 100)
    special = vocabulary._bpe.token_to_id
    parts = [[special(part)] if part.startswith("<") else vocabulary.encode(part) for part in ORDERS[family]]
    assert gap.before == [token for part in parts for token in part]
    assert gap.after == []
    assert gap.taken == "\n"  # which the tokenizer joins with the indentation
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).generate(
        torch.tensor([gap.before]),
        max_new_tokens=GAP.max_tokens,
        do_sample=False,
        pad_token_id=0,
        suppress_tokens=(never := [vocabulary.mask, *vocabulary.ends]),
    )
    expected = theirs[0, len(gap.before) :].tolist()
    model = Sequence(BatchRunner(read.model, True, capacity=512))
    wrong = [token + (at % 3 == 2) for at, token in enumerate(expected)]
    for drafts, most in ([], GAP.max_tokens), (expected, 4), (wrong, 8), ([5] * 20, GAP.max_tokens):
        limits = Limits(GAP, public.GapTokenizer(vocabulary, gap), threading.Event())
        model.begin()
        copier = Drafts(drafts)
        made = draft_verify.decode(model, gap, vocabulary.mask, limits, copier, suppressed=never)  # type: ignore[arg-type]
        assert made.tokens == expected
        assert limits.passes <= most
    assert model.encoded == 1


def test_a_fill_is_what_is_written_and_copies_save_passes(tmp_path: Path) -> None:
    backend = public.load(str(tiny.CAUSAL["qwen2.5-coder"](tmp_path)[0]), "cpu")

    def fill(**options: object) -> public.Fill:
        return backend.fill(msgspec.structs.replace(GAP, **options), threading.Event())

    plain, alone = fill(copies=False), fill(copies=False, drafts=False)
    assert plain.text == alone.text and plain.text
    assert plain.confidence == pytest.approx(alone.confidence)
    line = "        self.height = measured_height(width, depth)\n"
    copied = {"prefix": f"{line}        x = 1\n{line[:30]}", "suffix": "\n", "max_lines": 1, "max_tokens": 32}
    quick, slow = fill(**copied), fill(**copied, drafts=False)
    assert quick.text == slow.text == line[30:-1]
    assert quick.passes < slow.passes
    assert fill(**copied, others=(quick.text,)).text[:3] != quick.text[:3]


def test_what_is_for_canvases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="alg has no effect here, for it needs a model with canvases"):
        public.load(str(tiny.CAUSAL["seed-coder"](tmp_path)[0]), "cpu", sampling=Sampling(alg="entropy"))
