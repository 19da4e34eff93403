"""The checks of single packages and files."""

from __future__ import annotations

from email.parser import HeaderParser

import pytest

from engine.training import corpus_filters as filters

FUNCTION = '''def area(width: float, height: float) -> float:
    """The area of a rectangle whose sides are not negative."""
    if width < 0 or height < 0:
        raise ValueError("a side is negative")
    return width * height
'''
MIT_TEXT = "Copyright (c) Someone\n\nPermission is hereby granted, free of charge, to any person obtaining a copy"


@pytest.mark.parametrize(
    ("metadata", "text", "licence", "permissive"),
    [
        ("License-Expression: MIT", "", "MIT", True),
        ("License-Expression: Apache-2.0 WITH LLVM-exception", "", "Apache-2.0 WITH LLVM-exception", True),
        ("License-Expression: (MIT OR GPL-2.0-only) AND BSD-3-Clause", "", None, True),
        ("License-Expression: MIT AND LGPL-3.0-only", "", None, False),
        ("License-Expression: MPL-2.0\nClassifier: License :: OSI Approved :: MIT License", "", "MPL-2.0", False),
        ("Classifier: License :: OSI Approved :: BSD License", "", "BSD", True),
        ("Classifier: License :: OSI Approved\nLicense: Apache License, Version 2.0", "", "Apache-2.0", True),
        (
            "Classifier: License :: OSI Approved :: GNU Affero General Public License v3\nLicense: MIT",
            "",
            "GNU Affero General Public License",
            False,
        ),
        ("Classifier: License :: Other/Proprietary License", "All rights are ours.", "", False),
        ("License: LICENSE.txt", MIT_TEXT, "MIT", True),
        ("Name: nothing", "", "", False),
    ],
)
def test_licence(metadata: str, text: str, licence: str | None, permissive: bool) -> None:
    found = filters.licence_of(HeaderParser().parsestr(metadata), text)
    assert found == licence or licence is None
    assert filters.is_permissive(found) is permissive


@pytest.mark.parametrize(
    ("manifest", "text", "licence"),
    [
        ({"license": "MIT"}, "", "MIT"),
        ({"license": "(MIT OR GPL-3.0)"}, "", "(MIT OR GPL-3.0)"),
        ({"license": {"type": "BSD-3-Clause", "url": "x"}}, "", "BSD-3-Clause"),
        ({"licenses": [{"type": "MIT"}, {"type": "Apache 2.0"}]}, "", "Apache-2.0 AND MIT"),
        ({"license": "SEE LICENSE IN LICENSE"}, MIT_TEXT, "MIT"),
        ({"license": "AGPL-3.0"}, MIT_TEXT, "AGPL"),
        ({"license": "UNLICENSED"}, "", ""),
        ({}, "", ""),
    ],
)
def test_npm_licence(manifest: dict[str, object], text: str, licence: str) -> None:
    found = filters.npm_licence(manifest, text)
    assert found.startswith(licence) if licence else found == ""
    assert filters.is_permissive(found) is (licence not in ("", "AGPL"))


@pytest.mark.parametrize(
    ("synopsis", "licence", "permissive"),
    [
        ("Expat", "MIT", True),
        ("MIT or Apache-2.0", "MIT OR Apache-2.0", True),
        ("BSD-3-clause and Expat, Apache-2", "Apache-2.0 AND BSD-3-clause AND MIT", True),
        ("Go", "BSD-3-Clause", True),
        ("public-domain", "Unlicense", True),
        ("GPL-2+ or Expat", "GPL OR MIT", True),
        ("GPL-2+", "GPL", False),
        ("MPEG", "MPEG", False),
        ("", "", False),
    ],
)
def test_debian_licence(synopsis: str, licence: str, permissive: bool) -> None:
    assert filters.debian_licence(synopsis) == licence
    assert filters.is_permissive(licence) is permissive


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("lib/index.js", None),
        ("lib/builder/index.ts", None),
        ("lib/index.min.js", "compiled"),
        ("lib/index.d.ts", "compiled"),
        ("lib/esm/index.js", "compiled"),
        ("dist/index.js", "compiled"),
        ("build/lib.py", None),
        ("lib/locale/de.js", "compiled"),
        ("lib/testdata/bad.go", "fixture"),
        ("lib/__fixtures__/in.js", "fixture"),
        ("api/v1/types.pb.go", "generated"),
        ("api/zz_generated.deepcopy.go", "generated"),
        ("lib/Godeps/x.go", "vendored"),
        ("lib/hyper/src/client.rs", "reserved"),
    ],
)
def test_rejected_path_of_other_languages(path: str, reason: str | None) -> None:
    assert filters.rejected_path(path, (), frozenset({"hyper"})) == reason


