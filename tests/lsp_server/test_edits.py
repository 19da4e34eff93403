"""What was just changed is remembered, and made again at the next place."""

from __future__ import annotations

from pathlib import Path

import pytest
from lsp_client import INVOKED, REAL, ROOT, LspClient

from engine.contract import Edit
from lsp_server.edits import GONE, LONGEST, MOST, EditHistory, LineChange, edit


@pytest.mark.parametrize(
    ("old", "new", "made"),
    [
        ("foo(a)", "foo(a, b)", Edit("foo(a", ", b", ")")),
        ("foo(a)", "bar(a)", Edit("", "bar", "(a)")),
        ("aa", "aaa", Edit("aa", "a", "")),
        ("one two", "one", Edit("one", "", "")),
    ],
)
def test_what_was_put_in(old: str, new: str, made: Edit) -> None:
    assert edit(LineChange(old, new)) == made


def test_keys_in_a_line_are_one_change() -> None:
    edits = EditHistory()
    for typed in ("foo(a,)", "foo(a, )", "foo(a, b)"):
        edits.note(3, "foo(a)" if typed == "foo(a,)" else "?", typed)
    edits.note(5, "x = 1", "x = 12")
    assert edits.made() == [Edit("x = 1", "2", ""), Edit("foo(a", ", b", ")")]
    assert edits.made(but="x = 12") == [Edit("foo(a", ", b", ")")]
    edits.move(2, 2, 1)
    edits.note(5, "x = 12", "x = 123")
    assert len(edits.made()) == 3
    assert [each.line for each in edits.ours()] == [4, 6, 5]
    edits.move(3, 5, -2)
    assert [each.line for each in edits.ours()] == [GONE, 4, GONE]
    assert edits.latest is None


def test_new_lines_and_endless_ones_are_no_changes_and_the_oldest_go() -> None:
    edits = EditHistory()
    for typed in ("    x", "    xy"):
        edits.note(1, "    ", typed)
    edits.note(2, "x" * (LONGEST + 1), "x")
    edits.note(3, "x = 1", "x = ")
    assert edits.made() == []
    for line in range(10, 10 + 2 * MOST):
        edits.note(line, "a", f"a{line}")
    assert len(edits.made()) == MOST


CALLS = 'size = shape_of(width)\nprint("once more")\narea = shape_of(width)\n'


async def test_a_change_is_made_again_at_the_next_place(tmp_path: Path) -> None:
    async with LspClient.start(REAL, cwd=ROOT) as client:
        options = {"status": True, "deadlineInvokedMs": 60_000}
        await client.initialize(rootUri=tmp_path.as_uri(), initializationOptions=options)
        await client.wait_for("inpaint/status", '"state": "ready"')
        await client.wait_for("inpaint/status", '"state": "idle"')  # the model is loaded
        uri = (tmp_path / "calls.py").as_uri()
        client.open(uri, CALLS)
        client.insert(uri, 2, 21, ", zo")
        before = await client.complete(uri, 2, 25, INVOKED)
        for number, key in enumerate(", zoom=7"):
            client.insert(uri, 0, 21 + number, key)
        [item, *_] = await client.complete(uri, 2, 25, INVOKED)
        assert item["insertText"] == "om=7"
        assert [each["insertText"] for each in before] != ["om=7"]
        assert await client.leave() == 0
