"""A process that loads a model and fills, as many gaps at once as the model takes: `python -m engine.serving.worker`.

It ends with its standard input, so none outlives its server. What a library prints goes to stderr, which is the log.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO

from engine import Cancelled, Engine, EngineError, options
from engine.contract import Backend, Progress, Refusal
from engine.serving import ipc

MEMORY = 256  # MB, of the KV memories: 8 texts of small's


class Worker:
    def __init__(self, engine: Backend, target: BinaryIO) -> None:
        self._engine, self._target = engine, target
        self._target_lock = threading.Lock()
        self._cancels: dict[int, threading.Event] = {}
        self._running = 0
        self._threads = ThreadPoolExecutor(engine.parallel)

    def obey(self, source: BinaryIO) -> None:
        """Work until the source ends."""
        self._tell(ipc.Ready(self._engine.parallel, self._engine.reach))
        while (body := ipc.read(source)) is not None:
            command = ipc.commands.decode(body)
            if isinstance(command, ipc.Start):
                self._cancels[command.number] = threading.Event()
                self._threads.submit(self._fill, command)
            elif command.number in self._cancels:
                self._cancels[command.number].set()

    def _fill(self, command: ipc.Start) -> None:
        cancel = self._cancels[command.number]
        watch = partial(self._progressed, command.number) if command.watched else None
        self._running += 1
        beside = self._running
        report: ipc.Report
        try:
            report = ipc.Filled(command.number, self._engine.fill(ipc.unpacked(command), cancel, watch), beside)
        except Cancelled:
            report = ipc.Stopped(command.number)
        except EngineError as error:
            report = ipc.Failed(command.number, str(error), isinstance(error, Refusal))
        except Exception as error:
            traceback.print_tb(error.__traceback__)  # without the message, which may have text of the request in it
            report = ipc.Failed(command.number, f"the engine failed ({type(error).__name__}); its log says more")
        self._running -= 1
        del self._cancels[command.number]
        self._tell(report)

    def _progressed(self, number: int, progress: Progress) -> None:
        self._tell(ipc.Progressed(number, progress))

    def _tell(self, report: ipc.Report) -> None:
        with self._target_lock:
            self._target.write(ipc.frame(report))
            self._target.flush()


def main(load: Callable[[], Backend]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the server, which drains
    # reports have a descriptor that no child inherits, and which no library prints to
    source, target = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        engine = load()
    except EngineError as error:
        target.write(ipc.frame(ipc.LoadFailed(str(error))))
        target.flush()
        return
    Worker(engine, target).obey(source)
    os._exit(0)  # a fill that runs is for nobody


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m engine.serving.worker")
    options.add(parser)
    return parser


def load() -> Engine:
    """As the command line says. Raises EngineError."""
    engine = options.chosen(command_line().parse_args()).load()
    engine.remember(MEMORY)
    return engine


if __name__ == "__main__":
    main(load)
