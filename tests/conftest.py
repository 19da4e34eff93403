"""Tests keep nothing in the cache of whoever runs them, and use no model that was fetched; many share one that is
loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.embedded import Embedded


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("INPAINT_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


@pytest.fixture(scope="session")
def small(own_cache: None) -> Embedded:
    return Embedded.load("small")
