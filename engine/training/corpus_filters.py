"""What may enter the corpus: pure functions over a package's metadata and one file's path and text.

Every check answers with the reason for which something is dropped, or with None. The checks are cheap heuristics
that would rather lose a good file than keep a bad one: there is more permissive Python than we can train on.
"""

from __future__ import annotations

import ast
import re
import warnings
import zlib
from email.message import Message
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

PERMISSIVE = frozenset(
    "0BSD AFL-3.0 Apache-2.0 Artistic-2.0 BSD BSD-1-Clause BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 CNRI-Python HPND "
    "ISC MIT MIT-0 MIT-CMU NCSA OFL-1.1 PSF-2.0 Python-2.0 Python-2.0.1 Unlicense X11 ZPL-2.1 Zlib "
    "LicenseRef-Biopython-License-Agreement LicenseRef-Repoze-BSD-derived".lower().split()
)
_VENDORED_PATH = re.compile(
    r"(^|/)(_?vendor(ed)?(_sdks)?|_?third_?party|_?externals?|_?extern|site-packages|node_modules)/"
)
_SPELLINGS = (
    (r"apache", "Apache-2.0"),
    (r"permission is hereby granted, free of charge|\bmit\b|\bexpat\b", "MIT"),
    (r"redistribution and use in source and binary forms|\b(new |modified |simplified |[23][- ]clause )?bsd\b", "BSD"),
    (r"permission to use, copy, modify, and/?o?r? distribute this software|\bisc\b|\biscl\b", "ISC"),
    (r"python software foundation|\bpsfl?\b|\bpsf-2\.0\b", "PSF-2.0"),
    (r"\bunlicense\b|public domain", "Unlicense"),
    (r"\bzpl\b|zope public", "ZPL-2.1"),
    (r"\bzlib\b", "Zlib"),
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
    r"_pb2(_grpc)?\.py$|_pb2/|/aaz/|/_?generated/|_generated\.py$|/(parsetab|lextab|_version)\.py$"
)
_TEST_PATH = re.compile(r"(^|/)(tests?|testing|_tests?|unit_tests?)/|(^|/)(test_[^/]*|[^/]*_tests?|conftest)\.py$")
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
    """Why a wheel's file is not even read: `without` holds path prefixes, `reserved` names of packages."""
    if not reserved.isdisjoint(PurePosixPath(path.removesuffix(".py")).parts):
        return "reserved"
    if _VENDORED_PATH.search(path) or path.startswith(without):
        return "vendored"
    return "generated" if _GENERATED_PATH.search(path) else None


def is_test(path: str) -> bool:
    return bool(_TEST_PATH.search(path))


def decoded(data: bytes) -> str | None:
    """The text with line feeds alone and one at its end; None where it is not UTF-8."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip() + "\n"


def rejected_text(text: str) -> str | None:
    """Why a file's text is not worth training on."""
    if not 200 <= len(text) <= 500_000:
        return "too short" if len(text) < 200 else "too long"
    head = "\n".join(text.split("\n", 40)[:40])
    if _RESTRICTED.search(head):
        return "licence notice"
    if _GENERATED.search(head) or "# Copied from " in text:
        return "generated"
    return _rejected_shape(text) or (None if _parses(text) else "not Python 3")


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
