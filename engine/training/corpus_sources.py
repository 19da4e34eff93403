"""Where packages come from: wheels of PyPI, tarballs of npm, Debian's packages of Go and Rust sources.

Each registry's own client downloads (pip, npm, apt-get), so addresses, proxies and certificates are those that it is
set up with. Packages are only read, never installed or run. A source answers three questions: how a package is
downloaded, which file of a folder it is, and what stands in that file. Debian's versions are those of one release
(the list has bookworm's), which apt-get has to be set up with; what was downloaded before is read on any machine.
"""

from __future__ import annotations

import io
import logging
import lzma
import re
import shutil
import sys
import tarfile
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from email.parser import HeaderParser
from functools import cache
from hashlib import new
from pathlib import Path
from typing import Literal

import msgspec
from debian.arfile import ArError
from debian.copyright import Copyright, FilesParagraph, NotMachineReadableError
from debian.debfile import DebError, DebFile
from packaging.utils import canonicalize_name, parse_wheel_filename

from engine.languages import is_source
from engine.training import corpus_filters as filters

PLATFORMS = ("any", "manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, ArError, DebError),
    *(EOFError, KeyError, msgspec.DecodeError),
)
logging.getLogger("debian.copyright").setLevel(logging.ERROR)  # it mends many old headers, and says so each time
_DEBIAN_ROOT = re.compile(
    r"\./usr/(?:share/gocode/src|share/go-[\d.]+|src/rustc-[\d.]+)/|\./usr/share/cargo/registry/(.+?)-\d[^/]*(?=/)"
)


class Package(msgspec.Struct, frozen=True):
    """A line of the list. Reserved ones are never read: their names are what no training file's path may contain."""

    name: str
    version: str
    use: Literal["train", "validation", "reserved"]
    without: tuple[str, ...] = ()  # path prefixes left out
    language: Literal["python", "javascript", "go", "rust"] = "python"
    integrity: str = ""  # the file's hash as npm writes it, "sha256-" or "sha512-" and base64; "" is not checked


class Contents(msgspec.Struct, frozen=True):
    """A package's licence ("" where it states none that we know) and its source files by path."""

    licence: str
    files: dict[str, bytes]


class PackageSource(msgspec.Struct, frozen=True):
    """`command` downloads a package into a folder when run there, `locate` finds it there, `read` opens it."""

    command: Callable[[Package], list[str]]
    locate: Callable[[Package, Path], Path | None]
    read: Callable[[Path, str], Contents]


def is_intact(data: bytes, integrity: str) -> bool:
    """Whether a file has the hash of its line in the list."""
    algorithm, _, digest = integrity.partition("-")
    return not integrity or b64encode(new(algorithm, data).digest()).decode() == digest


def _wheel_command(package: Package) -> list[str]:
    """For one platform, so that the corpus is the same everywhere."""
    target = ["--python-version=3.12", "--implementation=cp", *(f"--platform={name}" for name in PLATFORMS)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *target]
    return [*command, f"{package.name}=={package.version}"]


def _wheel_locate(package: Package, folder: Path) -> Path | None:
    wanted = (package.name, package.version)
    return next((path for path in folder.glob("*.whl") if _wheel_name(path.name) == wanted), None)


@cache
def _wheel_name(filename: str) -> tuple[str, str]:
    name, version, _, _ = parse_wheel_filename(filename)
    return str(canonicalize_name(name)), str(version)


