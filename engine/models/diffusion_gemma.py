"""DiffusionGemma, through transformers' own classes: a mixture of experts whose canvas starts as noise, not as masks.

It is trained to chat and has no marks for a gap. So it is asked to complete a file, told what follows, and its answer
is begun for it with what stands before the cursor; what it writes next is the fill, up to where the following text
begins. Decoding is transformers' (entropy bound, self-conditioning); a processor of its logits looks at each pass, for
cancellation, deadline and confidence.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import torch
from torch import Tensor

from engine.contract import Backend, EngineError, Fill, FillRequest, Watch, takes
from engine.decoding.limits import DecodedTokens, Limits
from engine.models import checkpoint, validation
from engine.models.family import Config
from engine.models.tensors import Tensors
from engine.models.vocabulary import CHARACTERS, read_json, recent
from engine.retrieval.copying import Copier

MODEL_TYPE = "diffusion_gemma"
WINDOW = 2048  # tokens
PASSES = 48
LARGEST_CANVAS = 4096  # tokens
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


def _require_tokens(generation: Mapping[str, Any], name: str) -> None:
    """Raises EngineError where what stands for a token is none."""
    named = {option: value for option, value in generation.items() if option.endswith("_token_id")}
    with _sentence(f"the {checkpoint.GENERATION} of {name} names no tokens"):
        msgspec.convert(named, dict[str, int | list[int] | None])


def asking(question: str) -> list[dict[str, str]]:
    """As a chat."""
    return [{"role": "user", "content": question}]


class DiffusionGemma(Backend):
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
            if msgspec.convert(config.canvas_length, int) not in range(1, LARGEST_CANVAS + 1):
                raise ValueError(f"a canvas of {config.canvas_length} tokens; it has 1 to {LARGEST_CANVAS}")
        checkpoint.require_bytes(size * dtype.itemsize, device, name)
        patterns = [checkpoint.CONFIG, *checkpoint.TOKENIZER_FILES, *checkpoint.WEIGHT_FILES, "chat_template.jinja"]
        folder = checkpoint.fetch(name, patterns)
        Tensors(folder).require_numbers()
        with _sentence(f"{name} has no tokenizer that can be read"):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            if tokenizer.chat_template is None:
                raise ValueError("no chat template")
            tokenizer.apply_chat_template(asking("x = 1"), add_generation_prompt=True, tokenize=False)
        validation.ids(tokenizer.get_vocab().values(), config.text_config.vocab_size, name)
        _require_tokens(read_json(folder / checkpoint.GENERATION), name)
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

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        """See Engine.fill. Nothing is told before the end."""
        if not request.drafts or request.trust < 1:
            raise EngineError("DiffusionGemma denoises its canvas in its own way: leave drafts on and trust at 1")
        takes(request)
        spelling = _Spelling(self._tokenizer, self._ends())
        limits, ids = Limits(request, spelling, cancel), self._prompt(request)
        limits.spelled = lambda made: cut(spelling.decode(made), request)
        watching = _Watch(limits)
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(0)  # the canvas starts as noise: equal requests start from the same
            tokens, complete = self._denoised(ids, request, watching, Copier(request, spelling).draft())
        return limits.fill(
            _written(tokens, watching.probabilities(tokens), complete, limits),
            newline=False,
            window=ids.shape[1],
            reused=0,
        )

    def _prompt(self, request: FillRequest) -> Tensor:
        """(1, n): the question in the model's own chat format, and its answer begun."""
        prefix, suffix = request.prefix, request.suffix
        path = f" It is {request.path}." if request.path else ""
        rest = f"{FENCE}\n{suffix[: WINDOW * CHARACTERS // 4]}\n{FENCE}"
        question = QUESTION.format(path=path, rest=rest)
        text = self._tokenizer.apply_chat_template(asking(question), add_generation_prompt=True, tokenize=False)
        answer = f"{FENCE}\n{recent(prefix, WINDOW * CHARACTERS)}"
        ids: Tensor = self._tokenizer(text + answer, add_special_tokens=False, return_tensors="pt")["input_ids"]
        return ids.to(self._model.device)

    def _denoised(self, ids: Tensor, request: FillRequest, watch: _Watch, draft: list[int]) -> tuple[list[int], bool]:
        """The tokens of one canvas, and whether it was denoised to its end. A draft stands in the noise at first."""
        from transformers import LogitsProcessorList

        size, start = self._model.config.canvas_length, {}
        if draft:
            canvas = torch.randint(self._model.config.text_config.vocab_size, (1, size), device=ids.device)
            canvas[0, : len(draft)] = torch.tensor(draft[:size], device=ids.device)
            start = {"decoder_input_ids": canvas}
        try:
            out = self._model.generate(
                ids,
                max_new_tokens=size,
                max_denoising_steps=request.steps if request.steps > 1 else PASSES,
                logits_processor=LogitsProcessorList([watch]),
                return_dict_in_generate=True,
                **start,
            )
        except _Late:
            return watch.tokens(), False
        return out.sequences[0, ids.shape[1] :].tolist(), True

    def _ends(self) -> set[int]:
        eos = self._model.generation_config.eos_token_id
        return {self._tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])} - {None}


class _Late(Exception):
    """The deadline passed."""


class _Spelling:
    """A `decoding.limits.Spelling`."""

    ended = False

    def __init__(self, tokenizer: Any, ends: set[int]) -> None:
        self._tokenizer, self.ends, self.end = tokenizer, frozenset(ends), tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text


class _Watch:
    """Called with the logits of every pass, (1, rows, vocab)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._scores: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor, cur_step: int | None = None) -> Tensor:
        """Raises Cancelled, or _Late after at least one pass."""
        self._limits.check()
        self._limits.passed()
        self._scores = scores
        if self._limits.late():
            raise _Late
        return scores

    def tokens(self) -> list[int]:
        found: list[int] = [] if self._scores is None else self._scores[0].argmax(-1).tolist()
        return found

    def probabilities(self, tokens: list[int]) -> list[float]:
        """Of tokens, in the last pass."""
        if self._scores is None:
            return [0.0] * len(tokens)
        chances = self._scores[0, : len(tokens)].float().softmax(-1)
        found: list[float] = chances.gather(1, torch.tensor(tokens, device=chances.device)[:, None])[:, 0].tolist()
        return found


def _written(tokens: list[int], probabilities: list[float], complete: bool, limits: Limits) -> DecodedTokens:
    """A canvas up to where something ends it."""
    written = DecodedTokens()
    for token, probability in zip(tokens, probabilities, strict=True):
        if len(written.tokens) == limits.tokens or not limits.take(written, token, probability):
            break
    else:
        written.ended = True
        written.probabilities.append(1.0)
    written.ended = written.ended and complete
    return written


def cut(text: str, request: FillRequest) -> str:
    """What the answer says up to where it ends, the following text begins, or the lines are full."""
    text = text.split(FENCE, 1)[0].split("\ufffd", 1)[0]
    following = next((line for line in request.suffix.splitlines() if line.strip()), "")
    if following.strip() and following.rstrip() in (lines := [line.rstrip() for line in text.split("\n")]):
        text = "\n".join(text.split("\n")[: lines.index(following.rstrip())])
    return text if request.max_lines is None else "\n".join(text.split("\n")[: request.max_lines])
