"""Trains an embedded model from its base, or an adapter of one, on this machine's cores, for as long as it is given,
and resumes where it was.

* One process a core, one thread each: data-parallel workers do not wait for each other at every operator, as threads
  of one operator do, and lose little when somebody else uses the machine. Parameters are shared memory; gradients
  meet once a step.
* Products in bfloat16 where the processor has matrix units for it (measured at the start), else float32. Master
  weights, gradients and optimiser are float32.
* AdamW at a rate that keeps what the base knows. Warm-up, stable, decay over the budget in tokens, so that a run is
  the same on a busy machine; an average of the weights is what is exported.
* Blocks are compiled, not models: all of a model's blocks share their code, and thirty layers in one graph took over
  six minutes.
* The state (weights, optimiser, average, hours spent) is written every few minutes by an atomic rename; a killed
  trainer loses no more.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import TypeVar

import msgspec
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from tqdm import tqdm

from engine import stored
from engine.backends.torch_runner import TorchRunner
from engine.contract import EngineError
from engine.corpus import Corpus
from engine.embedded import Embedded
from engine.evaluation.lines import evaluate
from engine.models.trunk import Trunk, TrunkConfig
from engine.tokenizer import Tokenizer
from engine.training.dataset import Sampler, SamplerConfig, to_torch
from engine.training.lora import Adapter
from engine.training.objective import KINDS, Objective

Config = TypeVar("Config", bound=msgspec.Struct)

SAVE_SECONDS = 300
LOG = ["step", "tokens", "hours", "seconds", *KINDS, *(f"validation_{kind}" for kind in KINDS)]
LOG += ["exact", "tokens_a_pass"]
FILLS, ROWS = 60, 32  # of a validation


class DataPaths(msgspec.Struct, frozen=True):
    corpus: Path
    tokenizer: Path


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: TrunkConfig
    sampler: SamplerConfig = SamplerConfig()
    windows: tuple[tuple[int, int], ...] = ()  # contexts and tails that forwards have in turn; none: the sampler's
    base: str = ""  # safetensors that training starts from; an adapter is trained on them as they are
    rank: int = 0  # of an adapter's changes; 0: the whole trunk is trained
    adapter: str = ""  # safetensors of an adapter to go on from
    scale: float = 1.0  # of an adapter's change as it is exported
    tokens: int = 300_000_000  # of contexts; the learning rate's schedule ends there
    workers: int = 0  # processes; 0: one a core
    batch: int = 12  # rows a worker and step, of the sampler's context
    micro_batch: int = 4  # such rows a forward: small enough for the second-level cache
    lr_adam: float = 0.0002
    warmup: int = 10  # steps
    decay: float = 0.25  # share of the tokens in which the learning rate falls to zero
    average: float = 0.998  # of the weights, a step
    weights: tuple[float, ...] = (1.0, 3.0)  # of the losses, by kind
    validate_every: int = 250  # steps; 0: never
    seed: int = 0


def read_config(path: Path, kind: type[Config]) -> Config:
    """What a JSON file says. Raises EngineError where it says something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise EngineError(f"the configuration {path} cannot be used: {error}") from None


def fast_dtype() -> torch.dtype:
    """bfloat16 where it multiplies at least 1.5 times as fast as float32 here, which takes matrix units.

    The fastest of many products of both in turn: the machine may be busy, and seldom is so for all of them. A second is
    enough, which is five products in bfloat16 where the processor has no instructions for it at all.
    """
    fastest, started = {torch.float32: math.inf, torch.bfloat16: math.inf}, time.perf_counter()
    while time.perf_counter() - started < 1:
        for dtype in fastest:
            a, b = torch.ones(256, 256, dtype=dtype), torch.ones(256, 1024, dtype=dtype)
            start = time.perf_counter()
            a @ b
            fastest[dtype] = min(fastest[dtype], time.perf_counter() - start)
    return torch.bfloat16 if fastest[torch.float32] > 1.5 * fastest[torch.bfloat16] else torch.float32


# ---- one worker a core ----


