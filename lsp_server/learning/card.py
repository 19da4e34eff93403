"""The card of a model's gate, as `python -m lsp_server.learning` writes it: what it was learned of, and how good it
is in packages that it has not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lsp_server.learning.policy import Played, Typed
    from lsp_server.settings import Dial

CLASSES = 10  # of chances


def card(
    model: str,
    origin: str | None,
    notes: Sequence[Typed],
    limits: Mapping[Dial, tuple[float, float]],
    prices: Mapping[Dial, float],
    dials: Mapping[Dial, Played],
    languages: Mapping[str, Played],
) -> str:
    """Of what was played with trees that had not seen the package: `dials` on all notes, `languages` on those of each,
    at the price of `balanced`.
    """
    packages = sorted({typed.package for typed in notes})
    places = Counter(typed.place.language for typed in notes)
    lines = Counter[str]()
    for typed in notes:
        lines[typed.place.language] += typed.place.todo.count("\n") + 1
    counts = [f"| {each} | {places[each]} | {lines[each]} | {_figures(languages[each])} |" for each in sorted(places)]
    settings = [
        f"| {dial} | {prices[dial]} | {limits[dial][0]} | {limits[dial][1]} | {_figures(played)} |"
        for dial, played in dials.items()
    ]
    option = f" --origin {origin}" if origin else ""
    goes_on = (
        f"The first of them are {origin}'s, learned of its own fills, in some of these packages too.\n"
        if origin
        else ""
    )
    chances, right = np.array(dials["balanced"].judged, float).T
    rows, off = reliability(chances, right)
    return f"""# What is shown of {model}

Written by `python -m lsp_server.learning --model {model}{option}`, with `{model}.json`: boosted trees that say how
likely a beginning of a fill is right, and the prices of the dial.
{goes_on}
## Data

{sum(places.values())} places of {len(packages)} packages:
{", ".join(packages)}.

A third of the places each was typed in its file alone, with the index of its package, and with the index and other open
files. Below, each package is judged by trees that were learned of others; the figures of a language are at `balanced`.

| language | places | lines | ratio | precision | shown a line | wrong a line |
|---|---|---|---|---|---|---|
{chr(10).join(counts)}

## Prices

A price is in characters: so many that a right suggestion saves outweigh a wrong one. Each is the lowest that was tried
at which precision and wrong suggestions a line are within the limits of its setting, or where none is, at which the
latter are. Nothing is adapted to a user here.

| setting | price | least precision | most wrong a line | ratio | precision | shown a line | wrong a line |
|---|---|---|---|---|---|---|---|
{chr(10).join(settings)}

## Reliability

At each key, of the beginning with the most benefit at `balanced`, shown or not: the chance that the trees give it, and
how often it is right. Over all keys they differ by {off:.3f} (expected calibration error, {CLASSES} classes).

| chance | keys | mean chance | right |
|---|---|---|---|
{chr(10).join(rows)}
"""


def reliability(chances: np.ndarray, right: np.ndarray) -> tuple[list[str], float]:
    """Rows of a table by class of chance, and the expected calibration error; both arrays are (keys,)."""
    classes = np.minimum((chances * CLASSES).astype(int), CLASSES - 1)
    rows, off = [], 0.0
    for each in range(CLASSES):
        its = classes == each
        if its.any():
            said, was = chances[its].mean(), right[its].mean()
            off += abs(said - was) * its.mean()
            bounds = f"{each / CLASSES:.1f} to {(each + 1) / CLASSES:.1f}"
            rows.append(f"| {bounds} | {its.sum()} | {said:.3f} | {was:.3f} |")
    return rows, float(off)


def _figures(played: Played) -> str:
    return f"{played.ratio:.3f} | {played.precision:.2f} | {played.shown:.2f} | {played.wrong:.2f}"
