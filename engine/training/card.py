"""The model card: what the weights were made from, how long, how good, and what not to expect."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from engine.evaluation.lines import Quality
from engine.models.trunk import Trunk
from engine.training.train import Progress


class PackageReport(msgspec.Struct):
    package: str
    version: str
    use: str
    licence: str
    files: int
    bytes: int
    language: str = "python"


class CorpusReport(msgspec.Struct):
    packages: list[PackageReport]


def card(name: str, model: Trunk, progress: Progress, qualities: dict[str, Quality], report: Path) -> str:
    """`qualities` are by the way of filling."""
    packages = msgspec.json.decode(report.read_bytes(), type=CorpusReport).packages
    trained = [package for package in packages if package.use == "train" and package.files]
    held_out = sorted({one.package for one in packages if (one.use, one.language) == ("validation", "python")})
    languages = Counter[str]()
    for package in trained:
        languages[package.language] += package.bytes
    licences = Counter(package.licence for package in trained).most_common()
    config = model.config
    parameters = sum(weight.numel() for weight in model.parameters()) / 1e6
    measured = list(qualities.values())
    judged = {
        "the rest of the line exactly right": [f"{quality.exact:.1%}" for quality in measured],
        **{
            f"… from {kind}": [f"{quality.exact_by_start[kind]:.1%}" for quality in measured]
            for kind in measured[0].exact_by_start
        },
        "tokens a forward pass": [f"{quality.tokens_a_pass:.2f}" for quality in measured],
    }
    table = "\n".join(f"| {name} | {' | '.join(values)} |" for name, values in judged.items())
    rows = [f"| {p.package} | {p.version} | {p.licence} | {p.bytes / 1e6:.1f} |" for p in sorted(trained, key=name_of)]
    return f"""# {name}

An embedded model of Inpaint: a decoder-only transformer of {parameters:.1f}M parameters (d={config.dim},
{config.layers} layers, {config.heads} heads, {config.vocab} tokens). Licence of the weights: Apache-2.0.

## Training

{progress.tokens / 1e6:.1f}M context tokens, and half as many in branches and canvases, in {progress.hours:.1f} hours on
two CPU cores, {progress.step} steps. The weights are the average over the last steps.

## Evaluation

At {measured[0].places} cursor places of packages never trained on ({", ".join(held_out)}),
which are those of `python -m engine eval`. As shipped, the engine copies from the text around the cursor where that
is likelier right; alone, the model fills without, and drafts on canvases.

| | {" | ".join(qualities)} |
|---|{"---|" * len(qualities)}
{table}

## Limits

It writes Python, mostly to the end of a line. It knows no project but the file at hand, and it makes names up.
Read what you accept.

## Data

{", ".join(f"{size / 1e6:.0f} MB of {language}" for language, size in languages.most_common())} from {len(trained)}
packages of PyPI, npm and Debian with permissive licences, without generated, vendored and copyleft files,
deduplicated, and without files that share an n-gram with the evaluation problems. Packages by licence:
{", ".join(f"{licence} {count}" for licence, count in licences)}.

| package | version | licence | MB |
|---|---|---|---|
{chr(10).join(rows)}
"""


def name_of(package: PackageReport) -> str:
    return package.package
