"""Places of reserved packages that are written again: a file cut open at a cursor, or a package with lines taken out.

A cursor stands where those of training do: after the indentation of a line, or anywhere within it. What is typed of a
package is a line; below a line that opens a block it is the block, whose lines nobody has written before. The files of
a package are the workspace, on disk and without what is to be typed: an index must not find it.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from engine.contract import EngineError, FillRequest
from engine.corpus import Corpus, beside
from engine.languages import LANGUAGES, language_of

BEFORE, AFTER = 32_768, 16_384  # characters of a request, as an editor hands over
STARTS = ("line start", "inside")  # of a cursor
OPENERS = (":", "{", "(", "[")
BLOCK = 6  # lines that are typed of a block
SHORTEST = 5  # characters of a line that is typed
APART = 40  # lines between two places of a file
LARGEST = 200_000  # characters of a file


class Place(msgspec.Struct, frozen=True):
    """Where `todo` stands in a file, and is to be written again."""

    path: str
    language: str
    before: str
    todo: str
    after: str

    @property
    def start(self) -> str:
        """One of STARTS."""
        return STARTS[bool(self.before[self.before.rfind("\n") + 1 :].strip())]

    @property
    def request(self) -> FillRequest:
        """For one line."""
        return FillRequest(prefix=self.before[-BEFORE:], suffix=self.after[:AFTER], path=self.path, max_lines=1)


class EvaluationWorkspace(msgspec.Struct):
    """A package: its files by path without what is typed, and the places."""

    package: str
    files: dict[str, str]
    places: list[Place]


def write(files: Mapping[str, str], folder: Path) -> None:
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")


def read(folder: Path) -> Corpus:
    """Raises EngineError where there is no corpus."""
    try:
        return Corpus(folder)
    except OSError as error:
        raise EngineError(
            f"no corpus in {folder} ({error.strerror}): run `python -m engine train corpus` first"
        ) from None


def cursors(folder: Path, count: int, seed: int = 11, language: str = "python") -> Iterator[Place]:
    """Cursors in files of one language, the same for the same corpus and seed; `todo` is the rest of the line.

    Lines of comment or without a word have none. Raises EngineError where there is no corpus, or none of the language.
    """
    corpus = read(folder)
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
        start = dice.choice(STARTS)
        if not re.search(r"\w", lines[line]) or lines[line].strip().startswith(comments):
            continue
        yield cursor_at(lines, line, start, corpus.files[number].path, dice)
        made += 1


def cursor_at(lines: list[str], line: int, start: str, path: str, dice: random.Random) -> Place:
    """A cursor after a line's indentation, or anywhere inside it."""
    indent, text = _indent(lines[line]), lines[line]
    column = indent if start == STARTS[0] else dice.randint(indent + 1, max(indent + 1, len(text) - 1))
    return _cut(path, lines, range(line, line + 1), column)


def workspaces(
    folder: Path, lines: int, seed: int, packages: tuple[str, ...] = (), language: str = "python"
) -> list[EvaluationWorkspace]:
    """Packages of one language with places of about `lines` lines in all, as many of each package as of another; the
    same for the same corpus and seed. Only those named, if any are. Raises EngineError where there is no corpus or no
    such package.
    """
    corpus = read(folder)
    numbers = defaultdict(list)
    for number, file in enumerate(corpus.files):
        if file.language == language and language_of(file.path) and file.bytes <= LARGEST:
            numbers[file.package].append(number)
    unknown = set(packages) - set(numbers)
    if unknown:
        raise EngineError(
            f"no {language} package {', '.join(sorted(unknown))} in {folder}: there are {', '.join(sorted(numbers))}"
        )
    chosen = sorted(packages or numbers)
    others = beside(folder.parent, chosen)
    made = []
    for index, package in enumerate(chosen):
        share = lines * (index + 1) // len(chosen) - lines * index // len(chosen)
        texts = {corpus.files[number].path: corpus.text(number) for number in numbers[package]}
        work = _workspace(package, texts, share, random.Random(f"{seed} {package}"))
        work.files |= others.get(package, {})
        made.append(work)
    return [workspace for workspace in made if workspace.places]


def _workspace(package: str, texts: dict[str, str], lines: int, dice: random.Random) -> EvaluationWorkspace:
    """Files are drawn by their length, lines within them evenly."""
    files = {path: text.split("\n") for path, text in texts.items()}
    taken: dict[str, list[range]] = defaultdict(list)
    places: list[Place] = []
    weights = [len(lines) for lines in files.values()]
    for _ in range(50 * lines):
        if lines <= 0:
            break
        [path] = dice.choices(list(files), weights)
        text = files[path]
        first = dice.randrange(len(text))
        if len(text[first].strip()) < SHORTEST or any(abs(first - span.start) < APART for span in taken[path]):
            continue
        span = range(first, min(_end(text, first), first + lines))
        taken[path].append(span)
        places.append(_cut(path, text, span, _indent(text[first])))
        lines -= len(span)
    left = {path: _without(text, taken[path]) for path, text in files.items()}
    return EvaluationWorkspace(package, left, [_trimmed(place) for place in places])


def _end(lines: list[str], first: int) -> int:
    """The line after what is typed from a line on."""
    above = next((line for line in reversed(lines[:first]) if line.strip()), "")
    if not above.rstrip().endswith(OPENERS) or _indent(lines[first]) <= _indent(above):
        return first + 1
    end = first + 1
    while end < len(lines) and end - first < BLOCK and lines[end].strip() and _indent(lines[end]) > _indent(above):
        end += 1
    return end


def _cut(path: str, lines: list[str], span: range, column: int) -> Place:
    """The lines of the span from a column of the first on."""
    written = "\n".join(lines[span.start : span.stop])
    return Place(
        path=path,
        language=language_of(path),
        before="\n".join([*lines[: span.start], written[:column]]),
        todo=written[column:],
        after="\n".join(["", *lines[span.stop :]]),
    )


def _trimmed(place: Place) -> Place:
    """Nobody types blanks at a line's end."""
    return msgspec.structs.replace(place, todo="\n".join(map(str.rstrip, place.todo.split("\n"))))


def _without(lines: list[str], spans: list[range]) -> str:
    return "\n".join(line for number, line in enumerate(lines) if not any(number in span for span in spans))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
