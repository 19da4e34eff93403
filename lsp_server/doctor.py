"""`--doctor`: a report to paste into a bug: whether completion works here, and with what; no text of the user."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from engine import EngineError, FillRequest, checksums, get
from lsp_server.completer import LoadEngine
from lsp_server.log import default_file
from lsp_server.settings import Settings

ALSO = ("torch", "transformers")  # packages that are told of where they are
PROBE = FillRequest(prefix="import numpy as ", suffix="\n", max_lines=1)


def report(settings: Settings, load_engine: LoadEngine) -> int:
    """Print the report. Returns the exit code: 0 where completion works."""
    print(f"Inpaint {found_version('inpaint-lsp')}, in {Path(__file__).parents[1]}")
    print(
        f"Python {platform.python_version()} ({sys.executable}) on {platform.platform()}, {os.cpu_count()} processors"
    )
    print("packages:", ", ".join(f"{name} {found_version(name)}" for name in packages()))
    stored = [path for folder in (get.WEIGHTS, get.models_folder()) for path in sorted(folder.glob(f"*/{get.STORED}"))]
    sound = [weights(path.parent) for path in stored]
    works = test_fill(settings, load_engine)
    print(f"log: {default_file()}")
    return 0 if works and all(sound) else 1


def packages() -> list[str]:
    """What the default installation needs, and some that matter where they are."""
    try:
        needed = [line for line in requires("inpaint-lsp") or [] if "extra ==" not in line]
    except PackageNotFoundError:
        needed = []
    names = ["".join(c if c.isalnum() or c in "-_." else " " for c in line).split()[0] for line in needed]
    return [*names, *(name for name in ALSO if importlib.util.find_spec(name))]


def found_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def weights(folder: Path) -> bool:
    """Print a model's files with the beginnings of their sums; whether they are what they were."""
    names = [path.name for path in sorted(folder.iterdir()) if path.suffix in (".json", ".onnx", ".safetensors")]
    try:
        checksums.check(folder, names)
    except EngineError as error:
        print(f"model {folder.name}: {error}")
        return False
    print(f"model {folder.name}:", ", ".join(f"{name} {checksums.digest(folder / name)[:12]}" for name in names))
    return True


def test_fill(settings: Settings, load_engine: LoadEngine) -> bool:
    started = time.perf_counter()
    try:
        engine = load_engine(settings.model, settings.device)
        loaded = time.perf_counter()
        fill = engine.fill(PROBE, threading.Event())
    except Exception as error:  # whatever it is, it is what the report is for
        print(f"test fill with {settings.model}: {type(error).__name__}: {error}")
        return False
    took = (time.perf_counter() - loaded) * 1000
    print(
        f"test fill with {settings.model}: {fill.text!r} in {took:.0f} ms and {fill.passes} passes, "
        f"after a load of {(loaded - started) * 1000:.0f} ms"
    )
    if fill.instead:  # the model is a server, and did not answer
        print(fill.instead)
    return not fill.instead
