"""What nobody sees is dropped from fills, whoever made them."""

from __future__ import annotations

import threading

import pytest

from engine import Engine, Fill, FillRequest
from engine.contract import Backend, Progress, TokenSpan, Watch
from engine.plain import plain


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\tb\n  é = '😀 ❤️ 漢'\n", "a\tb\n  é = '😀 ❤️ 漢'\n"),
        ("👩\u200d👩\u200d👧 ❤️\u200d🔥", "👩\u200d👩\u200d👧 ❤️\u200d🔥"),
        ("\x1b[1;31mred\x1b[0m \x9b2Jclear", "red clear"),
        ("\x1b]0;title\x07a\x1b]52;c;cm0gLXJm\x1b\\b\x1b]8;;http://evil.example", "ab"),
        ("\x1bca\x08\x7f\x00b\rc\x0c\x85", "cabc"),
        ("if (a\u202e // \u2066start\u2069) \u061c\u200f", "if (a // start) "),
        ("pass\u200bword\u200d\u2060\ufeff\xad = \u3164\U000e0041\U000e0100", "password = "),
        ("a\u2028b\u2029c", "abc"),
    ],
)
def test_what_nobody_sees_is_dropped(text: str, seen: str) -> None:
    assert plain(text) == seen
    assert all(seen.startswith(plain(text[:end])) for end in range(len(text)))


class Telling(Backend):
    """Fills with a coloured line, token by token."""

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        pieces = (TokenSpan(2, 0.5), TokenSpan(6, 0.5, 0.9), TokenSpan(9, 0.5))
        if watch is not None:
            watch(Progress("a\x1b[3", pieces[:1]))
        numbers = {"passes": 1, "tokens": 3, "encoded": 0, "reused": 0, "encode_ms": 0.0, "decode_ms": 0.0}
        return Fill(text="a\x1b[31mb\u202ec\n", confidence=0.5, complete=False, pieces=pieces, **numbers)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_fill_is_plain_and_so_is_what_is_told_of_it(end: str) -> None:
    told: list[Progress] = []
    fill = Engine(Telling()).fill(FillRequest(prefix=f"x = 1{end}"), threading.Event(), told.append)
    assert fill.text == f"abc{end}"
    assert [piece.end for piece in fill.pieces] == [1, 1, 3]
    assert [(each.text, each.pieces[0].end) for each in told] == [("a", 1)]
