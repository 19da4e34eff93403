"""The model card: what the weights were made from, how long, how good, and what not to expect."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from engine.evaluation.lines import Quality
from engine.models.trunk import Trunk
from engine.training.corpus import PackageReport
from engine.training.train import TrainingProgress

AS_SHIPPED, ALONE = "as shipped", "alone"  # ways of filling
CARD, TABLE = "README.md", "packages.tsv"


class CorpusReport(msgspec.Struct):
    packages: list[PackageReport]


def write(
    out: Path,
    model: Trunk,
    progress: TrainingProgress,
    losses: dict[str, dict[str, float]],
    qualities: dict[tuple[str, str], Quality],
    report: Path,
) -> None:
    """Write the card, and a table of the packages beside it. `losses` are by the precision of the weights and kind,
    `qualities` by language and way of filling.
    """
    packages = msgspec.json.decode(report.read_bytes(), type=CorpusReport).packages
    trained = sorted((each for each in packages if each.use == "train" and each.files), key=lambda each: each.package)
    rows = ["package\tversion\tlicence\tMB"]
    rows += [f"{each.package}\t{each.version}\t{each.licence}\t{each.bytes / 1e6:.1f}" for each in trained]
    (out / TABLE).write_text("\n".join(rows) + "\n", encoding="utf-8")
    held_out = sorted({package.package for package in packages if package.use == "validation"})
    languages = Counter[str]()
    for package in trained:
        languages[package.language] += package.bytes
    licences = Counter(package.licence for package in trained).most_common()
    config = model.config
    parameters = sum(weight.numel() for weight in model.parameters()) / 1e6
    kinds = [kind for kind in next(iter(losses.values())) if any(loss[kind] for loss in losses.values())]
    table = [f"| {each} | " + " | ".join(f"{loss[kind]:.3f}" for kind in kinds) + " |" for each, loss in losses.items()]
    judged = [
        f"| {language} | {way} | {quality.places} | "
        + " | ".join(f"{exact:.1%}" for exact in quality.exact_by_start.values())
        + f" | {quality.tokens_a_pass:.2f} |"
        for (language, way), quality in qualities.items()
    ]
    starts = list(next(iter(qualities.values())).exact_by_start)
    text = f"""# {out.name}

An embedded model of Inpaint: a decoder-only transformer of {parameters:.1f}M parameters (d={config.dim},
{config.layers} layers, {config.heads} heads, {config.vocab} tokens). Licence of the weights: Apache-2.0.

## Training

{progress.tokens / 1e6:.1f}M context tokens, and half as many in branches, in {progress.hours:.1f} hours on two CPU
cores, {progress.step} steps. The weights are the average over the last steps.

## Evaluation

Nats a token on packages never trained on, and what storing the weights in few bits costs:

| weights | {" | ".join(kinds)} |
|---|{"---|" * len(kinds)}
{chr(10).join(table)}

The rest of a line exactly right at cursor places of these packages ({", ".join(held_out)}), which are those of
`python -m engine eval lines`. As shipped, the engine copies from the text around the cursor where that is likelier
right; alone, the model fills without.

| language | | places | {" | ".join(starts)} | tokens a pass |
|---|---|---|{"---|" * len(starts)}---|
{chr(10).join(judged)}

## Limits

It writes mostly to the end of a line, knows no project but the file at hand, and makes names up. Read what you accept.

## Data

{", ".join(f"{size / 1e6:.0f} MB of {language}" for language, size in languages.most_common())} from {len(trained)}
packages of PyPI, npm and Debian with permissive licences, without generated, vendored and copyleft files,
deduplicated, and without files that share an n-gram with the evaluation problems. Packages by licence:
{", ".join(f"{licence} {count}" for licence, count in licences)}.

[{TABLE}]({TABLE}) lists them.
"""
    (out / CARD).write_text(text, encoding="utf-8")