def worker(
    config: TrainConfig,
    data: DataPaths,
    shared: list[tuple[Tensor, Tensor]],
    pipe: Connection,
    seed: int,
    dtype: torch.dtype,
) -> None:
    """Answers numbers of rows with their sums of losses until the pipe closes; gradients go to shared memory."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # the parent says when to stop
    torch.set_num_threads(1)
    trunk = begun(config)
    model = learner(trunk, config, dtype)
    for parameter, (weight, gradient) in zip(model.parameters(), shared, strict=True):
        parameter.data, parameter.grad = weight, gradient
    words = Tokenizer.load(data.tokenizer)
    corpus = Corpus(data.corpus)
    samplers = [Sampler(corpus, words, each, seed + i) for i, each in enumerate(windows(config))]
    objective = Objective(trunk, config.weights, dtype)
    objective.compile_parts()
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(train(objective, samplers, pipe.recv(), config))


def begun(config: TrainConfig) -> Trunk:
    """A trunk with the weights of the base."""
    torch.manual_seed(config.seed)  # of an adapter's changes
    trunk = Trunk(config.model)
    read_base(trunk, Path(config.base))
    return trunk


def learner(trunk: Trunk, config: TrainConfig, dtype: torch.dtype) -> Trunk | Adapter:
    """What is trained: an adapter of the trunk, or all of it."""
    if not config.rank:
        return trunk
    adapter = Adapter(trunk, config.rank, dtype)
    if config.adapter:
        adapter.load(Path(config.adapter))
    return adapter


def windows(config: TrainConfig) -> list[SamplerConfig]:
    """The sampler's configuration for each window that training has."""
    sampler = config.sampler
    return [
        msgspec.structs.replace(sampler, context=context, tail=tail)
        for context, tail in config.windows or [(sampler.context, sampler.tail)]
    ]


def train(objective: Objective, samplers: list[Sampler], rows: int, config: TrainConfig) -> Tensor:
    """As many tokens of context in each forward, whatever its window."""
    sums = torch.zeros(2, len(KINDS))
    for turn in range(rows // config.micro_batch):
        sampler = samplers[turn % len(samplers)]
        size = max(1, config.micro_batch * config.sampler.context // sampler.config.context)
        loss, counted = objective(*to_torch(sampler.batch(size)))
        loss.backward()
        sums += counted
    return sums


class Workers:
    """The processes, their pipes, and one gradient buffer each in shared memory."""

    def __init__(self, config: TrainConfig, data: DataPaths, model: nn.Module, seed: int, dtype: torch.dtype) -> None:
        context = mp.get_context("spawn")
        self.weights = [parameter.data.share_memory_() for parameter in model.parameters()]
        self.pipes: list[Connection] = []
        self.processes: list[BaseProcess] = []
        self.gradients: list[list[Tensor]] = []
        for rank in range(config.workers or os.cpu_count() or 1):
            gradients = [torch.zeros_like(weight).share_memory_() for weight in self.weights]
            shared = list(zip(self.weights, gradients, strict=True))
            here, there = context.Pipe()
            process = context.Process(
                target=worker, args=(config, data, shared, there, seed * 100 + 10 * rank, dtype), daemon=True
            )
            process.start()
            there.close()
            self.gradients.append(gradients)
            self.pipes.append(here)
            self.processes.append(process)

    def run(self, rows: int) -> Tensor:
        """Everybody's sums of losses and counts (2, 2) of so many rows. Raises RuntimeError where a worker died."""
        for pipe in self.pipes:
            pipe.send(rows)
        try:
            return torch.stack([pipe.recv() for pipe in self.pipes]).sum(0)
        except EOFError:
            raise RuntimeError("a training process ended; its message stands above") from None

    def collect(self, model: nn.Module, scale: float) -> None:
        """Move the workers' gradients into the model's, times `scale`."""
        for parameter, *gradients in zip(model.parameters(), *self.gradients, strict=True):
            parameter.grad = torch.stack(gradients).sum(0).mul_(scale)
            for gradient in gradients:
                gradient.zero_()

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(timeout=30)


# ---- the run ----


class TrainingProgress(msgspec.Struct):
    step: int = 0
    tokens: int = 0  # of contexts
    hours: float = 0.0


class Trainer:
    def __init__(self, config: TrainConfig, state: Path, dtype: torch.dtype) -> None:
        self.config, self.state = config, state
        self.trunk = begun(config)
        self.model = learner(self.trunk, config, dtype)
        self.average = [parameter.detach().clone() for parameter in self.model.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), config.lr_adam, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0
        )
        self.progress = TrainingProgress()

    def load(self) -> None:
        """Go on from the saved state, where there is one. Raises EngineError where it belongs to another model."""
        path = self.state / "state.pt"
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True)
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError:
            raise EngineError(f"{path} holds another model: delete it, or name another folder") from None
        self.average = saved["average"]
        self.optimizer.load_state_dict(saved["optimizer"])
        self.progress = TrainingProgress(**saved["progress"])

    def save(self) -> None:
        saved = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "progress": msgspec.to_builtins(self.progress),
            "config": msgspec.json.encode(self.config).decode(),
        }
        partial = self.state / "state.partial"
        torch.save(saved, partial)
        partial.replace(self.state / "state.pt")

    def rate(self) -> float:
        """Warm-up, stable, then a linear decay to zero over the last share of the budget."""
        left = 1 - self.progress.tokens / self.config.tokens
        return min(1.0, (self.progress.step + 1) / self.config.warmup, max(0.0, left) / self.config.decay)

    def ended(self, max_steps: int | None) -> bool:
        return self.progress.tokens >= self.config.tokens or self.progress.step == max_steps

    def step(self, workers: Workers) -> Tensor:
        config, start = self.config, time.monotonic()
        sums = workers.run(config.batch)
        workers.collect(self.model, 1 / float(sums[1].sum()))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.param_groups[0]["lr"] = config.lr_adam * self.rate()
        self.optimizer.step()
        decay = min(config.average, (1 + self.progress.step) / (10 + self.progress.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.model.parameters()], 1 - decay)
        self.progress.step += 1
        self.progress.tokens += int(sums[1][0])
        self.progress.hours += (time.monotonic() - start) / 3600
        return sums


