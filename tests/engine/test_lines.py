"""Natural cursor places of a corpus, a language at a time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.contract import EngineError
from engine.corpus import FileEntry
from engine.evaluation.places import cursors

TEXTS = {"python": "# one\nvalue = other\n", "rust": "// one\n/* two */\n{}\nlet value = other;\n"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus.bin").write_bytes("".join(TEXTS.values()).encode())
    np.save(tmp_path / "index.npy", np.cumsum([0, *map(len, TEXTS.values())]))
    entries = [FileEntry("p", f"p/{name}", len(text), name) for name, text in TEXTS.items()]
    (tmp_path / "files.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, entries)))
    return tmp_path


@pytest.mark.parametrize("language", TEXTS)
def test_places_are_in_the_code_of_one_language(folder: Path, language: str) -> None:
    line = TEXTS[language].splitlines()[-1]
    for place in cursors(folder, 20, language=language):
        assert place.request.path == f"p/{language}"
        assert place.request.prefix.rsplit("\n", 1)[1] + place.todo == line


def test_a_language_that_the_corpus_lacks_is_told(folder: Path) -> None:
    with pytest.raises(EngineError, match=r"no go in .*: choose one of python, rust"):
        next(cursors(folder, 1, language="go"))
