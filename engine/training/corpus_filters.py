"""What may enter the corpus: pure functions over a package's metadata and one file's path and text.

Every check answers with the reason for which something is dropped, or with None. The checks are cheap heuristics
that would rather lose a good file than keep a bad one: there is more permissive code than we can train on. Most hold
for all languages; what is compiled or broken is known a language at a time.
"""

from __future__ import annotations

import ast
import re
import warnings
import zlib
from collections.abc import Iterable
from email.message import Message
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERMISSIVE = frozenset(
    "0BSD AFL-3.0 Apache-2.0 Artistic-2.0 BSD BSD-1-Clause BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 CNRI-Python HPND "
    "ISC MIT MIT-0 MIT-CMU NCSA OFL-1.1 PSF-2.0 Python-2.0 Python-2.0.1 Unicode-3.0 Unicode-DFS-2016 Unlicense X11 "
    "ZPL-2.1 Zlib LicenseRef-Biopython-License-Agreement LicenseRef-Repoze-BSD-derived".lower().split()
)
_VENDORED_PATH = re.compile(
    r"(^|/)(_?vendor(ed)?(_sdks)?|_?third[-_]?party|_?externals?|_?extern|site-packages|node_modules|bower_components"
    r"|Godeps)/"
)
_FIXTURE_PATH = re.compile(r"(^|/)(testdata|(__)?(fixtures|snapshots)(__)?)/.*\.([cm]?[jt]sx?|go|rs)$")
_SPELLINGS = (
    (r"apache", "Apache-2.0"),
    (r"permission is hereby granted, free of charge|\bmit\b|\bexpat\b", "MIT"),
    (r"redistribution and use in source and binary forms|\b(new |modified |simplified |[23][- ]clause )?bsd\b", "BSD"),
    (r"permission to use, copy, modify, and/?o?r? distribute this software|\bisc\b|\biscl\b", "ISC"),
    (r"python software foundation|\bpsfl?\b|\bpsf-2\.0\b", "PSF-2.0"),
    (r"\bunlicense\b|public[- ]domain", "Unlicense"),
    (r"\bzpl\b|zope public", "ZPL-2.1"),
    (r"\bzlib\b", "Zlib"),
    (r"^go$", "BSD-3-Clause"),  # as Debian names the licence of Go
    (r"\bhpnd\b|historical permission notice", "HPND"),
    (r"\bboost software\b", "BSL-1.0"),
)
_RESTRICTED = re.compile(
    r"GNU (Lesser |Library |Affero )?(General )?Public Licen[cs]e|\b[AL]?GPL(v?\d|\b)|Mozilla Public Licen[cs]e"
    r"|\bMPL[- ]?v?[12]\.|Creative Commons Attribution|CC[- ]BY|Eclipse Public Licen[cs]e|\bEPL-|\bCDDL|\bBUSL|\bSSPL"
    r"|(Business Source|Server Side Public|Elastic|Enterprise|Commercial) Licen[cs]e|non-?commercial"
    r"|NvidiaProprietary|proprietary and confidential",
    re.IGNORECASE,
)
_GENERATED = re.compile(
    r"auto-?generated|automatically (re)?generated|@generated|do not (edit|modify|change) (this|it|by|manually|direct)"
    r"|^\W*((this |the )?(file|module|code|script) )?((was|is|has been) )?generated (by|from|with|using)",
    re.IGNORECASE | re.MULTILINE,
)
_GENERATED_PATH = re.compile(
    r"_pb2(_grpc)?\.py$|_pb2/|/aaz/|/_?generated/|_generated\.\w+$|/(parsetab|lextab|_version)\.py$"
    r"|\.pb(\.\w+)?\.go$|(^|/)(zz_|zsys|ztypes|zerrors|bindata)[^/]*\.go$|_string\.go$|/(bindings?|tables)\.(rs|go)$"
)
_COMPILED_PATH = re.compile(
    r"\.d\.[cm]?ts$|[.-](min|bundle|umd|iife|prod|production)\.[cm]?js$"
    r"|(^|/)(dist[^/]*|build|builds|umd|amd|cjs|esm?\d*|commonjs|fesm\d*|_?bundles?|min|legacy|lib-esm|esnext|out)/"
    r".*\.[cm]?jsx?$|(^|/)(locales?|i18n|lang)/.*\.[cm]?[jt]s$"
)
_COMPILED = re.compile(
    r"defineProperty\(exports, *[\"']__esModule|sourceMappingURL=|_interopRequire|_classCallCheck|regeneratorRuntime"
    r"|__(awaiter|extends|createBinding|webpack_require|toESM)\b|^[\"']use strict[\"'];\s+(exports\.|var _)"
    r"|_?jsxs?\(|^\s*[/*]+ *@(no)?flow\b",
    re.MULTILINE,
)
_TEST_PATH = re.compile(
    r"(^|/)(tests?|testing|_tests?|__tests?__|unit_tests?|specs?|e2e|benches|benchmarks?)/"
    r"|(^|/)(test_[^/]*|[^/]*_tests?|conftest)\.(py|go|rs)$|[.-](test|spec)\.[cm]?[jt]sx?$"
)
_DATA_LINE = re.compile(r"\s*(?!['\"]{3})[\"'\d\[({-]")
_WORD = re.compile(r"[^\W\d]\w*")


