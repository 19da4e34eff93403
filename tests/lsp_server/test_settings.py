"""Options: what is taken over, what is named as wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePath

import msgspec
import pytest

from lsp_server.settings import Json, Settings, apply_options

EDITORS = Path(__file__).parents[2] / "editors" / "README.md"


def test_options_are_laid_over_the_settings() -> None:
    settings, warnings = apply_options(Settings(max_lines=3), {"minConfidence": 0.5, "deadlineInvokedMs": 100})
    assert (settings.max_lines, settings.min_confidence, settings.deadline_invoked_ms) == (3, 0.5, 100)
    assert warnings == []


def test_options_may_stand_under_the_name_of_the_section() -> None:
    assert apply_options(Settings(), {"inpaint": {"enabled": False}})[0].enabled is False


@pytest.mark.parametrize("nothing", [None, {}, [], {"inpaint": None}, {"inpaint": {}}])
def test_nothing_changes_nothing(nothing: Json) -> None:
    settings = Settings(steps=4)
    assert apply_options(settings, nothing) == (settings, [])


@pytest.mark.parametrize(
    "name, value",
    [
        ("maxLine", 3),
        ("max_lines", 3),
        ("enabled", "yes"),
        ("enabled", 1),
        ("maxLines", 0),
        ("maxLines", 1.5),
        ("minConfidence", 1.5),
        ("deadlineAutomaticMs", -1),
        ("deadlineAutomaticMs", None),
        ("multiline", "sometimes"),
        ("disabledLanguages", "python"),
        ("disabledGlobs", [1]),
        ("disabledGlobs", ["docs/*", "\\"]),
        ("model", {}),
        ("device", "gpu"),
        ("device", 0),
        ("status", "yes"),
    ],
)
def test_a_wrong_option_is_named_and_the_rest_kept(name: str, value: Json) -> None:
    settings, warnings = apply_options(Settings(), {name: value, "steps": 5})
    assert settings == Settings(steps=5)
    assert len(warnings) == 1
    assert f'"{name}"' in warnings[0]


@pytest.mark.parametrize("options", ["on", 3, [1], {"inpaint": True}])
def test_options_that_are_no_object_are_ignored(options: Json) -> None:
    settings, warnings = apply_options(Settings(), options)
    assert settings == Settings()
    assert len(warnings) == 1


def test_disabled() -> None:
    assert not Settings(enabled=False).allow(PurePath("a.py"), "python")
    assert not Settings(disabled_languages=("markdown",)).allow(PurePath("a.md"), "markdown")
    assert not Settings(disabled_globs=("*/vendored/*",)).allow(PurePath("/x/vendored/a.py"), "python")


def test_the_documented_options_are_the_ones_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", EDITORS.read_text("utf-8"), re.MULTILINE)
    defaults = msgspec.json.decode(msgspec.json.encode(Settings()))
    assert [name for name, _ in rows] == list(defaults)
    assert all(json.loads(value) == defaults[name] for name, value in rows if value)


def test_vs_code_sends_all_options() -> None:
    source = (EDITORS.parent / "vscode" / "src" / "settings.ts").read_text("utf-8")
    sent = re.search(r"SERVER_OPTIONS = \[(.*?)\]", source, re.DOTALL)
    assert sent
    assert [*re.findall(r'"(\w+)"', sent[1]), "status"] == list(msgspec.json.decode(msgspec.json.encode(Settings())))
