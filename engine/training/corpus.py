"""Builds the training corpus from packages pinned in a list: `python -m engine train corpus --out DIR`.

Packages come from the sources of `corpus_sources`. What the checks of `corpus_filters` leave of them is capped a
package, deduplicated exactly and nearly, shuffled and written as three files:

    corpus.bin    the kept files' UTF-8 text, one after the other
    index.npy     int64 offsets into it, shape (files + 1,)
    files.jsonl   {"package", "path", "bytes", "language"} of each file, in the same order

All that passes is kept, in whatever proportion the languages come: training draws them by the shares of `languages`.
The packages that our own evaluation completes go the same way into `validation/` beside them. They are read first,
so that a training file that nearly equals one of theirs is dropped as a duplicate. The same list gives the same
corpus on any number of cores, but for packages that cannot be downloaded, which the report names, and for files
whose syntax the running Python is too old for.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]
from packaging.utils import canonicalize_name
from tqdm import tqdm

from engine.corpus import FileEntry
from engine.evaluation.report import Report, Row
from engine.languages import LANGUAGES
from engine.training import corpus_filters as filters
from engine.training.corpus_sources import DAMAGED, SOURCES, Package, is_intact

PACKAGES = Path(__file__).with_name("packages.tsv")
CAPS = {"train": 2_000_000, "validation": 8_000_000}  # bytes a package; training draws less than there is: many matter
TEST_SHARE = 0.25  # of the bytes of a package
NEAR = 0.8  # Jaccard similarity of two files' n-grams from which on the later file goes
NEAR_WORDS, EVALUATION_WORDS = 4, 10  # n of the n-grams
BYTES_A_TOKEN = 3.6


class File(msgspec.Struct, frozen=True):
    """A file that passed the checks; `digest` is of its text without white space, `sketch` of its n-grams."""

    path: str
    text: bytes
    digest: bytes
    sketch: MinHash


class PackageReport(msgspec.Struct):
    """What became of a package: what was kept, how many files were dropped why, why it was refused as a whole."""

    package: str
    version: str
    use: str
    language: str = ""
    licence: str = ""
    files: int = 0
    bytes: int = 0
    dropped: dict[str, int] = {}
    refused: str = ""

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


Kept: TypeAlias = tuple[PackageReport, File]


def build(out: Path, packages: Path = PACKAGES, evaluation: Path | None = None, wheels: Path | None = None) -> None:
    """Build the corpus into `out`, keeping the packages in `wheels` (by default within `out`) for the next time.

    `evaluation` is a folder of *.jsonl.gz with problems that no training file may share an n-gram with.
    Raises ValueError where the list or the folder does not hold what it should, OSError where files cannot be used.
    """
    started = time.monotonic()
    listed = read_packages(packages)
    wanted = [package for use in ("validation", "train") for package in listed if package.use == use]
    untrained = [package for package in listed if package.use != "train"]
    reserved = {name: frozenset(one.name for one in untrained if one.language == name) for name in LANGUAGES}
    read = partial(read_package, reserved=reserved, held_out=evaluation_ngrams(evaluation))
    found = download(wanted, wheels or out / "wheels")
    kept: dict[str, list[Kept]] = {"validation": [], "train": []}
    reports: list[PackageReport] = []
    duplicates = Duplicates()
    with ProcessPoolExecutor() as pool:
        for report, files in tqdm(pool.map(read, wanted, map(found.get, wanted)), "Reading", len(wanted)):
            kept[report.use] += [(report, file) for file in without_duplicates(files, duplicates, report)]
            reports.append(report)
    write(kept["train"], out)
    write(kept["validation"], out / "validation")
    tell(reports, out, time.monotonic() - started)


def read_packages(path: Path) -> list[Package]:
    """The list: columns parted by tabs, the first line naming them.

    `package`, `version` and `use` have to be there; `without` (path prefixes parted by commas), `language` (by default
    Python) and `integrity` may.
    """
    heads, *lines = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line.strip()]
    packages = [_package(dict(zip(heads, line, strict=False)), "\t".join(line)) for line in lines]
    counts = Counter((package.language, package.name) for package in packages)
    if twice := [name for (_, name), count in counts.items() if count > 1]:
        raise ValueError(f"{path} lists {', '.join(twice)} twice: keep one line of each")
    return packages


def _package(row: dict[str, str], line: str) -> Package:
    fields = {name: value for name, value in row.items() if value}
    fields |= {"name": row["package"], "version": row.get("version", "")}
    if fields.get("language", "python") == "python":
        fields["name"] = canonicalize_name(fields["name"])
    try:
        return msgspec.convert(fields | {"without": tuple(filter(None, row.get("without", "").split(",")))}, Package)
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
    """The file of each package; one that cannot be had is told of, and missing from the answer."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in packages if _locate(package, folder) is None]
    with ThreadPoolExecutor(4) as pool:
        for failure in tqdm(pool.map(partial(_download, folder=folder), missing), "Downloading", len(missing)):
            if failure:
                print(failure, file=sys.stderr)
    return {package: path for package in packages if (path := _locate(package, folder)) is not None}


def _locate(package: Package, folder: Path) -> Path | None:
    return SOURCES[package.language].locate(package, folder)


