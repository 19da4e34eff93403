"""Servers to talk to: the real one, and one with a scripted engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from lsp_client import REAL, ROOT, SCRIPTED, LspClient


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
