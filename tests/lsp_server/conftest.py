"""Servers to talk to: the real one, and one with a scripted engine."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from lsp_client import LspClient

SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted_server.py")), "--stdio"]
REAL = [sys.executable, "-m", "lsp_server", "--stdio"]
ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture
async def scripted() -> AsyncIterator[LspClient]:
    """A server whose engine does what a document's first line says; the model is loaded."""
    async with LspClient.start(SCRIPTED) as client:
        yield client


@pytest_asyncio.fixture
async def real() -> AsyncIterator[LspClient]:
    """The server as users get it, with the shipped model."""
    async with LspClient.start(REAL, cwd=ROOT) as client:
        yield client