def read_base(model: Trunk, path: Path) -> None:
    """Raises EngineError where the weights are missing or another model's."""
    try:
        weights = stored.floats(stored.read(path))
        weights["head.weight"] = weights["embed.weight"]
        model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    except (KeyError, RuntimeError):
        raise EngineError(f"the base {path} is not that of the configured model; give its shape") from None


class StopSignal:
    """Set by the first interrupt or termination signal, so that the state is saved before the end."""

    def __init__(self) -> None:
        self.asked = False
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def describe(sums: Tensor) -> dict[str, float]:
    return dict(zip(KINDS, (sums[0] / sums[1].clamp(min=1)).tolist(), strict=True))


def run(config: TrainConfig, data: DataPaths, state: Path, max_steps: int | None = None) -> None:
    """Train until the budget is spent, `max_steps` are done in all, or a signal asks to stop."""
    state.mkdir(parents=True, exist_ok=True)
    dtype = fast_dtype()
    trainer, stop = Trainer(config, state, dtype), StopSignal()
    trainer.load()
    torch.set_num_threads(os.cpu_count() or 1)
    workers = Workers(config, data, trainer.model, config.seed + trainer.progress.step, dtype)
    saved = time.monotonic()
    print(f"{sum(weight.numel() for weight in trainer.average) / 1e6:.1f}M parameters, products in {dtype}")
    with (
        (state / "log.csv").open("a", newline="") as file,
        tqdm(total=config.tokens, unit="token", unit_scale=True, initial=trainer.progress.tokens) as bar,
    ):
        log = csv.DictWriter(file, LOG)
        if file.tell() == 0:
            log.writeheader()
        try:
            ended = trainer.ended(max_steps)
            while not (stop.asked or ended):
                before = trainer.progress.tokens, trainer.progress.hours
                row = describe(trainer.step(workers))
                bar.update(trainer.progress.tokens - before[0])
                bar.set_postfix_str(", ".join(f"{kind} {loss:.3f}" for kind, loss in row.items()))
                row |= msgspec.to_builtins(trainer.progress)
                row["seconds"] = (trainer.progress.hours - before[1]) * 3600
                ended = trainer.ended(max_steps)
                every = config.validate_every
                if every and (ended or trainer.progress.step % every == 0):
                    row |= validated(trainer, data)
                log.writerow({key: round(value, 5) for key, value in row.items()})
                file.flush()
                if time.monotonic() - saved > SAVE_SECONDS:
                    trainer.save()
                    saved = time.monotonic()
        finally:
            trainer.save()
            workers.close()


def validated(trainer: Trainer, data: DataPaths) -> dict[str, float]:
    """How the averaged weights do on the reserved packages: losses, and fills as `eval lines` has them, in float32."""
    parameters = list(trainer.model.parameters())
    raw = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        torch._foreach_copy_([p.data for p in parameters], trainer.average)
        found = losses(trainer.trunk, trainer.config, data)
        passes = TorchRunner(trainer.trunk, trainer.config.sampler.shape, torch.device("cpu"))
        filler = Embedded(passes, Tokenizer.load(data.tokenizer))
        fills = evaluate(filler, data.corpus / "validation", FILLS, copies=False)
        torch._foreach_copy_([p.data for p in parameters], raw)
    shown = {"exact": fills.exact, "tokens_a_pass": fills.tokens_a_pass}
    return {f"validation_{kind}": loss for kind, loss in found.items()} | shown


@torch.no_grad()
def losses(trunk: Trunk, config: TrainConfig, data: DataPaths) -> dict[str, float]:
    """Nats a token by kind, in float32, on rows of the reserved packages."""
    objective = Objective(trunk, config.weights, torch.float32)
    sampler = Sampler(Corpus(data.corpus / "validation"), Tokenizer.load(data.tokenizer), config.sampler, seed=5)
    return describe(torch.stack([objective(*to_torch(sampler.batch(2)))[1] for _ in range(ROWS // 2)]).sum(0))