def _wheel_read(path: Path, language: str) -> Contents:
    """A wheel; its own licence file lies above those of what it bundles."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inside = [name for name in names if ".dist-info/" in name]
        metadata = [name for name in inside if name.endswith(".dist-info/METADATA")]
        if not metadata:
            raise KeyError("METADATA")
        licences = [name for name in inside if _is_licence(name.rsplit("/", 1)[1])]
        own = sorted(licences, key=lambda name: name.count("/"))[:1]
        texts = [archive.read(name).decode("utf-8", "replace") for name in (metadata[0], *own)]
        licence = filters.licence_of(HeaderParser().parsestr(texts[0]), "".join(texts[1:]))
        return Contents(licence, {name: archive.read(name) for name in names if is_source(name, language)})


def _npm_command(package: Package) -> list[str]:
    npm = shutil.which("npm") or "npm"
    return [npm, "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"]


def _npm_locate(package: Package, folder: Path) -> Path | None:
    path = folder / f"{package.name.removeprefix('@').replace('/', '-')}-{package.version}.tgz"
    return path if path.exists() else None


def _npm_read(path: Path, language: str) -> Contents:
    """A tarball, whose files lie in one folder of any name; the package's name takes that one's place."""
    with tarfile.open(path) as archive:
        members = {name.partition("/")[2]: data for name, data in _files(archive, _npm_wanted)}
    manifest = msgspec.json.decode(members["package.json"], type=dict)
    licences = [data.decode("utf-8", "replace") for name, data in members.items() if _is_licence(name)]
    sources = {name: data for name, data in members.items() if is_source(name, language)}
    compiled = filters.compiled_paths(sources)
    name = manifest["name"]
    licence = filters.npm_licence(manifest, "".join(licences[:1]))
    return Contents(licence, {f"{name}/{path}": data for path, data in sources.items() if path not in compiled})


def _npm_wanted(path: str) -> bool:
    inner = path.partition("/")[2]
    return inner == "package.json" or _is_licence(inner) or is_source(path, "javascript")


def _is_licence(path: str) -> bool:
    return "/" not in path and path.upper().startswith(("LICEN", "COPYING"))


def _debian_command(package: Package) -> list[str]:
    return ["apt-get", "download", "--quiet", f"{package.name}={package.version}"]


def _debian_locate(package: Package, folder: Path) -> Path | None:
    """The file's name has the colon of an epoch in its escaped form."""
    return next(folder.glob(f"{package.name}_{package.version.replace(':', '%3a')}_*.deb"), None)


def _debian_read(path: Path, language: str) -> Contents:
    """A Debian package; its sources' paths start at the import path or at the crate's name.

    Its licence is that of most files. Those that the copyright file names with another one which is not permissive
    are left out; its patterns are relative to a root that only the packager knew, so any end of a path may match.
    """
    with DebFile(str(path)) as package:
        archive = package.data.tgz()
        members = dict(_files(archive, lambda name: is_source(name, language) or name.endswith("/copyright")))
    texts = [data.decode("utf-8", "replace") for name, data in members.items() if name.endswith("/copyright")]
    sources = {_DEBIAN_ROOT.sub(r"\1", name): data for name, data in members.items() if _DEBIAN_ROOT.match(name)}
    try:
        paragraphs = list(Copyright(io.StringIO("".join(texts[:1])), strict=False).all_files_paragraphs())
    except (NotMachineReadableError, ValueError):  # not in the form of DEP 5
        return Contents("", {})
    named = [(one, filters.debian_licence(getattr(one.license, "synopsis", ""))) for one in paragraphs]
    most = [licence for one, licence in named if "*" in one.files]
    others = [(one, licence) for one, licence in named if "*" not in one.files]
    barred = [one for one, licence in others if not filters.is_permissive(licence)]
    main = most or sorted({licence for _, licence in others if filters.is_permissive(licence)})
    kept = {path: data for path, data in sources.items() if not any(_matches(one, path) for one in barred)}
    return Contents(" AND ".join(main), kept)


def _matches(paragraph: FilesParagraph, path: str) -> bool:
    parts = path.split("/")
    return any(paragraph.matches("/".join(parts[start:])) for start in range(len(parts)))


def _files(archive: tarfile.TarFile, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """The wanted files in the archive's order, as a compressed stream wants to be read."""
    for member in archive:
        if member.isfile() and wanted(member.name):
            content = archive.extractfile(member)
            assert content is not None
            yield str(member.name), content.read()


_DEBIAN = PackageSource(_debian_command, _debian_locate, _debian_read)
SOURCES = {
    "python": PackageSource(_wheel_command, _wheel_locate, _wheel_read),
    "javascript": PackageSource(_npm_command, _npm_locate, _npm_read),
    "go": _DEBIAN,
    "rust": _DEBIAN,
}
