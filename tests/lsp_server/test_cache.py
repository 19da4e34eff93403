"""Answers without the model."""

from __future__ import annotations

import msgspec

from engine import Fill, FillRequest
from engine.contract import TokenSpan, confidence
from lsp_server.cache import CompletionCache


def a_fill(text: str) -> Fill:
    costs = {"passes": 2, "tokens": 3, "encoded": 4, "reused": 5, "encode_ms": 1.0, "decode_ms": 1.0}
    return Fill(text=text, confidence=0.5, complete=True, **costs)  # type: ignore[arg-type]


def a_request(
    prefix: str, suffix: str = "\n", max_lines: int = 1, deadline_ms: float = 60, path: str = "a.py"
) -> FillRequest:
    return FillRequest(prefix=prefix, suffix=suffix, max_lines=max_lines, deadline_ms=deadline_ms, path=path)


def found(cache: CompletionCache, request: FillRequest) -> str | None:
    fill = cache.find(request)
    return fill.text if fill else None


def a_guess(*tokens: tuple[str, float], complete: bool = True) -> Fill:
    """A fill of tokens and their probabilities; it ends with certainty."""
    ends = [len("".join(text for text, _ in tokens[: n + 1])) for n in range(len(tokens))]
    pieces = [TokenSpan(end, probability) for end, (_, probability) in zip(ends, tokens, strict=True)]
    pieces += [TokenSpan(ends[-1], 1.0)] * complete
    sure = confidence(piece.probability for piece in pieces)
    made = msgspec.structs.replace(a_fill("".join(text for text, _ in tokens)), confidence=sure)
    return msgspec.structs.replace(made, complete=complete, pieces=tuple(pieces))


def confident(prefix: str) -> FillRequest:
    return msgspec.structs.replace(a_request(prefix), min_confidence=0.5)


def a_cache(request: FillRequest, text: str, reach: int = 100) -> CompletionCache:
    cache = CompletionCache(reach)
    cache.add(request, a_fill(text))
    return cache


def test_of_several_fills_the_one_that_is_typed_is_meant() -> None:
    asked = a_request("x = ")
    for_another = msgspec.structs.replace(asked, others=("read()",))
    cache = a_cache(asked, "read()")
    assert found(cache, for_another) is None
    cache.add(for_another, a_fill("result"))
    assert (found(cache, asked), found(cache, for_another)) == ("read()", "result")
    assert found(cache, a_request("x = re")) == "ad()"
    assert found(cache, a_request("x = res")) == "ult"
    assert found(cache, msgspec.structs.replace(for_another, prefix="x = res")) is None


def test_the_same_request_is_answered() -> None:
    cache = a_cache(a_request("x = "), "hello")
    assert found(cache, a_request("x = ")) == "hello"
    assert found(cache, a_request("y = ")) is None
    assert found(cache, a_request("x = ", suffix=")\n")) is None
    assert found(cache, a_request("x = ", path="b.py")) is None


def test_typing_what_was_suggested_shortens_it() -> None:
    cache = a_cache(a_request("x = "), "hello")
    assert [found(cache, a_request("x = " + "hello"[:n])) for n in range(1, 5)] == ["ello", "llo", "lo", "o"]
    assert found(cache, a_request("x = j")) is None
    assert found(cache, a_request("x = hello")) is None  # all taken: what comes next is another question


def test_what_is_left_is_as_sure_as_its_own_tokens() -> None:
    cache = CompletionCache(100)
    cache.add(confident("x = "), a_guess(("doubtful", 0.04), ("(sure)", 0.81)))
    whole, left = cache.find(confident("x = ")), cache.find(confident("x = doubtful"))
    assert whole is not None
    assert left is not None
    assert abs(whole.confidence - 0.18) < 1e-9
    assert (left.text, left.confidence) == ("(sure)", 0.9)
    assert [piece.end for piece in left.pieces] == [6, 6]


