"""DiffusionGemma, through transformers' own classes: a mixture of experts whose canvas starts as noise, not as masks.

It is trained to chat and has no marks for a gap. So it is asked to complete a file, told what follows, and its answer
is begun for it with what stands before the cursor; what it writes next is the fill, up to where the following text
begins. Decoding is transformers' (entropy bound, self-conditioning); a processor of its logits looks at each pass, for
cancellation, deadline and confidence.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from engine.contract import Cancelled, EngineError, Fill, FillRequest
from engine.models import checkpoint, validation
from engine.models.family import Config
from engine.models.tensors import Tensors
from engine.models.vocabulary import CHARACTERS, recent

MODEL_TYPE = "diffusion_gemma"
WINDOW = 2048  # tokens
PASSES = 48
FENCE = "```"
QUESTION = "Complete this file. Answer with its code only, from the first line on.{path} The file ends with:\n\n{rest}"


@contextmanager
def _sentence(what: str) -> Iterator[None]:
    """Whatever transformers raises for a broken file, as one sentence."""
    try:
        yield
    except Exception as error:  # of any kind: KeyError, TypeError, jinja's, its own
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise EngineError(f"{what} ({reason}); download the checkpoint again") from None


class DiffusionGemma:
    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer

    @classmethod
    def load(cls, name: str, read: Config, device: torch.device, dtype: torch.dtype) -> DiffusionGemma:
        """A folder or hub id. Raises EngineError with what to do."""
        try:
            from transformers import AutoTokenizer, DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion
        except ImportError:
            raise EngineError("DiffusionGemma needs a newer transformers: pip install -U transformers") from None
        if read.get("quantization_config") is not None:
            raise EngineError(f"the weights of {name} are quantised; take the checkpoint that is not")
        with _sentence(f"the config.json of {name} describes no DiffusionGemma model"):
            config: Any = DiffusionGemmaConfig.from_dict(dict(read))
            with torch.device("meta"):
                size = sum(weight.numel() for weight in DiffusionGemmaForBlockDiffusion(config).parameters())
            if config.canvas_length < 1:
                raise ValueError("a canvas of no tokens")
        checkpoint.require_bytes(size * dtype.itemsize, device, name)
        patterns = [checkpoint.CONFIG, *checkpoint.TOKENIZER_FILES, *checkpoint.WEIGHT_FILES, "chat_template.jinja"]
        folder = checkpoint.fetch(name, patterns)
        Tensors(folder).require_numbers()
        with _sentence(f"{name} has no tokenizer that can be read"):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            if tokenizer.chat_template is None:
                raise ValueError("no chat template")
        validation.ids(tokenizer.get_vocab().values(), config.text_config.vocab_size, name)
        with _sentence(f"the weights of {name} cannot be loaded"):
            safe: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
            loaded: Any = DiffusionGemmaForBlockDiffusion.from_pretrained(folder, config=config, dtype=dtype, **safe)
            model, found = loaded
            for kind, names in found.items():
                if names:
                    raise ValueError(f"{kind.removesuffix('_keys')}: {min(map(str, names))}")
            for each, weight in model.named_parameters():
                if not bool(weight.isfinite().all()):
                    raise ValueError(f"{each} has values that are no numbers")
        torch.nn.Module.to(model, device)  # its own `to` has no types; from_pretrained has set it to evaluate
        return cls(model, tokenizer)

    @property
    def reach(self) -> int:
        """See Engine.reach."""
        return WINDOW * CHARACTERS

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill:
        """See Engine.fill."""
        ids = self._prompt(request)
        watch = _Watch(request.deadline_ms, cancel)
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(0)  # the canvas starts as noise: equal requests start from the same
            tokens, complete = self._denoised(ids, request, watch)
        end = next((at for at, token in enumerate(tokens) if token in self._ends()), len(tokens))
        tokens = tokens[: min(end, request.max_tokens)]
        text = cut(self._tokenizer.decode(tokens, skip_special_tokens=True), request)
        return Fill(
            text=text,
            confidence=watch.confidence(len(tokens)) if text else 0.0,
            passes=watch.passes,
            tokens=len(tokens),
            encoded=ids.shape[1],
            reused=0,
            encode_ms=watch.first_ms,
            decode_ms=watch.elapsed_ms() - watch.first_ms,
            complete=complete and (end <= request.max_tokens or request.max_lines is not None),
        )

    def _prompt(self, request: FillRequest) -> Tensor:
        """(1, n): the question in the model's own chat format, and its answer begun."""
        prefix, suffix = request.prefix.replace("\r\n", "\n"), request.suffix.replace("\r\n", "\n")
        path = f" It is {request.path}." if request.path else ""
        rest = f"{FENCE}\n{suffix[: WINDOW * CHARACTERS // 4]}\n{FENCE}"
        question = QUESTION.format(path=path, rest=rest)
        chat = [{"role": "user", "content": question}]
        text = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        answer = f"{FENCE}\n{recent(prefix, WINDOW * CHARACTERS)}"
        ids: Tensor = self._tokenizer(text + answer, add_special_tokens=False, return_tensors="pt")["input_ids"]
        return ids.to(self._model.device)

    def _denoised(self, ids: Tensor, request: FillRequest, watch: _Watch) -> tuple[list[int], bool]:
        """The tokens of one canvas, and whether it was denoised to its end."""
        from transformers import LogitsProcessorList

        try:
            out = self._model.generate(
                ids,
                max_new_tokens=self._model.config.canvas_length,
                max_denoising_steps=request.steps if request.steps > 1 else PASSES,
                logits_processor=LogitsProcessorList([watch]),
                return_dict_in_generate=True,
            )
        except _Late:
            return watch.tokens(), False
        return out.sequences[0, ids.shape[1] :].tolist(), True

    def _ends(self) -> set[int]:
        eos = self._model.generation_config.eos_token_id
        return {self._tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])} - {None}


