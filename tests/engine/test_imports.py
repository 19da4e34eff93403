"""Imports go one way."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine

ROOT = Path(engine.__file__).parents[1]
ABOVE = ("embedded", "public", "evaluation", "training")
NOT_TO = {  # part: what it may not know
    "decoding": ("backends", "models", *ABOVE),
    "models": ("backends", *ABOVE),
    "backends": ABOVE,
    "embedded": ("public", "evaluation", "training"),
    "public": ("embedded", "evaluation", "training"),
    "evaluation": ("training",),
    "corpus": ABOVE,
}


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(path): path for package in ("engine", "lsp_server") for path in (ROOT / package).rglob("*.py")}


def imported(module: str) -> Iterator[str]:
    """Modules of ours that a module imports, within functions and for types alone too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (each if each in MODULES else node.module for each in submodules)


def test_no_module_imports_itself_in_the_end() -> None:
    tuple(graphlib.TopologicalSorter({module: set(imported(module)) for module in MODULES}).static_order())


@pytest.mark.parametrize("part", NOT_TO)
def test_a_part_knows_nothing_above_it(part: str) -> None:
    above = tuple(f"engine.{each}" for each in NOT_TO[part])
    for module in MODULES:
        if f"{module}.".startswith(f"engine.{part}."):
            assert not [each for each in imported(module) if each.startswith(above)], module


BELOW = ("backends", "decoding", "evaluation", "models", "public", "serving", "tokenizer", "training", "prompt")
LEARNING = "lsp_server.learning"  # plays typing on what the server shows, and is no part of it


@pytest.mark.parametrize(
    ("package", "others"),
    [("engine", ("lsp_server",)), ("lsp_server", (LEARNING, *(f"engine.{part}" for part in BELOW)))],
)
def test_server_and_engine_know_little_of_each_other(package: str, others: tuple[str, ...]) -> None:
    for module in MODULES:
        if module.startswith(package) and not module.startswith(LEARNING):
            assert not [each for each in imported(module) if each.startswith(others)], module