def _download(package: Package, folder: Path) -> str | None:
    """Download a package; its client's last words if it fails."""
    command = SOURCES[package.language].command(package)
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    except OSError as error:
        return f"{package.name} {package.version} needs {Path(command[0]).name} ({error.strerror})"
    words = (done.stderr.strip() or "no reason given").splitlines()[-1]
    return f"{package.name} {package.version}: {words}" if done.returncode else None


def read_package(
    package: Package, path: Path | None, reserved: dict[str, frozenset[str]], held_out: frozenset[int]
) -> tuple[PackageReport, list[File]]:
    """The package's files that pass the checks, up to the cap; `reserved` and `held_out` bind training packages.

    `reserved` holds the names of packages by language, since a name may mean something else in another one.
    """
    report = PackageReport(package.name, package.version, package.use, package.language)
    if path is None:
        report.refused = "not downloaded"
        return report, []
    damaged = f"{path.name} is damaged: delete it and run again"
    if not is_intact(path.read_bytes(), package.integrity):
        report.refused = damaged
        return report, []
    try:
        contents = SOURCES[package.language].read(path, package.language)
    except DAMAGED:
        report.refused = damaged
        return report, []
    report.licence = contents.licence
    if not filters.is_permissive(contents.licence):
        report.refused = f"licence {contents.licence or 'unknown'}"
        return report, []
    trained = package.use == "train"
    names = reserved[package.language] if trained else frozenset[str]()
    paths = _paths(contents.files, package.without, names, report)
    return report, _fill(contents.files, paths, held_out if trained else frozenset(), report)


def _paths(
    files: Iterable[str], without: tuple[str, ...], reserved: frozenset[str], report: PackageReport
) -> list[str]:
    """The files worth a look, mixed so that the cap does not take folders in alphabetical order."""
    paths: list[str] = []
    for path in sorted(files, key=lambda path: hashlib.sha256(path.encode()).digest()):
        if reason := filters.rejected_path(path, without, reserved):
            report.drop(reason)
        else:
            paths.append(path)
    return paths


def _fill(contents: dict[str, bytes], paths: list[str], held_out: frozenset[int], report: PackageReport) -> list[File]:
    """Code up to the cap less the room of the tests, then tests up to their share."""
    tests = list(filter(filters.is_test, paths))
    cap = CAPS[report.use]
    room = min(cap * TEST_SHARE, sum(len(contents[path]) for path in tests))
    take = partial(_take, contents, held_out=held_out, report=report)
    code = take([path for path in paths if not filters.is_test(path)], cap - room)
    share = sum(len(file.text) for file in code) * TEST_SHARE / (1 - TEST_SHARE)
    return code + take(tests, min(room, share))


def _take(
    contents: dict[str, bytes], paths: list[str], room: float, held_out: frozenset[int], report: PackageReport
) -> list[File]:
    """The files that pass the checks, as long as they fit into `room` bytes."""
    files: list[File] = []
    for path in paths:
        if len(contents[path]) > room:
            report.drop("over the cap")
        elif isinstance(file := checked(path, contents[path], report.language, held_out), str):
            report.drop(file)
        else:
            room -= len(file.text)
            files.append(file)
    return files


def checked(path: str, data: bytes, language: str, held_out: frozenset[int] = frozenset()) -> File | str:
    """The file, or why it is dropped."""
    text = filters.decoded(data)
    if text is None:
        return "not UTF-8"
    if reason := filters.rejected_text(text, language):
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


def without_duplicates(files: list[File], duplicates: Duplicates, report: PackageReport) -> Iterator[File]:
    """The files that are new, counted in the report."""
    for file in files:
        if reason := duplicates.reason(file):
            report.drop(reason)
        else:
            report.files += 1
            report.bytes += len(file.text)
            yield file


def write(files: list[Kept], folder: Path) -> None:
    """Write the three files of a corpus, in an order that is mixed and always the same.

    They take their places when all are whole: a trainer may have the old ones mapped into its memory.
    """
    part = folder / "part"
    part.mkdir(parents=True, exist_ok=True)
    files = random.Random(0).sample(files, len(files))
    with (part / "corpus.bin").open("wb") as texts, (part / "files.jsonl").open("wb") as names:
        for report, file in files:
            texts.write(file.text)
            entry = FileEntry(report.package, file.path, len(file.text), report.language)
            names.write(msgspec.json.encode(entry) + b"\n")
    sizes = [0, *(len(file.text) for _, file in files)]
    np.save(part / "index.npy", np.cumsum(sizes, dtype=np.int64))
    for path in part.iterdir():
        path.replace(folder / path.name)
    part.rmdir()


def tell(reports: list[PackageReport], out: Path, seconds: float) -> None:
    """Write what became of the packages to report.json, and print the sums."""
    totals = [_total(reports, use, language) for use in ("validation", "train") for language in LANGUAGES]
    content = {"seconds": round(seconds), "totals": totals, "packages": reports}
    (out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    Report({report.package: report.refused for report in reports if report.refused}).print()
    Report(totals).print()


def _total(reports: Iterable[PackageReport], use: str, language: str) -> Row:
    its = [report for report in reports if (report.use, report.language) == (use, language)]
    dropped = sum((Counter(report.dropped) for report in its), Counter[str]())
    size = sum(report.bytes for report in its) / 1e6
    sizes = {"files": sum(report.files for report in its), "MB": size, "M tokens": size / BYTES_A_TOKEN}
    return {"use": use, "language": language} | sizes | {"dropped": dict(dropped.most_common())}