def test_javascript_with_a_typescript_file_of_its_name_is_compiled() -> None:
    paths = ["src/a.ts", "src/b.tsx", "lib/a.js", "lib/b.mjs", "lib/c.js", "types/c.d.ts"]
    assert filters.compiled_paths(paths) == {"lib/a.js", "lib/b.mjs"}


@pytest.mark.parametrize(
    "line",
    [
        'Object.defineProperty(exports, "__esModule", { value: true });',
        "//# sourceMappingURL=area.js.map",
        "var __awaiter = (this && this.__awaiter) || function () {};",
        "/* @flow strict */",
        '"use strict";\nexports.area = area;',
    ],
)
def test_compiled_javascript(line: str) -> None:
    text = "export function area(width, height) {\n  return width * height;\n}\n" * 5
    assert filters.rejected_text(text, "javascript") is None
    assert filters.rejected_text(f"{line}\n{text}", "javascript") == "compiled"
    assert filters.rejected_text(FUNCTION + FUNCTION, "go") is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("app/views.py", None),
        ("app/richness/blackboard.py", None),
        ("app/integrations/flask.py", "reserved"),
        ("app/flask/wrappers.py", "reserved"),
        ("pip/_vendor/requests/api.py", "vendored"),
        ("app/third_party/six.py", "vendored"),
        ("app/results/table.py", "vendored"),
        ("app/message_pb2.py", "generated"),
        ("azure/cli/aaz/latest/create.py", "generated"),
    ],
)
def test_rejected_path(path: str, reason: str | None) -> None:
    assert filters.rejected_path(path, ("app/results/",), frozenset({"flask", "rich", "black"})) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FUNCTION, None),
        ("import matplotlib as mpl\nmpl.style.use('mpl20')\n" + FUNCTION, None),
        ("# Subject to the MPL-2.0\n" + FUNCTION, "licence notice"),
        ("x = 1\n", "too short"),
        (FUNCTION * 3000, "too long"),
        ("# This file is auto-generated. DO NOT EDIT.\n" + FUNCTION, "generated"),
        ("# Generated by Django 4.2 on a day\n" + FUNCTION, "generated"),
        ("# Code generated by the Code Generator.\n" + FUNCTION, "generated"),
        ("# Pages are generated by the caller, reports by us.\n" + FUNCTION, None),
        ("# Licensed under the GNU Lesser General Public License\n" + FUNCTION, "licence notice"),
        ("# SPDX-License-Identifier: GPL-3.0-or-later\n" + FUNCTION, "licence notice"),
        (FUNCTION + "x = '" + "word " * 300 + "'\n", "long lines"),
        ("table = [\n" + "    'one word',\n    'and another',\n" * 30 + "]\n", "mostly data"),
        ("table = (\n" + "    0.12, 3.45, 6.78, 9.01,\n" * 30 + ")\n", "mostly data"),
        (FUNCTION + "# " + "слово " * 30 + "\n", "not ASCII"),
        (FUNCTION + "print 'no brackets'\n", "not Python 3"),
    ],
)
def test_rejected_text(text: str, reason: str | None) -> None:
    assert filters.rejected_text(text) == reason


def test_a_notice_below_the_header_is_no_notice() -> None:
    assert filters.rejected_text("import os\n" * 41 + FUNCTION + "LICENCES = ['GPL-3.0']\n") is None


def test_decoded() -> None:
    assert filters.decoded(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n\r\n") == "a = 1\nb = 2\n"
    assert filters.decoded("é".encode("latin-1")) is None


def test_ngrams_ignore_signs_numbers_and_space_but_not_order() -> None:
    def of(text: str) -> list[int]:
        return filters.ngrams(filters.words(text), 3)

    assert of("for item in items") == of("for  item,\n in 42 (items)")
    assert len(of("for item in items")) == 2
    assert not set(of("for item in items")) & set(of("items in item for"))
    assert of("two words") == []
