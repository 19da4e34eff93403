"""One model on several devices, see models.tensor_parallel.

Decoding stays in this process, rank 0. Each other device has a process, which holds its part of the weights and of the
keys and values, runs every pass that it is told of through its standard input, and ends with that. Passes are neither
compiled nor captured.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import weakref
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import msgspec
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from engine.backends.batch_runner import BatchRunner, BatchShape, PassResult, SequencePass
from engine.contract import EngineError
from engine.models import checkpoint, tensor_parallel
from engine.models.family import Config

PATIENCE = timedelta(minutes=2)  # for a rank that does not come, or does not answer
ENDED = "a process of a model on several devices has ended ({}); load the model again"


class RankConfig(msgspec.Struct, frozen=True):
    """What a rank must know: the checkpoint, the devices, and the bytes that the fullest of them has free, from which
    all ranks plan alike. `store` is the file by which they find one another.
    """

    name: str
    family: str | None
    devices: list[str]
    free: int
    store: str = ""
    rank: int = 0

    @property
    def device(self) -> torch.device:
        return torch.device(self.devices[self.rank])


def join(part: RankConfig) -> DeviceMesh:
    """Waits for all ranks. An earlier model of several devices is lost by it."""
    if dist.is_initialized():
        dist.destroy_process_group()
    if sys.platform == "linux":  # the ranks are on one machine, and talk on no network
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
    cuda = part.device.type == "cuda"
    if cuda:
        torch.cuda.set_device(part.device)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=Path(part.store).as_uri(),
        timeout=PATIENCE,
        rank=part.rank,
        world_size=len(part.devices),
    )
    return init_device_mesh(part.device.type, (len(part.devices),))


class RankProcesses:
    """The processes of the other ranks. `mesh` is all of them and this one."""

    def __init__(self, part: RankConfig) -> None:
        """`part.store` is set here. Raises EngineError where a process does not start."""
        self._folder = tempfile.TemporaryDirectory(prefix="inpaint-ranks-")
        part = msgspec.structs.replace(part, store=str(Path(self._folder.name) / "store"))
        pipe = subprocess.PIPE
        self._processes = [
            subprocess.Popen(
                (sys.executable, "-m", "engine.backends.tensor_parallel", msgspec.json.encode(one).decode()),
                stdin=pipe,
                stdout=pipe,
            )
            for one in (msgspec.structs.replace(part, rank=rank) for rank in range(1, len(part.devices)))
        ]
        self.close = weakref.finalize(self, _close, self._processes, self._folder)
        try:
            self.mesh = join(part)
        except RuntimeError as error:
            self.close()
            raise EngineError(ENDED.format(str(error).splitlines()[0])) from None

    def require_ready(self) -> None:
        """Waits until each has its weights. Raises EngineError where one has not."""
        for process in self._processes:
            assert process.stdout is not None
            said = process.stdout.readline().decode().strip()
            if said != "ready":
                self.close()
                raise EngineError(said or ENDED.format("while it loaded"))

    def tell(self, what: str, *arguments: object) -> None:
        """Have each call a method of its BatchRunner."""
        for process in self._processes:
            assert process.stdin is not None
            try:
                pickle.dump((what, arguments), process.stdin)
                process.stdin.flush()
            except OSError as error:
                raise EngineError(ENDED.format(error)) from None


def _close(processes: list[subprocess.Popen[bytes]], folder: tempfile.TemporaryDirectory[str]) -> None:
    for process in processes:
        process.kill()
        process.communicate()
    folder.cleanup()


class RankRunner(BatchRunner):
    """The passes of one rank."""

    def __init__(self, read: checkpoint.Checkpoint) -> None:
        super().__init__(read.model, read.plan.infill.shift, slots=read.memory.slots, capacity=read.memory.capacity)
        self._buckets.capture = None


class LeaderRunner(RankRunner):
    """Those of rank 0, which all ranks run."""

    def __init__(self, read: checkpoint.Checkpoint, others: RankProcesses) -> None:
        super().__init__(read)
        self._others = others

    def _passed(self, asked: list[SequencePass], kind: BatchShape) -> list[PassResult]:
        told = [msgspec.structs.replace(each, generator=None) for each in asked]
        self._others.tell("_passed", told, kind)
        try:
            return super()._passed(asked, kind)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise EngineError(ENDED.format(str(error).splitlines()[0])) from None

    def _copied(self, source: int, target: int) -> None:
        self._others.tell("_copied", source, target)
        super()._copied(source, target)


def load(
    name: str, config: Config, devices: list[torch.device], dtype: torch.dtype, family: str | None
) -> tuple[checkpoint.Checkpoint, BatchRunner]:
    """A checkpoint shared among devices of one kind, and its passes. Raises EngineError."""
    tensor_parallel.require_even(checkpoint.plan_of(name, config, family)[1].shape, len(devices), name)
    least = min(map(checkpoint.free_bytes, devices))
    if devices[0].type == "cpu":
        least //= len(devices)  # they share one memory
    others = RankProcesses(RankConfig(name, family, list(map(str, devices)), least))
    try:
        read = checkpoint.load(name, config, devices[0], dtype, family, others.mesh, least)
        others.require_ready()
    except BaseException:
        others.close()
        raise
    return read, LeaderRunner(read, others)


def run_rank(part: RankConfig, source: BinaryIO) -> None:
    """Load this rank's part, then do what rank 0 says until it ends."""
    target, sys.stdout = sys.stdout, sys.stderr
    mesh = join(part)
    dtype = torch.float32 if part.device.type == "cpu" else torch.bfloat16
    config = checkpoint.read_config(part.name)
    try:
        read = checkpoint.load(part.name, config, part.device, dtype, part.family, mesh, part.free)
    except EngineError as error:
        print(error, file=target, flush=True)
        return
    slots = RankRunner(read)
    print("ready", file=target, flush=True)
    while True:
        try:
            what, arguments = pickle.load(source)  # from the process that started this one
        except EOFError:
            os._exit(0)
        getattr(slots, what)(*arguments)


if __name__ == "__main__":
    run_rank(msgspec.json.decode(sys.argv[1], type=RankConfig), sys.stdin.buffer)
