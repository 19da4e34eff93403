"""The buffer against a plain string: random edits, all three encodings, every kind of line end and of character."""

from __future__ import annotations

import re
import time

import pytest

from lsp_server.buffers import BEGINNING, Buffer, Point, split_lines

ENCODINGS = ("utf-8", "utf-16", "utf-32")
PIECES = ("a", "bc", "é", "€", "😀", "\n", "\r", "\r\n", "\f", "\v", "\u2028", "\x85", "\0", "")


def units(character: str, encoding: str) -> int:
    codec = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}[encoding]
    return len(character.encode(codec)) // {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]


def reference_lines(text: str) -> list[str]:
    return re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)


def reference_offset(text: str, line: int, character: int, encoding: str) -> int:
    """The offset of a position, counted code point by code point."""
    lines = reference_lines(text)
    if line >= len(lines):
        return len(text)
    offset, end = len("".join(lines[:line])), len("".join(lines[:line])) + len(lines[line].rstrip("\r\n"))
    while offset < end and character >= units(text[offset], encoding):
        character -= units(text[offset], encoding)
        offset += 1
    return offset


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_place_and_its_character_are_inverse(encoding: str) -> None:
    buffer = Buffer("aé€😀\f\u2028z\r\nend", encoding)
    for column in range(len("aé€😀\f\u2028z") + 1):
        character = buffer.character(Point(0, column))
        assert buffer.point(0, character) == Point(0, column)
    assert buffer.character(Point(0, 4)) == {"utf-8": 10, "utf-16": 5, "utf-32": 4}[encoding]


def test_a_position_inside_a_character_is_the_place_before_it() -> None:
    assert Buffer("a😀b", "utf-16").point(0, 2) == Point(0, 1)
    assert Buffer("a😀b", "utf-8").point(0, 4) == Point(0, 1)


def test_positions_past_the_end_are_clamped() -> None:
    buffer = Buffer("one\r\ntwo")
    assert buffer.point(0, 99) == Point(0, 3)
    assert buffer.point(99, 0) == Point(1, 3)
    assert Buffer("").point(3, 3) == Point(0, 0)


def test_lone_surrogates_are_replaced_by_a_character_of_their_length() -> None:
    buffer = Buffer("a\ud83db", "utf-16")
    assert buffer.lines == ["a\ufffdb"]
    assert buffer.point(0, 2) == Point(0, 2)


def test_line_ends() -> None:
    assert split_lines("a\r\nb\rc\nd\fe\u2028f") == ["a\r\n", "b\r", "c\n", "d\fe\u2028f"]
    assert Buffer("a\r\nb").line_end == "\r\n"
    assert Buffer("a\nb\r\n").line_end == "\n"
    assert Buffer("a").line_end == "\n"


def test_text_around_a_place_has_unix_line_ends() -> None:
    buffer = Buffer("one\r\ntwo\r\nthree\r\n")
    assert buffer.before(Point(1, 2), 1000) == "one\ntw"
    assert buffer.after(Point(1, 2), 1000) == "o\nthree\n"


def test_text_around_a_place_is_bounded_and_seldom_starts_elsewhere_while_one_types() -> None:
    buffer = Buffer("".join(f"line number {n}\n" for n in range(20_000)))
    place = Point(15_000, 4)
    before = buffer.before(place, 32_768)
    assert 32_768 <= len(before) <= 3 * 32_768
    assert before.endswith("\nline number 14999\nline")
    assert len(buffer.after(place, 16_384)) == 16_384
    starts = set()
    for _ in range(200):
        buffer.edit(place, place, "x")
        place = Point(place.line, place.column + 1)
        starts.add(buffer.before(place, 32_768).partition("\n")[0])
    assert len(starts) <= 2


def test_one_endless_line_is_bounded_too() -> None:
    buffer = Buffer("x" * 5_000_000)
    assert len(buffer.before(Point(0, 4_000_000), 1000)) == 3000
    assert len(buffer.after(Point(0, 4_000_000), 1000)) == 1000


def test_a_key_in_a_large_file_costs_far_less_than_copying_it() -> None:
    """Compared with joining the text once, in the same run, so that the machine's speed does not matter."""
    buffer = Buffer("".join(f"    value_{n} = compute(é, {n})  # some text\n" for n in range(20_000)))
    keys = 20

    def typing() -> None:
        for n in range(keys):
            place = buffer.point(10_000, n)
            buffer.edit(place, place, "x")
            buffer.before(place, 32_768)
            buffer.after(place, 16_384)

    def copying() -> None:
        for _ in range(keys):
            split_lines("".join(buffer.lines))

    assert fastest(typing) * 5 < fastest(copying)


def fastest(function: object) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        function()  # type: ignore[operator]
        times.append(time.perf_counter() - started)
    return min(times)


def test_the_beginning_is_that_of_the_text_as_it_is() -> None:
    buffer = Buffer("one\r\ntwo\r\n")
    assert buffer.beginning is buffer.beginning == "one\ntwo\n"
    buffer.edit(buffer.point(0, 0), buffer.point(0, 3), "three")
    assert buffer.beginning == "three\ntwo\n"
    assert len([*buffer.replace(["one\n", "two"])]) == 3
    assert buffer.beginning == "one\ntwo"
    assert [*buffer.replace(["x" * 2 * BEGINNING])]
    assert buffer.beginning == "x" * BEGINNING
