"""What the index finds, and that it stays true, on disk too."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import sys
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.retrieval import build as building
from engine.retrieval.build import IndexOrder, IndexProgress, build
from engine.retrieval.files import read_text
from engine.retrieval.index import Index
from engine.retrieval.segment import LONGEST, Segment

AREA = "def area(width, height):\n    return width * height\n"
SUM = "def total(one, two):\n    return one + two  # é\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "area.py").write_text(AREA)
    (folder / "sum.py").write_text(SUM, encoding="utf-8")
    (folder / "picture").write_bytes(b"\0" * 9)
    return folder


def order(project: Path, **options: object) -> IndexOrder:
    return IndexOrder([str(project)], str(project.parent / "store"), **options)  # type: ignore[arg-type]


def indexed(project: Path, **options: object) -> Index:
    build(order(project, **options))
    return Index.open(project.parent / "store")


def follows(index: Index, written: str) -> list[str]:
    """How the line of the longest match goes on."""
    return [found.after.partition("\n")[0] for found in index.matches(written, most=1)]


def test_what_followed_the_longest_match_comes_first(project: Path) -> None:
    index = indexed(project)
    assert len(index) == 2
    found = index.matches("def volume(width, height):\n    return ")
    assert (found[0].after, Path(found[0].path).name, index.line(found[0])) == ("width * height\n", "area.py", 2)
    assert found[0].length == len("(width, height):\n    return ")
    assert follows(index, "    return ")[0] in ("width * height", "one + two  # é")


def test_inside_a_word_what_goes_on_as_the_word_does(project: Path) -> None:
    index = indexed(project)
    assert follows(index, "    return on") == ["e + two  # é"]
    assert follows(index, "    return one + two  # ") == ["é"]
    assert follows(index, "    return xy") == follows(index, "") == follows(index, "\udcff") == []


def test_matches_stay_within_a_file(project: Path) -> None:
    (project / "area.py").write_text("first = 1")
    (project / "sum.py").write_text("second = 2")
    index = indexed(project)
    assert index.matches("first = ")[0].after == "1"
    assert index.around(index.matches("second = ")[0]) == ("second = ", "2")


def test_every_place_is_found_by_what_stands_before_it() -> None:
    dice = random.Random(1)
    texts = {str(n): "".join(dice.choice("ab_ (\n") for _ in range(300)).encode() for n in range(3)}
    segment = Segment.of(texts)
    for name, text in texts.items():
        for place in range(1, len(text)):
            inside = text[place - 1 : place + 1]
            if inside.isspace() or not text[:place].strip(b"ab_"):
                continue
            best = segment.matches(text[:place], 1)[0]
            assert text[:place].endswith(segment.before(best.place, best.length)), (name, place)
            assert best.length >= min(place, LONGEST)


def test_a_segment_may_be_saved_twice_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment, save = Segment.of({"a.py": b"one = two\n"}), np.save

    def save_while_another_does(file: IO[bytes], part: NDArray[np.generic]) -> None:
        monkeypatch.setattr(np, "save", save)
        save(file, part)
        segment.save(tmp_path / "name")

    monkeypatch.setattr(np, "save", save_while_another_does)
    segment.save(tmp_path / "name")
    assert Segment.open(tmp_path / "name", segment.starts, ["a.py"]).matches(b"one =", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.places.npy", "name.text.npy"]


def test_hidden_files_are_not_looked_at(project: Path) -> None:
    index = indexed(project)
    hidden = frozenset({(project / "area.py").as_posix()})
    assert {Path(found.path).name for found in index.matches("    return ", hidden)} == {"sum.py"}


def test_of_two_that_are_alike_the_one_in_the_same_language_comes_first(project: Path) -> None:
    for name in ("a.js", "b.py", "c.js", "d.py"):
        (project / name).write_text("shared = value_of_all")
    index = indexed(project)
    for suffix in (".py", ".js"):
        found = [Path(one.path).suffix for one in index.matches("shared = ", suffix=suffix)[:4]]
        assert found == [suffix] * 2 + [other for other in (".py", ".js") if other != suffix] * 2


def test_changes_and_deletions_are_taken_over(project: Path) -> None:
    index = indexed(project)
    (project / "area.py").write_text(AREA.replace("height\n", "depth\n"))
    (project / "sum.py").unlink()
    (project / "new.py").write_text("answer = 42\n")
    assert follows(index, "    return width * ") == ["height"]  # a snapshot stays what it was
    later = indexed(project)
    assert follows(later, "    return width * ") == ["depth"]
    assert follows(later, "answer = ") == ["42"]
    assert not follows(later, "    return one")
    assert len(later) == 2


def test_large_segments_stay_when_few_files_change(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "SMALL", 1)
    monkeypatch.setattr(building, "SEGMENT", len(AREA) + len(SUM))
    first = indexed(project).manifest.parts[0].name
    (project / "new.py").write_text("answer = 42\n")
    (project / "sum.py").unlink()
    index = indexed(project)
    assert [len(part.files) for part in index.manifest.parts] == [2, 1]
    assert index.manifest.parts[0].name == first
    assert len(index) == 2
    assert not follows(index, "    return one")
    (project / "area.py").unlink()
    assert len(indexed(project).manifest.parts) == 1  # none of it is left


def test_nothing_is_read_twice(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed(project)
    monkeypatch.setattr(building, "read_text", pytest.fail)
    assert len(indexed(project)) == 2


@pytest.mark.parametrize("kind", ["text", "places"])
@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda _: b""])
def test_a_damaged_segment_is_made_anew(project: Path, kind: str, damage: object) -> None:
    indexed(project)
    (path,) = (project.parent / "store").glob(f"*.{kind}.npy")
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    follows(Index.open(project.parent / "store"), "    return width * ")  # whatever it finds
    assert follows(indexed(project), "    return width * ") == ["height"]


@pytest.mark.parametrize("kind", ["text", "places"])
def test_a_segment_with_other_bytes_does_no_harm(project: Path, kind: str) -> None:
    indexed(project)
    (path,) = (project.parent / "store").glob(f"*.{kind}.npy")
    path.write_bytes(path.read_bytes()[:-9] + b"damaged!!")
    follows(Index.open(project.parent / "store"), "    return width * ")  # whatever it finds


def test_on_a_full_disk_what_there_was_stays(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed(project)
    (project / "new.py").write_text("answer = 42\n")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        indexed(project)
    assert follows(Index.open(project.parent / "store"), "    return width * ") == ["height"]
    monkeypatch.undo()
    assert follows(indexed(project), "answer = ") == ["42"]


def test_a_file_that_vanishes_while_it_is_indexed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanishing(path: str) -> str | None:
        if path.endswith("area.py"):
            Path(path).unlink()
        return read_text(path)

    monkeypatch.setattr(building, "read_text", vanishing)
    index = indexed(project)
    assert len(index) == 1
    assert follows(index, "    return one") == [" + two  # é"]


@pytest.mark.parametrize("manifest", [b"", b"{}", b"[]", b'{"version": 99}', b"\xff"])
def test_a_manifest_of_another_kind_is_made_anew(project: Path, manifest: bytes) -> None:
    indexed(project)
    (project.parent / "store" / "manifest.json").write_bytes(manifest)
    assert len(Index.open(project.parent / "store")) == 0
    assert len(indexed(project)) == 2


def test_no_workspace_is_an_empty_index(tmp_path: Path) -> None:
    assert Index().matches("return ") == Index.open(tmp_path / "nowhere").matches("return ") == []
    build(IndexOrder([], str(tmp_path / "store")))
    build(IndexOrder([str(tmp_path / "nowhere")], str(tmp_path / "store")))
    assert len(Index.open(tmp_path / "store")) == 0


def run(asked: IndexOrder) -> list[IndexProgress]:
    """The lines of the process."""
    done = subprocess.run(
        [sys.executable, "-m", "engine.retrieval.build"],
        input=msgspec.json.encode(asked) + b"\n",
        stdout=subprocess.PIPE,
        check=False,
    )
    return [msgspec.json.decode(line, type=IndexProgress) for line in done.stdout.splitlines()]


def test_the_process_leaves_when_its_reader_has_gone(project: Path) -> None:
    """`run` closes its input, so it ends at once or has just done its work; never does it hang."""
    assert all(not progress.error for progress in run(order(project)))


def test_the_process_says_when_it_is_done(project: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "engine.retrieval.build"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin
    assert child.stdout
    child.stdin.write(msgspec.json.encode(order(project)) + b"\n")
    child.stdin.flush()
    lines = child.stdout.readlines()
    child.stdin.close()
    assert (child.wait(), msgspec.json.decode(lines[-1], type=IndexProgress)) == (0, IndexProgress(done=True))
    if os.name != "nt":
        store = project.parent / "store"
        assert {stat.S_IMODE(path.stat().st_mode) for path in store.iterdir()} == {0o600}
        assert stat.S_IMODE(store.stat().st_mode) == 0o700


@pytest.mark.skipif(os.name == "nt", reason="it has no limits of a process")
def test_the_process_says_what_it_cannot_write_and_leaves_nothing_behind(project: Path) -> None:
    """A limit of a file's size stands in for a full disk, which ends a write as early."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600));"
        "from engine.retrieval.build import main; sys.exit(main())"
    )
    child = subprocess.Popen([sys.executable, "-c", limited], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin
    assert child.stdout
    child.stdin.write(msgspec.json.encode(order(project)) + b"\n")
    child.stdin.flush()
    *_, last = child.stdout.readlines()
    child.stdin.close()
    assert child.wait() == 1
    store = project.parent / "store"
    assert f"the index cannot be kept in {store}" in msgspec.json.decode(last, type=IndexProgress).error
    assert not list(store.iterdir())
    assert follows(indexed(project), "    return width * ") == ["height"]


def test_where_it_cannot_be_kept_it_says_so(project: Path) -> None:
    store = project.parent / "file"
    store.write_text("")
    with pytest.raises(OSError, match=r"exists|directory"):
        build(IndexOrder([str(project)], str(store)))


def test_what_may_not_be_read_any_more_is_neither_found_nor_kept(project: Path) -> None:
    index, store = indexed(project), project.parent / "store"
    assert follows(Index.open(store, globs=("area.py",)), "    return width * ") != ["height"]
    (project / ".inpaintignore").write_text("area.py\n")
    assert follows(index, "    return width * ") != ["height"]
    assert follows(index, "    return one") == [" + two  # é"]
    assert follows(indexed(project), "    return one") == [" + two  # é"]
    assert not any(b"width * height" in path.read_bytes() for path in store.iterdir())


def test_indexes_expire(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for name, folder in (("kept", "here"), ("old", "here"), ("gone", "nowhere"), ("odd", "here"), ("cache", "here")):
        build(IndexOrder([str(tmp_path / folder)], str(tmp_path / "index" / name)))
    os.utime(tmp_path / "index" / "old" / "manifest.json", (0, 0))
    (tmp_path / "index" / "odd" / "manifest.json").write_text("")
    (tmp_path / "index" / "cache" / "manifest.json").unlink()  # is not ours
    building.expire(tmp_path / "index")
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["cache", "kept"]


def test_of_texts_at_hand() -> None:
    index = Index.of({"a.py": AREA.encode(), "b.py": SUM.encode()})
    assert follows(index, "    return width * ") == ["height"]
    assert index.matches("    return one", frozenset({"b.py"})) == []
    assert Index.of({}).matches("return ") == []