def licence_of(metadata: Message, licence_text: str) -> str:
    """The licence that a wheel states: an SPDX expression or a sum of names; "" where it states none that we know.

    `licence_text` is its licence file, heard only where the metadata says nothing of use.
    """
    if expression := metadata["License-Expression"]:
        return str(expression)
    classifiers = (str(line) for line in metadata.get_all("Classifier", []))
    names = {line.split("::")[-1].strip() for line in classifiers if line.startswith("License ::")} - {"OSI Approved"}
    stated = sorted(map(_named, names))
    if stated and all(stated):
        return " AND ".join(stated)
    return _named(str(metadata["License"] or "")) or _named(licence_text)


def npm_licence(manifest: dict[str, Any], licence_text: str) -> str:
    """The licence that a package.json states, in today's form or in the two before it; else that of its text."""
    stated = manifest.get("license") or manifest.get("licenses") or ""
    several = stated if isinstance(stated, list) else [stated]
    names = [str(one.get("type", "")) if isinstance(one, dict) else str(one) for one in several]
    return " AND ".join(sorted(map(_named, names))) if all(map(_named, names)) else _named(licence_text)


def debian_licence(synopsis: str) -> str:
    """The licence that a Debian copyright file names for a group of files; a name that we don't know stays as it is."""
    terms = re.split(r"(?i),? +and +|, +", synopsis.strip())
    choices = (re.split(r"(?i),? +or +", term) for term in terms)
    return " AND ".join(sorted(" OR ".join(_named(choice) or choice for choice in term) for term in choices))


def _named(text: str) -> str:
    """The licence that a classifier, a short name or a full text speaks of."""
    if is_permissive(text):
        return text
    head = text[:1500]
    if restricted := _RESTRICTED.search(head):
        return restricted.group()
    return next((name for pattern, name in _SPELLINGS if re.search(pattern, head, re.IGNORECASE)), "")


def is_permissive(expression: str) -> bool:
    """Whether each AND-term of a licence expression offers a permissive choice.

    Brackets are read as if OR bound tighter than AND, which is stricter than the expression where it is wrong.
    """
    terms = re.split(r"\s+AND\s+", expression.replace("(", "").replace(")", ""))
    return all(any(map(_is_permissive_id, re.split(r"\s+OR\s+", term))) for term in terms)


def _is_permissive_id(name: str) -> bool:
    return re.sub(r"\s+WITH\s+.*", "", name.strip()).lower() in PERMISSIVE


def rejected_path(path: str, without: tuple[str, ...], reserved: frozenset[str]) -> str | None:
    """Why a package's file is not even looked at: `without` holds path prefixes, `reserved` names of packages."""
    if not reserved.isdisjoint(PurePosixPath(path).with_suffix("").parts):
        return "reserved"
    if _VENDORED_PATH.search(path) or path.startswith(without):
        return "vendored"
    if _COMPILED_PATH.search(path):
        return "compiled"
    if _FIXTURE_PATH.search(path):
        return "fixture"
    return "generated" if _GENERATED_PATH.search(path) else None


def compiled_paths(paths: Iterable[str]) -> set[str]:
    """The JavaScript files of a package that also has a TypeScript file of their name, which they come from."""
    typed = {PurePosixPath(path).stem for path in paths if re.search(r"(?<!\.d)\.[cm]?tsx?$", path)}
    return {path for path in paths if PurePosixPath(path).stem in typed and re.search(r"\.[cm]?jsx?$", path)}


def is_test(path: str) -> bool:
    return bool(_TEST_PATH.search(path))


def decoded(data: bytes) -> str | None:
    """The text with line feeds alone and one at its end; None where it is not UTF-8."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip() + "\n"


def rejected_text(text: str, language: str = "python") -> str | None:
    """Why a file's text is not worth training on."""
    if not 200 <= len(text) <= 500_000:
        return "too short" if len(text) < 200 else "too long"
    head = "\n".join(text.split("\n", 40)[:40])
    if _RESTRICTED.search(head):
        return "licence notice"
    if _GENERATED.search(head) or "# Copied from " in text:
        return "generated"
    if language == "javascript" and _COMPILED.search(text):
        return "compiled"
    if reason := _rejected_shape(text):
        return reason
    return "not Python 3" if language == "python" and not _parses(text) else None


def _rejected_shape(text: str) -> str | None:
    lines = text.split("\n")
    if max(map(len, lines)) > 1000 or len(text) / len(lines) > 100:
        return "long lines"
    if sum(map(bool, map(_DATA_LINE.match, lines))) > 0.5 * len(lines) or _letters(text) < 0.55:
        return "mostly data"
    return "not ASCII" if len(text.encode()) > 1.05 * len(text) else None


def _letters(text: str) -> float:
    """The share of letters and underscores in what is not white space."""
    solid = "".join(text.split())
    return sum(map(len, re.findall(r"[^\W\d]+", solid))) / max(1, len(solid))


def _parses(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


@lru_cache(maxsize=2**20)
def _word_hash(word: str) -> int:
    return zlib.crc32(word.encode())


def words(text: str) -> NDArray[np.uint64]:
    """The hashes of a text's words in order; signs and numbers, of which tables are made, do not count."""
    return np.fromiter(map(_word_hash, _WORD.findall(text)), np.uint64)


def ngrams(hashes: NDArray[np.uint64], n: int) -> list[int]:
    """The distinct n-grams of a sequence of hashes, as 64-bit hashes in ascending order; none where it is shorter."""
    count = max(0, len(hashes) - n + 1)
    mixed = np.zeros(count, np.uint64)
    for start in range(n):
        mixed = (mixed ^ hashes[start : start + count]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    distinct: list[int] = np.unique(mixed).tolist()
    return distinct