def test_a_hidden_guess_is_asked_for_again_where_it_may_be_surer_now() -> None:
    cache = CompletionCache(100)
    cache.add(confident("x = "), a_guess(("doubtful", 0.04), ("(sure)", 0.81)))
    assert found(cache, confident("x = dou")) is None  # what follows is sure enough; is the word, by now?
    cache.add(confident("y = "), a_guess(("doubtful", 0.04), ("(doubt)", 0.04), ("ful", 0.9)))
    assert found(cache, confident("y = dou")) == "btful(doubt)ful"  # what follows is not
    assert found(cache, confident("y = doubtful")) == "(doubt)ful"  # nothing is new
    cache.add(confident("z = "), a_guess(("sure", 0.9), ("less", 0.2), complete=False))
    assert found(cache, confident("z = su")) == "reless"  # nobody would look further
    assert found(cache, confident("z = surel")) is None  # here the engine gave up
    cache.add(confident("a = "), a_guess(("doubtful", 0.2), ("(sure", 0.9), complete=False))
    assert found(cache, confident("a = doubtful")) is None  # and here the doubt is gone


def test_a_guess_that_is_shown_is_not_asked_for_again() -> None:
    cache = CompletionCache(100)
    cache.add(confident("x = "), a_guess(("certain", 0.9), ("ly", 0.5), complete=False))
    assert [found(cache, confident("x = " + typed)) for typed in ("cert", "certain", "certainl")] == [
        "ainly",
        "ly",
        "y",
    ]


def test_a_backspace_finds_the_longer_one_again() -> None:
    cache = a_cache(a_request("x = "), "hello")
    assert found(cache, a_request("x = he")) == "llo"
    assert found(cache, a_request("x = h")) == "ello"
    assert found(cache, a_request("x =")) is None


def test_that_nothing_comes_here_is_an_answer_too() -> None:
    assert found(a_cache(a_request("x = 1"), ""), a_request("x = 1")) == ""


def test_more_lines_time_doubt_or_care_is_another_question() -> None:
    cache = a_cache(a_request("x = "), "hello")
    assert found(cache, a_request("x = ", max_lines=8)) is None
    assert found(cache, a_request("x = ", deadline_ms=400)) is None
    hurried = msgspec.structs.replace(a_request("x = "), min_confidence=0.3, trust=0.9)
    assert found(a_cache(hurried, "hello"), a_request("x = ")) is None
    assert found(a_cache(a_request("x = "), "hello"), hurried) == "hello"
    several = a_cache(a_request("def f():\n", max_lines=8), "    return\n    x")
    assert (
        found(several, a_request("def f():\n    ret")) == "urn\n    x"
    )  # typed through on a line that is no longer new


def test_the_least_recently_used_goes() -> None:
    cache = CompletionCache(reach=100, size=2)
    for prefix in ("a = ", "b = "):
        cache.add(a_request(prefix), a_fill("x"))
    assert found(cache, a_request("a = ")) == "x"
    cache.add(a_request("c = "), a_fill("x"))
    assert found(cache, a_request("b = ")) is None
    assert found(cache, a_request("a = ")) == "x"


def test_only_what_the_model_sees_counts() -> None:
    cache = a_cache(a_request("import os\n" * 20 + "x = ", "\n" * 200), "hello", reach=100)
    assert found(cache, a_request("# changed\n" + "import os\n" * 20 + "x = he", "\n" * 100 + "# changed")) == "llo"
    assert found(cache, a_request("import os\n" * 19 + "import re\nx = ", "\n" * 200)) is None
    assert found(cache, a_request("import os\n" * 20 + "x = ", "\n" * 99 + "# changed")) is None


def test_a_shorter_text_is_another_than_the_end_of_a_longer_one() -> None:
    assert found(a_cache(a_request("x = "), "hello"), a_request("y = 1\nx = ")) is None
    assert found(a_cache(a_request("y = 1\nx = "), "hello"), a_request("x = ")) is None


def test_what_is_kept_is_bounded_however_large_the_text() -> None:
    cache = CompletionCache(reach=100, size=4)
    for number in range(50):
        cache.add(a_request("x" * 10_000 + str(number), "y" * 10_000), a_fill("z"))
    assert len(msgspec.json.encode(cache._entries)) < 4 * 1_000
