"""Answers without the model."""

from __future__ import annotations

from engine import Fill, FillRequest
from lsp_server.cache import Cache


def a_fill(text: str) -> Fill:
    costs = {"passes": 2, "tokens": 3, "encoded": 4, "reused": 5, "encode_ms": 1.0, "decode_ms": 1.0}
    return Fill(text=text, confidence=0.5, complete=True, **costs)  # type: ignore[arg-type]


def a_request(prefix: str, suffix: str = "\n", max_lines: int = 1, deadline_ms: float = 60) -> FillRequest:
    return FillRequest(prefix=prefix, suffix=suffix, max_lines=max_lines, deadline_ms=deadline_ms)


def found(cache: Cache, request: FillRequest, uri: str = "a") -> str | None:
    fill = cache.find(uri, request)
    return fill.text if fill else None


def a_cache(request: FillRequest, text: str) -> Cache:
    cache = Cache()
    cache.add("a", request, a_fill(text))
    return cache


def test_the_same_request_is_answered() -> None:
    cache = a_cache(a_request("x = "), "hello")
    assert found(cache, a_request("x = ")) == "hello"
    assert found(cache, a_request("y = ")) is None
    assert found(cache, a_request("x = ", suffix=")\n")) is None
    assert found(cache, a_request("x = "), uri="b") is None


def test_typing_what_was_suggested_shortens_it() -> None:
    cache = a_cache(a_request("x = "), "hello")
    assert [found(cache, a_request("x = " + "hello"[:n])) for n in range(1, 5)] == ["ello", "llo", "lo", "o"]
    assert found(cache, a_request("x = j")) is None
    assert found(cache, a_request("x = hello")) is None  # all taken: what comes next is another question


def test_a_backspace_finds_the_longer_one_again() -> None:
    cache = a_cache(a_request("x = "), "hello")
    assert found(cache, a_request("x = he")) == "llo"
    assert found(cache, a_request("x = h")) == "ello"
    assert found(cache, a_request("x =")) is None


def test_that_nothing_comes_here_is_an_answer_too() -> None:
    assert found(a_cache(a_request("x = 1"), ""), a_request("x = 1")) == ""


def test_more_lines_or_time_is_another_question() -> None:
    cache = a_cache(a_request("x = "), "hello")
    assert found(cache, a_request("x = ", max_lines=8)) is None
    assert found(cache, a_request("x = ", deadline_ms=400)) is None
    several = a_cache(a_request("def f():\n", max_lines=8), "    return\n    x")
    assert (
        found(several, a_request("def f():\n    ret")) == "urn\n    x"
    )  # typed through on a line that is no longer new


def test_the_least_recently_used_goes() -> None:
    cache = Cache(size=2)
    for prefix in ("a = ", "b = "):
        cache.add("a", a_request(prefix), a_fill("x"))
    assert found(cache, a_request("a = ")) == "x"
    cache.add("a", a_request("c = "), a_fill("x"))
    assert found(cache, a_request("b = ")) is None
    assert found(cache, a_request("a = ")) == "x"
