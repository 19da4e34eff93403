"""The corpus command on small wheels made here: no download, no registry."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.__main__ import main
from engine.training import corpus

HEADER = "Metadata-Version: 2.4\nVersion: 1.0\n"
NAMES = [f"{verb}_{noun}" for verb in ("read", "merge", "close", "count") for noun in ("row", "page", "tree", "socket")]


def module(seed: int, functions: int = 12) -> str:
    """A module unlike that of another seed."""
    draw = random.Random(seed)
    parts = []
    for _ in range(functions):
        first, second, third = (f"{draw.choice(NAMES)}_{draw.randrange(1000)}" for _ in range(3))
        parts.append(f"def {first}({second}):\n    if {second} is {third}:\n        return {first}({third})\n")
    return "\n\n".join(parts)


def wheel(folder: Path, name: str, files: dict[str, str], licence: str = "MIT") -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"{HEADER}Name: {name}\nLicense-Expression: {licence}\n")
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        for path, text in files.items():
            archive.writestr(path, text)


def listed(folder: Path, *rows: str) -> Path:
    path = folder / "packages.tsv"
    path.write_text("\n".join(["package\tversion\tuse\twithout", *rows]), "utf-8")
    return path


def read(folder: Path) -> dict[str, str]:
    """The texts of a corpus by package and path, as index.npy and files.jsonl cut them."""
    content = (folder / "corpus.bin").read_bytes()
    index = np.load(folder / "index.npy")
    entries = [json.loads(line) for line in (folder / "files.jsonl").read_text("utf-8").splitlines()]
    assert index.dtype == np.int64
    assert index[0] == 0
    assert index[-1] == len(content)
    assert np.diff(index).tolist() == [entry["bytes"] for entry in entries]
    texts = [content[start:stop].decode() for start, stop in itertools.pairwise(index)]
    return {f"{entry['package']}:{entry['path']}": text for entry, text in zip(entries, texts, strict=True)}


def dropped(folder: Path) -> dict[str, dict[str, Any]]:
    report = json.loads((folder / "report.json").read_text("utf-8"))
    return {entry["package"]: entry for entry in report["packages"]}


def test_build(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    shared, secret = module(1), module(2)
    nearly = shared.replace("return", "yield", 1)
    wheel(wheels, "alpha", {"alpha/a.py": shared, "alpha/b.py": module(3).replace("\n", "\r\n"), "alpha/c.txt": "c"})
    wheel(wheels, "beta", {"beta/same.py": shared + "\n\n", "beta/near.py": nearly, "beta/flask/x.py": module(4)})
    wheel(wheels, "gamma", {"gamma/leak.py": module(5) + secret, "gamma/copy.py": module(6)})
    wheel(wheels, "delta", {"delta/d.py": module(7)}, "GPL-3.0-only")
    wheel(wheels, "flask", {"flask/app.py": module(6), "flask/cli.py": module(8)})
    (wheels / "broken-1.0-py3-none-any.whl").write_bytes(b"PK")
    rows = [f"{name}\t1.0\ttrain" for name in ("alpha", "beta", "gamma", "delta", "broken")]
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    problem = {"prompt": secret[:100], "canonical_solution": secret[100:200], "suffix": secret[200:]}
    (evaluation / "holes.jsonl.gz").write_bytes(gzip.compress(json.dumps(problem).encode()))

    corpus.build(tmp_path / "out", listed(tmp_path, *rows, "flask\t1.0\tvalidation"), evaluation, wheels)

    assert read(tmp_path / "out") == {"alpha:alpha/a.py": shared, "alpha:alpha/b.py": module(3)}
    assert set(read(tmp_path / "out/validation")) == {"flask:flask/app.py", "flask:flask/cli.py"}
    reports = dropped(tmp_path / "out")
    assert reports["beta"]["dropped"] == {"reserved": 1, "duplicate": 1, "near duplicate": 1}
    assert reports["gamma"]["dropped"] == {"evaluation": 1, "duplicate": 1}
    assert reports["delta"]["refused"] == "licence GPL-3.0-only"
    assert "delete it" in reports["broken"]["refused"]
    assert reports["alpha"]["bytes"] == len(shared) + len(module(3))


def test_build_twice_is_the_same(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "alpha", {f"alpha/m{seed}.py": module(seed) for seed in range(8)})
    packages = listed(tmp_path, "alpha\t1.0\ttrain")
    for out in ("first", "second"):
        corpus.build(tmp_path / out, packages, None, tmp_path / "wheels")
    names = (tmp_path / "first/files.jsonl").read_text("utf-8")
    assert names == (tmp_path / "second/files.jsonl").read_text("utf-8")
    assert [json.loads(line)["path"] for line in names.splitlines()] != [f"alpha/m{seed}.py" for seed in range(8)]


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wheel(tmp_path / "registry", "alpha", {"alpha/a.py": module(1)})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "registry"))
    packages = [corpus.Package("alpha", "1.0", "train"), corpus.Package("alpha", "9.9", "train")]

    found = corpus.download(packages, tmp_path / "wheels")

    assert found == {packages[0]: tmp_path / "wheels/alpha-1.0-py3-none-any.whl"}
    assert "alpha==9.9" in capsys.readouterr().err


def test_caps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "CAP", 20_000)
    code = {f"alpha/m{seed}.py": module(seed) for seed in range(30)}
    tests = {f"alpha/tests/m{seed}.py": module(seed) for seed in range(30, 60)}
    wheel(tmp_path, "alpha", {**code, **tests})
    path = next(tmp_path.glob("*.whl"))
    report, files = corpus.read_wheel(corpus.Package("alpha", "1.0", "train"), path, frozenset(), frozenset())
    size = sum(len(file.text) for file in files)
    of_tests = sum(len(file.text) for file in files if "tests/" in file.path)
    assert 15_000 < size <= 20_000
    assert 0 < of_tests <= 0.25 * size
    assert report.dropped == {"over the cap": 60 - len(files)}


def test_the_list_of_the_project_trains_on_nothing_reserved() -> None:
    packages = corpus.read_packages(corpus.PACKAGES)
    validation = {one.name for one in packages if one.use == "validation"}
    assert validation == {"black", "celery", "flask", "networkx", "rich", "scrapy"}
    assert {"click", "fastapi", "httpx", "tornado"} <= {one.name for one in packages if one.use == "reserved"}
    assert all(one.version for one in packages if one.use != "reserved")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["alpha\t1.0\tplay"], "'alpha\\t1.0\\tplay'"),
        (["flask\t1.0\ttrain", "Flask\t1.0\tvalidation"], "flask twice"),
    ],
)
def test_a_bad_list_is_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str], told: str
) -> None:
    assert main(["train", "corpus", "--out", str(tmp_path), "--packages", str(listed(tmp_path, *rows))]) == 2
    assert told in capsys.readouterr().err


def test_an_evaluation_folder_without_problems_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no problems"):
        corpus.build(tmp_path, listed(tmp_path, "alpha\t1.0\ttrain"), tmp_path)
