"""Makes a model's gate: python -m lsp_server.learning CORPUS --model MODEL, with the validation part of a corpus of
packages that neither the model was trained on nor results are reported of (engine/training/gate.tsv lists ours).

Lines of them are typed key by key, in each language that the model knows, and at every key all beginnings of the fill
are noted, with their features and whether they are right. A third of the places each is typed in a file alone, with the
index of its package, and with that and other open files, as the server has them. Of the lines, Python has as many as
the other languages together.

A policy is then played on these notes: what is shown by its gate and right is accepted, and what the keys would
have been is skipped. The trees are fitted twice, the second time to the keys that the first ones leave. Wherever a
policy is played, its trees have not seen the package (cross-validation), and the prices of the dial are the lowest that
then keep the precision of its settings. A card beside the gate says what it was learned of, and how good it is on
packages that it has not seen.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

import lsp_server
from engine import Engine, EngineError
from engine.evaluation.places import EvaluationWorkspace, Place, workspaces, write
from engine.evaluation.typist import is_right, next_key
from engine.evaluation.workspace import opened_with
from engine.languages import LANGUAGES
from engine.retrieval.build import IndexOrder, build
from engine.retrieval.index import Index
from lsp_server.cache import CompletionCache
from lsp_server.cursor import AFTER, BEFORE, CursorContext, fill_request
from lsp_server.gate import BoostedTrees, Gate, cut_points
from lsp_server.learning.boosting import fit
from lsp_server.learning.card import card
from lsp_server.learning.policy import KeyNote, Odds, Typed, odds_of, play
from lsp_server.postprocess import postprocess
from lsp_server.settings import Dial, Settings
from lsp_server.status import knows

OUT = Path(lsp_server.__file__).with_name("gates")
LIMITS: dict[Dial, tuple[float, float]] = {  # the least precision, and the most wrong suggestions a line
    "quiet": (0.68, 0.3),
    "balanced": (0.52, 0.5),
    "eager": (0.4, 1.3),
}
PRICES = np.geomspace(2, 100, 96)
FOLDS = 4
SETTINGS = Settings(deadline_automatic_ms=60_000)


class Known(NamedTuple):
    """What a server knows beside the file at hand: related texts, the paths of all that is open, indexes."""

    related: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()


class TypingTask(NamedTuple):
    """A place that is to be typed, and what is known there."""

    package: str
    place: Place
    known: Known


def tasks(corpus: Sequence[Path], model: str, lines: int, seed: int, folder: Path) -> list[TypingTask]:
    """Places of about so many lines of each corpus, mixed; packages and their indexes are written into a folder.

    Raises EngineError where there is no corpus.
    """
    made: list[TypingTask] = []
    for number, language in enumerate(language for language in LANGUAGES if knows(model, language)):
        others = max(1, sum(knows(model, each) for each in LANGUAGES) - 1)
        share = lines // (2 * others) if number else lines - lines // 2
        for one in corpus:
            for work in workspaces(one / "validation", share, seed, language=language):
                root, store = (folder / kind / work.package for kind in ("files", "indexes"))
                write(work.files, root)
                build(IndexOrder([str(root)], str(store)))
                made += situations(work, root, Index.open(store), turn=len(made))
    random.Random(seed).shuffle(made)
    return made


def situations(work: EvaluationWorkspace, root: Path, index: Index, turn: int) -> Iterator[TypingTask]:
    """The file alone, with the index, with the index and open files, by turns."""
    for number, place in enumerate(work.places, turn):
        files, texts = opened_with(root / place.path)
        known = (Known(), Known((), files[:1], (index,)), Known(texts, files, (index,)))[number % 3]
        yield TypingTask(work.package, place, known)


def note(engine: Engine, task: TypingTask) -> Typed:
    """All that could be shown while a place is typed."""
    place, known = task.place, task.known
    cache, before, todo, keys = CompletionCache(engine.reach), place.before, place.todo, list[KeyNote]()
    while todo:
        gap = CursorContext(before[-BEFORE:], place.after[:AFTER], place.language)
        request = fill_request(gap, place.path, known.related, SETTINGS, False, known.files, known.indexes)
        if request is not None:
            fill = cache.find(request)
            if fill is None:
                fill = engine.fill(request, threading.Event())
                cache.add(request, fill)
            text = postprocess(fill, gap)
            made = list(cut_points(fill, text, gap)) if text else []
            if made:
                texts = [text[: cut.end] for cut in made]
                features = np.array([cut.features for cut in made])
                right = np.array([is_right(each, todo) for each in texts])
                keys.append(KeyNote(len(place.todo) - len(todo), texts, features, right))
        key = next_key(todo)
        before, todo = before + key, todo[len(key) :]
    return Typed(task.package, place, keys)


def noted(engine: Engine, todo: Sequence[TypingTask], minutes: float) -> list[Typed]:
    """Of as many places as the time is enough for."""
    from tqdm import tqdm

    until, notes = time.monotonic() + 60 * minutes, list[Typed]()
    for task in tqdm(todo, unit="place", disable=None):
        notes.append(note(engine, task))
        if time.monotonic() > until:
            break
    return notes


def learned(notes: Sequence[Typed], origin: BoostedTrees | None = None) -> BoostedTrees:
    """To the keys that are left by trees that have not seen the package: those that have would accept more of it than
    they do of a user's, and what they left would be harder.
    """
    seen, odds = held_out(notes, lambda part: fit([key for typed in part for key in typed.keys], origin))
    return fit(play(seen, odds, 10.0).visited, origin)


def held_out(
    notes: Sequence[Typed], learn: Callable[[Sequence[Typed]], BoostedTrees]
) -> tuple[list[Typed], list[list[Odds]]]:
    """All places, and the log-odds of their keys by what was learned of other packages (cross-validation)."""
    packages = sorted({typed.package for typed in notes})
    ordered: list[Typed] = []
    odds: list[list[Odds]] = []
    for fold in range(min(FOLDS, len(packages))):
        held = set(packages[fold::FOLDS])
        part = [typed for typed in notes if typed.package in held]
        gate = Gate(learn([typed for typed in notes if typed.package not in held]))
        ordered, odds = ordered + part, odds + odds_of(part, gate)
    return ordered, odds


def by_language(places: Iterable[tuple[Typed, list[Odds]]]) -> dict[str, list[tuple[Typed, list[Odds]]]]:
    parts = defaultdict[str, list[tuple[Typed, list[Odds]]]](list)
    for typed, odds in places:
        parts[typed.place.language].append((typed, odds))
    return parts


def priced(notes: Sequence[Typed], odds: Sequence[Sequence[Odds]]) -> dict[Dial, float]:
    """The lowest price that keeps within a setting's limits; where none does, that keeps within that of wrong ones."""
    prices: dict[Dial, float] = {}
    curve = []
    for price in map(float, PRICES):
        played = play(notes, odds, price)
        curve.append((price, played))
        print(
            f"price {price:6.1f}: ratio {played.ratio:.3f}, precision {played.precision:.2f}, {played.wrong:.2f} wrong"
        )
    for dial, (precision, wrong) in LIMITS.items():
        seldom = [(price, played) for price, played in curve if played.wrong <= wrong]
        right = [(price, played) for price, played in seldom if played.precision >= precision]
        price, _ = (right or seldom or curve[-1:])[0]
        prices[dial] = round(price, 1)
    return prices


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lsp_server.learning", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "corpus", type=Path, nargs="+", help="folders that `train corpus` wrote; validation parts are used"
    )
    parser.add_argument("--model", default="small")
    shipped = sorted(gate.stem for gate in OUT.glob("*.json"))
    parser.add_argument("--origin", choices=shipped, help="whose trees its own go on from (default: none's)")
    parser.add_argument("--lines", type=int, default=2000, help="lines that are typed of each corpus (default: 2000)")
    parser.add_argument(
        "--minutes", type=float, default=25, help="after which no further line is typed (default: 25), all mixed"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the file to write, and its card beside it (default: the shipped one)")
    arguments = parser.parse_args()
    try:
        learn(arguments)
    except EngineError as error:
        sys.exit(f"inpaint: {error}")


def learn(arguments: argparse.Namespace) -> None:
    """Raises EngineError where there is too little to learn from."""
    engine = Engine.load(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        todo = tasks(arguments.corpus, arguments.model, arguments.lines, arguments.seed, Path(folder).resolve())
        notes = [typed for typed in noted(engine, todo, arguments.minutes) if typed.keys]
    if len({typed.package for typed in notes}) < FOLDS:
        raise EngineError(f"a gate needs lines of {FOLDS} packages at least: name a larger corpus, or more --lines")
    origin = BoostedTrees.load(arguments.origin) if arguments.origin else None
    trees = learned(notes, origin)
    seen, odds = held_out(notes, lambda part: learned(part, origin))
    trees.prices = priced(seen, odds)
    dials = {dial: play(seen, odds, price) for dial, price in trees.prices.items()}
    languages = {
        language: play([typed for typed, _ in its], [each for _, each in its], trees.prices["balanced"])
        for language, its in by_language(zip(seen, odds, strict=True)).items()
    }
    out = arguments.out or OUT / f"{arguments.model}.json"
    out.write_bytes(msgspec.json.encode(trees))
    written = card(arguments.model, arguments.origin, notes, LIMITS, trees.prices, dials, languages)
    out.with_suffix(".md").write_text(written, encoding="utf-8")
    print(f"{len(notes)} places, prices {trees.prices}; written to {out} and its card")


if __name__ == "__main__":
    main()
