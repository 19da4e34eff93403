"""The server as users start it, which serves the tests of all modules that need nothing else of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import REAL, Server, serving, wait_until


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving(REAL) as started:
        wait_until(lambda: started.client.get("/health").status_code == 200)
        yield started
