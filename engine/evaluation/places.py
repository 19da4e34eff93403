"""Lines of reserved packages that are typed again, each in its file with what stands around it.

What is typed at a place is a line; below a line that opens a block it is the block, whose lines nobody has written
before. The files of a package are the workspace, on disk and without what is to be typed: an index must not find it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import msgspec

from engine.contract import EngineError
from engine.corpus import Corpus, beside
from engine.languages import language_of

OPENERS = (":", "{", "(", "[")
BLOCK = 6  # lines that are typed of a block
SHORTEST = 5  # characters of a line that is typed
APART = 40  # lines between two places of a file
LARGEST = 200_000  # characters of a file


class Place(msgspec.Struct, frozen=True):
    """Where a text is typed again: `before` ends with the indentation of its first line."""

    path: str
    language: str
    before: str
    todo: str
    after: str

    @property
    def opens(self) -> bool:
        """Whether a block begins here."""
        return self.before.rstrip().endswith(OPENERS)


class Workspace(msgspec.Struct):
    """A package: its files by path without what is typed, and the places."""

    package: str
    files: dict[str, str]
    places: list[Place]

    def write(self, folder: Path) -> None:
        for path, text in self.files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


def workspaces(
    folder: Path, lines: int, seed: int, packages: tuple[str, ...] = (), language: str = "python"
) -> list[Workspace]:
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


def read(folder: Path) -> Corpus:
    try:
        return Corpus(folder)
    except OSError as error:
        raise EngineError(
            f"no corpus in {folder} ({error.strerror}): run `python -m engine train corpus` first"
        ) from None


def _workspace(package: str, texts: dict[str, str], lines: int, dice: random.Random) -> Workspace:
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
        places.append(_place(path, text, span))
        lines -= len(span)
    left = {path: _without(text, taken[path]) for path, text in files.items()}
    return Workspace(package, left, places)


def _end(lines: list[str], first: int) -> int:
    """The line after what is typed from a line on."""
    above = next((line for line in reversed(lines[:first]) if line.strip()), "")
    if not above.rstrip().endswith(OPENERS) or _indent(lines[first]) <= _indent(above):
        return first + 1
    end = first + 1
    while end < len(lines) and end - first < BLOCK and lines[end].strip() and _indent(lines[end]) > _indent(above):
        end += 1
    return end


def _place(path: str, lines: list[str], span: range) -> Place:
    indent = _indent(lines[span.start])
    typed = "\n".join(line.rstrip() for line in lines[span.start : span.stop])
    return Place(
        path=path,
        language=language_of(path),
        before="\n".join([*lines[: span.start], typed[:indent]]),
        todo=typed[indent:],
        after="\n".join(["", *lines[span.stop :]]),
    )


def _without(lines: list[str], spans: list[range]) -> str:
    return "\n".join(line for number, line in enumerate(lines) if not any(number in span for span in spans))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
