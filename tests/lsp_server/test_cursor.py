"""From a place in a buffer to the gap, and whether and how much to ask."""

from __future__ import annotations

import pytest

from lsp_server.buffers import Buffer
from lsp_server.cursor import CursorContext, context_at, fill_request
from lsp_server.settings import Settings


def gap(marked: str) -> CursorContext:
    """The gap at the `|` of a text."""
    prefix, _, suffix = marked.partition("|")
    return CursorContext(prefix, suffix)


def max_lines(marked: str, invoked: bool = False, **settings: object) -> int | None:
    request = fill_request(gap(marked), "a.py", (), Settings(max_lines=8, **settings), invoked)  # type: ignore[arg-type]
    return request.max_lines if request else None


def test_parts_of_a_gap() -> None:
    parts = gap("a = 1\nfoo(|)  # end\nb = 2\n")
    assert (parts.head, parts.rest, parts.following) == ("foo(", ")  # end", "b = 2\n")


def test_gap_of_a_crlf_buffer_has_unix_line_ends() -> None:
    buffer = Buffer("a = 1\r\nfoo()\r\nb = 2\r\n")
    assert context_at(buffer, buffer.point(1, 4)) == CursorContext("a = 1\nfoo(", ")\nb = 2\n")


def test_selected_text_stands_in_the_place_of_its_range() -> None:
    buffer = Buffer("import os\nos.pa  # end\n")
    selected = context_at(buffer, buffer.point(1, 3), buffer.point(1, 5), "path")
    assert selected == CursorContext("import os\nos.path", "  # end\n")


@pytest.mark.parametrize("marked", ["def f|oo():\n", "|", "  \n|\n", "x = \0\0\1|\n"])
def test_automatic_requests_that_are_not_worth_it(marked: str) -> None:
    assert max_lines(marked) is None
    assert max_lines(marked, invoked=True) is not None


@pytest.mark.parametrize("marked", ["x = |", "foo(|)", "x = foo|.bar", "x = |é", "|\nx = 1"])
def test_automatic_requests_for_one_line(marked: str) -> None:
    assert max_lines(marked) == 1


@pytest.mark.parametrize("marked", ["def f():\n    |\nx = 1\n", "x = {  # all of them\n    |\n}", "foo(\n|"])
def test_a_new_block_asks_for_several_lines(marked: str) -> None:
    assert max_lines(marked) == 8
    assert max_lines(marked, multiline="never") == 1


@pytest.mark.parametrize("marked", ["x = 1\n|", "def f():\n\n    |", "def f():\n    x|", "def f():\n    |  # why"])
def test_no_new_block_asks_for_one_line(marked: str) -> None:
    assert max_lines(marked) == 1


def test_explicit_requests_ask_for_several_lines_at_the_end_of_a_line_only() -> None:
    assert max_lines("x = |\n", invoked=True) == 8
    assert max_lines("foo(|)\n", invoked=True) == 1
    assert max_lines("x = |\n", invoked=True, multiline="never") == 1


def test_multiline_always() -> None:
    assert max_lines("x = |\n", multiline="always") == 8
    assert max_lines("foo(|)\n", multiline="always") == 1


def test_deadlines_and_steps_come_from_the_settings() -> None:
    settings = Settings(deadline_automatic_ms=10, deadline_invoked_ms=20, steps=3)
    automatic = fill_request(gap("x = |"), "pkg/a.py", ("y = 1",), settings, invoked=False)
    invoked = fill_request(gap("x = |"), "pkg/a.py", ("y = 1",), settings, invoked=True)
    assert automatic and invoked
    assert (automatic.deadline_ms, invoked.deadline_ms, automatic.steps) == (10, 20, 3)
    assert (automatic.prefix, automatic.suffix, automatic.path) == ("x = ", "", "pkg/a.py")
