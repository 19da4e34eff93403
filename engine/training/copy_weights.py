"""Learns how far copies are believed: the weights of retrieval/copy_weights.json, a logistic regression each.

At cursors of packages that are not reported on, each with its own package as the workspace, what the user wrote is
followed token by token, as a fill is that the model begins and a copy goes on with. Each copied token is a sample: what
speaks for it, what the model gives it, whether it is right.
Folders of packages are as `pip install --no-deps --target` leaves them, one a package. At half of the cursors other
files of the folder are open too. The installed packages that a file imports are modules of the standard library.
"""

from __future__ import annotations

import random
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.backends.kv_cache import CausalRunner
from engine.backends.onnx import OnnxRunner
from engine.contract import FillRequest
from engine.decoding.runner import ForwardInput
from engine.embedded import folder_of, read_shape
from engine.evaluation.places import STARTS, cursor_at
from engine.evaluation.workspace import opened_with
from engine.languages import LANGUAGES
from engine.prompt import prompt
from engine.retrieval.build import IndexOrder, build, store_of
from engine.retrieval.copy_weights import COPY_WEIGHTS, CopyWeights, Evidence, Weights, factors
from engine.retrieval.copying import Copier
from engine.retrieval.files import IndexLimits, list_files, read_text
from engine.retrieval.index import Index
from engine.retrieval.installed import LARGEST, MOST, imported
from engine.tokenizer import EOM, MASK, Tokenizer

RIDGE, ROUNDS = 1.0, 30  # of the regression
OPEN = 0.5  # of the cursors have other files open
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
SHORTEST = 20  # lines of a file
LONGEST = 24  # tokens of a target

Floats = NDArray[np.float64]


class Sample(NamedTuple):
    package: str
    evidence: Evidence
    probability: float  # that the model gives the token
    likeliest: float  # that it gives its own choice
    right: bool


def samples(passes: CausalRunner, tokenizer: Tokenizer, packages: Sequence[Path], places: int) -> Iterator[Sample]:
    """Of so many cursors in Python files of each package, the same each time."""
    with tempfile.TemporaryDirectory() as root:
        indexed = cache(partial(_indexed, Path(root)))
        for package in packages:
            index, dice, opens = indexed(str(package)), random.Random(package.name), random.Random(package.name)
            found = [file.path for file in list_files([str(package)]).files if file.path.endswith(".py")]
            texts = {path: text for path in found if (text := read_text(path)) and text.count("\n") > SHORTEST}
            for path in tqdm(
                dice.choices([*texts], [*map(len, texts.values())], k=places), desc=package.name, disable=None
            ):
                request, target = _cursor(texts[path].split("\n"), path, dice)
                known, texts_beside = opened_with(Path(path)) if opens.random() < OPEN else ((path,), ())
                libraries = imported(texts[path], STANDARD_LIBRARY)[:MOST]
                request = msgspec.structs.replace(
                    request,
                    files=known,
                    related=texts_beside,
                    indexes=(index, *(indexed(library, LARGEST) for library in libraries)),
                )
                for sample in _followed(passes, tokenizer, request, target):
                    yield Sample(package.name, *sample)


def _indexed(root: Path, source: str, limits: IndexLimits | None = None) -> Index:
    """The index of a workspace; of an installed package, where there are limits."""
    store = root / store_of([source]).name
    build(IndexOrder([source], str(store), limits=limits or IndexLimits()))
    return Index.open(store, installed=limits is not None)


def _cursor(lines: list[str], path: str, dice: random.Random) -> tuple[FillRequest, str]:
    comments = LANGUAGES["python"].comments
    code = [number for number, line in enumerate(lines) if line.strip() and not line.strip().startswith(comments)]
    place = cursor_at(lines, dice.choice(code), dice.choice(STARTS), path, dice)
    return place.request, place.todo


def _followed(
    passes: CausalRunner, tokenizer: Tokenizer, request: FillRequest, target: str
) -> Iterator[tuple[Evidence, float, float, bool]]:
    """What is copied at each token of the target, as if those before it were written already."""
    shape = passes.shape
    asked = prompt(request, tokenizer, shape.context, shape.rest_first)
    copier, tokens = Copier(request, tokenizer, asked.blank), [*tokenizer.encode(asked.blank + target), EOM][:LONGEST]
    copies = []
    for row, token in enumerate(tokens):
        if (copy := copier.next) is not None:
            copies.append((row, copy))
        copier.advance([token])
    if not copies:
        return
    passes.reuse_prefix(asked.context)
    first = tokenizer.first(asked.blank)
    allowed = None if first is None else (0, first)
    [predictions] = passes.predict(
        [ForwardInput([*asked.context, *asked.uncached_tail], [*tokens, MASK], allowed=allowed, read=len(tokens))]
    )
    for row, copy in copies:
        right = copy.token == tokens[row]
        yield copy.evidence, predictions.probability(row, copy.token), predictions.probabilities[row], right


def learn(found: Sequence[Sample]) -> tuple[Weights, Weights, float, float]:
    """The weights and then the mean log losses, without and with the model, each package predicted from the others."""
    right = np.array([sample.right for sample in found], float)
    packages = np.array([sample.package for sample in found])
    fitted = []
    for with_model in (False, True):
        known = np.array([factors(one.evidence, *(one[2:4] if with_model else (0.5, 0.5))) for one in found])
        predicted = np.empty(len(found))
        for package in set(packages):
            held = packages == package
            predicted[held] = _chances(known[held], regression(known[~held], right[~held]))
        loss = -np.mean(np.log(np.where(right > 0, predicted, 1 - predicted)))
        learned = map(float, regression(known, right))
        fitted.append((Weights(**dict(zip(Weights.__struct_fields__, learned, strict=True))), float(loss)))
    (prior, without), (weights, with_) = fitted
    return prior, weights, without, with_


def regression(known: Floats, right: Floats) -> Floats:
    """Weights (1 + k,), the bias first, of logistic regression of right (n,) on known (n, k), by Newton's method."""
    rows = np.column_stack((np.ones(len(known)), known))
    ridge, weights = RIDGE * np.diag([0.0, *np.ones(known.shape[1])]), np.zeros(rows.shape[1])
    for _ in range(ROUNDS):
        chance = 1 / (1 + np.exp(-rows @ weights))
        gradient = rows.T @ (chance - right) + ridge @ weights
        curvature = (rows * (chance * (1 - chance))[:, None]).T @ rows + ridge + 1e-9 * np.eye(len(weights))
        weights = weights - np.linalg.solve(curvature, gradient)
    return weights


def _chances(known: Floats, weights: Floats) -> Floats:
    chance: Floats = 1 / (1 + np.exp(-known @ weights[1:] - weights[0]))
    return np.clip(chance, 1e-6, 1 - 1e-6)


def run(model: str, packages: Sequence[Path], places: int, out: Path) -> None:
    """Learn with a shipped model and write the weights, and say how well they do. Raises OSError."""
    folder = folder_of(model)
    passes, tokenizer = OnnxRunner.load(folder, read_shape(folder)), Tokenizer.load(folder / "tokenizer.json")
    found = list(samples(passes, tokenizer, packages, places))
    prior, weights, without, with_model = learn(found)
    learned = CopyWeights(prior if model == "small" else COPY_WEIGHTS.prior, COPY_WEIGHTS.with_model | {model: weights})
    out.write_bytes(msgspec.json.format(msgspec.json.encode(learned)) + b"\n")
    print(f"{len(found)} tokens: log loss {without:.3f} without the model, {with_model:.3f} with it; written to {out}")
