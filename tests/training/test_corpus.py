"""The corpus command on small packages made here: no download, no registry."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import itertools
import json
import random
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from datasketch import MinHash  # type: ignore[import-untyped]

from engine.__main__ import main
from engine.corpus import Corpus
from engine.languages import LANGUAGES
from engine.training import corpus

HEADER = "Metadata-Version: 2.4\nVersion: 1.0\n"
NOTHING: dict[str, frozenset[str]] = dict.fromkeys(LANGUAGES, frozenset())
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


def tarball(files: dict[str, str], packing: Literal["w:gz", "w:xz"]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=packing) as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def npm(folder: Path, name: str, files: dict[str, str], manifest: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name.removeprefix('@').replace('/', '-')}-1.0.0.tgz"
    content = {"package.json": json.dumps({"name": name, **manifest}), **files}
    path.write_bytes(tarball({f"package/{path}": text for path, text in content.items()}, "w:gz"))
    return path


def deb(folder: Path, name: str, files: dict[str, str], licences: str) -> None:
    """A Debian package: an archive of `ar` that holds three files."""
    folder.mkdir(exist_ok=True)
    head = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
    content = {f"./usr/share/doc/{name}/copyright": head + licences, **files}
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tarball({"./control": f"Package: {name}\n"}, "w:xz"),
        "data.tar.xz": tarball(content, "w:xz"),
    }
    packed = b"!<arch>\n"
    for part, data in parts.items():
        packed += (
            f"{part:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    (folder / f"{name}_1%3a2.0-1_all.deb").write_bytes(packed)


def script(seed: int) -> str:
    return module(seed).replace("def ", "function ").replace(":\n", " {\n").replace(" is ", " === ")


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


def test_build_of_all_languages(tmp_path: Path) -> None:
    packages = tmp_path / "wheels"
    wheel(packages, "alpha", {"alpha/a.py": module(1)})
    sources = {"src/x.ts": script(2), "lib/x.js": script(3), "lib/y.js": script(4), "dist/z.js": script(5)}
    npm(packages, "@beta/core", {**sources, "types/x.d.ts": script(6)}, {"license": "MIT"})
    go = {"x/go.mod": "module", "x/a.go": script(7), "x/vendor/b.go": script(8), "x/gpl/c.go": script(9)}
    licences = "Files: *\nLicense: Expat\n\nFiles: gpl/*\nLicense: GPL-3+\n\nFiles: debian/*\nLicense: GPL-2+\n"
    deb(packages, "golang-x-dev", {f"./usr/share/gocode/src/{path}": text for path, text in go.items()}, licences)
    rust = {"./usr/share/cargo/registry/y-z-1.0/src/lib.rs": script(10), "./usr/share/doc/y/lib.rs": script(11)}
    deb(packages, "librust-y-dev", rust, "Files: *\nLicense: MIT or Apache-2.0\n")
    deb(packages, "librust-z-dev", rust, "Files: *\nLicense: MPL-2.0\n")
    rows = ["package\tversion\tuse\tlanguage", "alpha\t1.0\ttrain\t", "@beta/core\t1.0.0\ttrain\tjavascript"]
    rows += ["golang-x-dev\t1:2.0-1\ttrain\tgo"]
    rows += [f"librust-{name}-dev\t1:2.0-1\ttrain\trust" for name in ("y", "z")]
    path = tmp_path / "packages.tsv"
    path.write_text("\n".join(rows), "utf-8")

    corpus.build(tmp_path / "out", path, None, packages)

    kept = read(tmp_path / "out")
    assert set(kept) == {
        "alpha:alpha/a.py",
        "@beta/core:@beta/core/src/x.ts",
        "@beta/core:@beta/core/lib/y.js",
        "golang-x-dev:x/a.go",
        "librust-y-dev:y-z/src/lib.rs",
    }
    reports = dropped(tmp_path / "out")
    assert reports["librust-z-dev"]["refused"].startswith("licence MPL-2")
    assert reports["librust-y-dev"]["licence"] == "MIT OR Apache-2.0"
    languages = {file.package: file.language for file in Corpus(tmp_path / "out").files}
    assert languages["@beta/core"] == "javascript"
    assert languages["librust-y-dev"] == "rust"


@pytest.mark.parametrize(
    ("language", "filename"),
    [("python", "x-1-py3-none-any.whl"), ("javascript", "x-1.tgz"), ("go", "x_1_all.deb"), ("rust", "x_1_amd64.deb")],
)
@pytest.mark.parametrize("content", [b"", b"PK", b"!<arch>\n", gzip.compress(b"text")])
def test_a_damaged_file_is_told(tmp_path: Path, language: Any, filename: str, content: bytes) -> None:
    (tmp_path / filename).write_bytes(content)
    package = corpus.Package("x", "1", "train", language=language)
    [path] = corpus.download([package], tmp_path).values()
    assert corpus.read_package(package, path, NOTHING, frozenset())[0].refused.endswith("delete it and run again")


def test_a_file_that_is_not_the_listed_one_is_refused(tmp_path: Path) -> None:
    path = npm(tmp_path, "beta", {"index.js": script(1)}, {"license": "MIT"})
    good = "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    for integrity, files in ((good, 1), ("sha512-AAAA", 0)):
        package = corpus.Package("beta", "1.0.0", "train", language="javascript", integrity=integrity)
        report, kept = corpus.read_package(package, path, NOTHING, frozenset())
        assert len(kept) == files
        assert bool(report.refused) is not bool(files)


@pytest.mark.parametrize(
    ("language", "name", "words"),
    [
        ("javascript", "@beta/core", ["npm", "@beta/core@1.0"]),
        ("go", "golang-x-dev", ["apt-get", "golang-x-dev=1.0"]),
        ("rust", "librust-y-dev", ["apt-get", "librust-y-dev=1.0"]),
    ],
)
def test_the_client_of_its_registry_downloads_a_package(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    language: Any,
    name: str,
    words: list[str],
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], cwd: Path, **_: Any) -> None:
        assert cwd == tmp_path
        commands.append([Path(command[0]).stem, command[-1]])
        raise FileNotFoundError(2, "no such file")

    monkeypatch.setattr(subprocess, "run", run)
    assert corpus.download([corpus.Package(name, "1.0", "train", language=language)], tmp_path) == {}
    assert commands == [words]
    assert f"needs {words[0]}" in capsys.readouterr().err


def test_training_draws_languages_by_their_shares(tmp_path: Path) -> None:
    texts = {"a.py": b"x" * 300, "b.py": b"x" * 100, "c.rs": b"x" * 5000}
    names = {"a.py": "python", "b.py": "python", "c.rs": "rust"}
    files = [
        (corpus.PackageReport("p", "1", "train", names[path]), corpus.File(path, text, b"", MinHash(4)))
        for path, text in texts.items()
    ]
    corpus.write(files, tmp_path)
    written = Corpus(tmp_path)
    weights = {file.path: float(weight) for file, weight in zip(written.files, written.weights(), strict=True)}
    python, rust = LANGUAGES["python"].share, LANGUAGES["rust"].share
    assert weights["c.rs"] == pytest.approx(rust / (python + rust))
    assert weights["a.py"] == pytest.approx(3 * weights["b.py"])
    assert sum(weights.values()) == pytest.approx(1)


def test_caps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "CAPS", {"train": 20_000, "validation": 1_000_000})
    code = {f"alpha/m{seed}.py": module(seed) for seed in range(30)}
    tests = {f"alpha/tests/m{seed}.py": module(seed) for seed in range(30, 60)}
    wheel(tmp_path, "alpha", {**code, **tests})
    path = next(tmp_path.glob("*.whl"))
    report, files = corpus.read_package(corpus.Package("alpha", "1.0", "train"), path, NOTHING, frozenset())
    size = sum(len(file.text) for file in files)
    of_tests = sum(len(file.text) for file in files if "tests/" in file.path)
    assert 15_000 < size <= 20_000
    assert 0 < of_tests <= 0.25 * size
    assert report.dropped == {"over the cap": 60 - len(files)}
    held_out = corpus.Package("alpha", "1.0", "validation")
    assert len(corpus.read_package(held_out, path, NOTHING, frozenset())[1]) > len(files)


def test_the_list_of_the_project_trains_on_nothing_reserved() -> None:
    packages = corpus.read_packages(corpus.PACKAGES)
    validation = {one.language for one in packages if one.use == "validation"}
    assert validation == set(LANGUAGES)
    assert {one.name for one in packages if one.use == "validation" and one.language == "python"} == {
        *("black", "celery", "flask", "networkx", "rich", "scrapy")
    }
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


def test_decisions_are_learned_from_no_package_that_is_trained_on_or_reserved() -> None:
    gate = corpus.read_packages(corpus.PACKAGES.with_name("gate.tsv"))
    assert not {(one.language, one.name) for one in gate} & {
        (one.language, one.name) for one in corpus.read_packages(corpus.PACKAGES)
    }
    assert {one.language for one in gate} == set(LANGUAGES)
    assert all(one.use == "validation" and one.integrity for one in gate)
