"""How good fills are at natural cursor places of packages that are never trained on.

Places and gaps are those of training, one line long: to the end of the line from after the indentation, before a
word, or anywhere. Reported are exact match of the line, tokens a draft that the causal role accepted, tokens a pass,
and how the confidence of a fill goes with its being right.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.contract import Backend, EngineError, FillRequest
from engine.corpus import Corpus
from engine.languages import LANGUAGES

BEFORE, AFTER = 32_768, 16_384  # characters, as an editor hands over


class Place(msgspec.Struct, frozen=True):
    request: FillRequest
    target: str


class Quality(msgspec.Struct):
    """Shares in [0, 1]; `by_confidence` maps the lower end of a tenth of confidence to (places, share exact)."""

    places: int
    exact: float
    exact_by_start: dict[str, float]
    tokens_a_pass: float
    median_decode_ms: float
    by_confidence: dict[str, tuple[int, float]]


def places(folder: Path, count: int, seed: int = 11, language: str = "python") -> Iterator[tuple[str, Place]]:
    """(kind of start, place) in files of one language, the same for the same corpus and seed.

    Lines of comment or without a word are none. Raises EngineError where there is no corpus, or none of the language.
    """
    try:
        corpus = Corpus(folder)
    except OSError as error:
        raise EngineError(
            f"no corpus in {folder} ({error.strerror}): run `python -m engine train corpus` first"
        ) from None
    numbers = [number for number, file in enumerate(corpus.files) if file.language == language]
    if not numbers:
        raise EngineError(f"no {language} in {folder}: choose one of {', '.join(sorted(corpus.languages))}")
    comments = LANGUAGES[language].comments
    dice = random.Random(seed)
    made = 0
    while made < count:
        number = numbers[dice.randrange(len(numbers))]
        lines = corpus.text(number).split("\n")
        line = dice.randrange(len(lines))
        kind = dice.choice(("line start", "inside"))
        if not re.search(r"\w", lines[line]) or lines[line].strip().startswith(comments):
            continue
        yield kind, place_at(lines, line, kind, corpus.files[number].path, dice)
        made += 1


def place_at(lines: list[str], line: int, kind: str, path: str, dice: random.Random) -> Place:
    """The gap from a line's beginning or from inside it to its end."""
    text = lines[line]
    indent = len(text) - len(text.lstrip())
    column = indent if kind == "line start" else dice.randint(indent + 1, max(indent + 1, len(text) - 1))
    prefix = "\n".join([*lines[:line], text[:column]])[-BEFORE:]
    suffix = "\n".join(["", *lines[line + 1 :]])[:AFTER]
    return Place(FillRequest(prefix=prefix, suffix=suffix, path=path, max_lines=1), text[column:])


def evaluate(filler: Backend, folder: Path, count: int, copies: bool = True, language: str = "python") -> Quality:
    """How a loaded model fills `count` places of a corpus folder. Raises EngineError as `places` does."""
    cancel, right = threading.Event(), []
    for kind, place in places(folder, count, language=language):
        fill = filler.fill(msgspec.structs.replace(place.request, copies=copies), cancel)
        right.append((kind, fill, fill.text == place.target))
    fills = [fill for _, fill, _ in right]
    return Quality(
        places=count,
        exact=share(hit for _, _, hit in right),
        exact_by_start={
            start: share(hit for kind, _, hit in right if kind == start) for start in ("line start", "inside")
        },
        tokens_a_pass=sum(fill.tokens + fill.complete for fill in fills) / sum(fill.passes for fill in fills),
        median_decode_ms=sorted(fill.encode_ms + fill.decode_ms for fill in fills)[len(fills) // 2],
        by_confidence=_calibration([(fill.confidence, hit) for _, fill, hit in right]),
    )


def _calibration(judged: list[tuple[float, bool]]) -> dict[str, tuple[int, float]]:
    tenths: dict[int, list[bool]] = {}
    for confidence, hit in judged:
        tenths.setdefault(min(9, int(confidence * 10)), []).append(hit)
    return {f"{tenth / 10:.1f}": (len(hits), share(hits)) for tenth, hits in sorted(tenths.items())}


def share(hits: object) -> float:
    values = [bool(hit) for hit in hits]  # type: ignore[attr-defined]
    return sum(values) / len(values) if values else 0.0


def print_table(quality: Quality) -> None:
    print(f"{quality.places} places, {quality.exact:.1%} exact", end="")
    print("".join(f", {kind} {value:.1%}" for kind, value in quality.exact_by_start.items()))
    print(f"{quality.tokens_a_pass:.2f} tokens a pass")
    print(f"median {quality.median_decode_ms:.1f} ms a cold request")
    print("confidence  places  exact")
    for tenth, (count, exact) in quality.by_confidence.items():
        print(f"   {tenth}+    {count:6d}  {exact:6.1%}")