class _Late(Exception):
    """The deadline passed."""


class _Watch:
    """Called with the logits of every pass, (1, rows, vocab)."""

    def __init__(self, deadline_ms: float | None, cancel: threading.Event) -> None:
        self._started = time.perf_counter()
        self._deadline_ms = math.inf if deadline_ms is None else deadline_ms
        self._cancel = cancel
        self._scores: Tensor | None = None
        self.passes, self.first_ms = 0, 0.0

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1000

    def __call__(self, input_ids: Tensor, scores: Tensor, cur_step: int | None = None) -> Tensor:
        """Raises Cancelled, or _Late after at least one pass."""
        if self._cancel.is_set():
            raise Cancelled
        self.passes += 1
        self._scores = scores
        self.first_ms = self.first_ms or self.elapsed_ms()
        if self.elapsed_ms() > self._deadline_ms:
            raise _Late
        return scores

    def tokens(self) -> list[int]:
        found: list[int] = [] if self._scores is None else self._scores[0].argmax(-1).tolist()
        return found

    def confidence(self, rows: int) -> float:
        """Geometric mean of the likeliest tokens' probabilities in the last pass."""
        if self._scores is None or not rows:
            return 0.0
        best = self._scores[0, :rows].float().log_softmax(-1).max(-1).values
        return float(best.mean().exp())


def cut(text: str, request: FillRequest) -> str:
    """What the answer says up to where it ends, the following text begins, or the lines are full."""
    text = text.split(FENCE, 1)[0].split("\ufffd", 1)[0]
    following = next((line for line in request.suffix.splitlines() if line.strip()), "")
    if following.strip() and following.rstrip() in (lines := [line.rstrip() for line in text.split("\n")]):
        text = "\n".join(text.split("\n")[: lines.index(following.rstrip())])
    if request.max_lines is not None:
        text = "\n".join(text.split("\n")[: request.max_lines])
    return text.replace("\n", "\r\n") if "\r\n" in request.prefix + request.suffix else text
