"""Tunes a model of ours to the files of a workspace, so that it knows their names and habits: `train workspace`.

The files are those that the index may read (ignore rules, secrets left out), checked as a corpus's are. A tenth is held
out, to tell whether it was worth the time: the card says what the model and its base make of lines of these. One pass
over the files at a low rate is enough to learn how they are written. After two, held-out text is likelier still, but no
more of it is saved, and more of what is shown is wrong. Weights are stored in eight bits, for what a short training
moves is less than a step of six.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine import checksums, stored
from engine.auto import SMALL
from engine.backends.kv_cache import ModelShape
from engine.contract import EngineError
from engine.corpus import Corpus
from engine.embedded import GRAPH, STORED, Embedded, folder_of, read_shape
from engine.evaluation.lines import Quality, evaluate
from engine.get import MODELS
from engine.languages import LANGUAGES, is_source
from engine.models.trunk import TrunkConfig
from engine.retrieval.files import list_files, read_text
from engine.training import train
from engine.training.corpus import (
    BYTES_A_TOKEN,
    Duplicates,
    File,
    Kept,
    PackageReport,
    checked,
    without_duplicates,
    write,
)
from engine.training.dataset import SamplerConfig
from engine.training.export import write_adapter

HELD_OUT = 0.1  # of the bytes
LEAST, MOST = 50_000, 400_000  # tokens of context, unless it is said how many
RANK, RATE = 8, 5e-4
WORKERS = 4  # at most: each takes 2 GB for small
ROWS = 8  # a step, of all workers
PLACES = 100  # a language, of the card
MARK = "# written by `python -m engine train workspace`, which may overwrite this folder\n*\n"


def run(folders: Sequence[Path], out: Path, model: str = "", tokens: int | None = None) -> None:
    """Write a folder that the engine loads as any model, with a card; stopped, it goes on when it is run again.

    Raises EngineError where there is no such model of ours, or too little to learn from.
    """
    model = model or SMALL
    if not Embedded.holds(model):
        raise EngineError(
            f"{model} is a public model: those that `train export` wrote can be tuned, and the shipped ones"
        )
    if tokens is not None and tokens < 1:
        raise EngineError(f"--tokens is {tokens}: give a whole number from 1 on")
    base = folder_of(model)
    if out.resolve() == base.resolve():
        raise EngineError(f"{out} is the model that is tuned: give another --out")
    shape = read_shape(base)
    if shape.grown_from:
        raise EngineError(f"{model} was tuned already: give the model that it was tuned from, {shape.grown_from}")
    new = claim(out)
    try:
        size = gather(folders, out / "corpus")
    except EngineError:
        if new:
            shutil.rmtree(out)
        raise
    config = config_of(base, shape, tokens or min(MOST, max(LEAST, round(size / BYTES_A_TOKEN))))
    train.run(config, train.DataPaths(out / "corpus", base / "tokenizer.json"), out / "state")
    progress = write_adapter(out / "state", out)
    if progress.tokens < config.tokens:
        print(f"stopped after {progress.tokens:,} of {config.tokens:,} tokens: the same command goes on")
        return
    origin = model if model in (SMALL, *MODELS) else str(base.resolve())
    learned = msgspec.structs.replace(shape, name=shape.name or base.name, grown_from=origin)
    (out / "config.json").write_bytes(msgspec.json.format(msgspec.json.encode(learned), indent=2))
    for name in ("tokenizer.json", GRAPH, "NOTICE"):
        if (base / name).exists():
            shutil.copyfile(base / name, out / name)
    checksums.write(out)
    text = card(base, out, folders, progress)
    (out / "README.md").write_text(text, encoding="utf-8")
    shutil.rmtree(out / "state")
    print(f"{text}\nIt is the model auto:{out.resolve()}")


def claim(out: Path) -> bool:
    """Make the folder one of ours, which nobody else may read; tells whether there was none. Raises EngineError where
    it holds what we have not written.
    """
    new = not out.exists()
    mark = out / ".gitignore"  # it may lie within the workspace
    try:
        ours = new or not any(out.iterdir()) or mark.read_text("utf-8") == MARK
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise EngineError(f"{out} holds something else: give a new folder as --out")
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    out.chmod(0o700)
    mark.write_text(MARK, encoding="utf-8")
    return new


def gather(folders: Sequence[Path], corpus: Path) -> int:
    """Write the files of the folders as a corpus whose validation part is held out; the bytes of the rest.

    Raises EngineError where there are not two files.
    """
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise EngineError(f"no folder {', '.join(missing)}: name those of a workspace")
    reports, duplicates = dict[tuple[str, str], PackageReport](), Duplicates()
    found: list[Kept] = []
    for folder in folders:
        top = folder.resolve()
        for each in list_files([str(top)]).files:
            language = next((name for name in LANGUAGES if is_source(each.path, name)), "")
            text = read_text(each.path) if language else None
            if text is None:
                continue
            report = reports.setdefault((top.name, language), PackageReport(top.name, "", "train", language))
            file = checked(Path(each.path).relative_to(top).as_posix(), text.encode(), language)
            if isinstance(file, File):
                found += [(report, new) for new in without_duplicates([file], duplicates, report)]
    held, kept = apart(found)
    if not held or not kept:
        needed = f"two at least are needed, in {', '.join(LANGUAGES)}"
        raise EngineError(f"{len(found)} source files to learn from: {needed}")
    write(kept, corpus)
    write(held, corpus / "validation")
    return sum(len(file.text) for _, file in kept)


def apart(
    found: list[Kept],
) -> tuple[list[Kept], list[Kept]]:
    """Of each language a tenth, as whole files, and the rest; always the same of the same files."""
    languages = defaultdict[str, list[Kept]](list)
    for report, file in sorted(found, key=lambda each: each[1].digest):
        languages[report.language].append((report, file))
    held, kept = list[Kept](), list[Kept]()
    for files in languages.values():
        random.Random(0).shuffle(files)
        left = HELD_OUT * sum(len(file.text) for _, file in files)
        for number, each in enumerate(files):
            goes = left > 0 and number < len(files) - 1
            (held if goes else kept).append(each)
            left -= len(each[1].text) if goes else 0
    return held, kept


def config_of(base: Path, shape: ModelShape, tokens: int) -> train.TrainConfig:
    """What the base was trained on, at a low rate that falls to zero."""
    trunk = msgspec.json.decode(stored.about(base / STORED), type=TrunkConfig)
    workers = min(WORKERS, os.cpu_count() or 1)
    rows = ROWS // workers
    return train.TrainConfig(
        model=trunk,
        sampler=SamplerConfig(
            context=shape.context,
            middle=96,
            rest_first=shape.rest_first,
            snippets=0.5,
            by_language=False,
        ),
        base=str((base / STORED).resolve()),
        rank=RANK,
        tokens=tokens,
        workers=workers,
        batch=rows,
        micro_batch=2,
        lr_adam=RATE,
        warmup=3,
        decay=0.8,
        average=0.9,
        weights=(0.7, 3.0),
        validate_every=0,
    )


def card(base: Path, out: Path, folders: Sequence[Path], progress: train.TrainingProgress) -> str:
    """What the model was tuned to, and lines of files that were held out, exactly right before and after."""
    kept, held = Corpus(out / "corpus"), Corpus(out / "corpus" / "validation")
    models = {"before": Embedded.load(str(base)), "after": Embedded.load(str(out))}

    def exact(language: str, copies: bool) -> list[Quality]:
        return [evaluate(each, out / "corpus" / "validation", PLACES, copies, language) for each in models.values()]

    rows = [
        f"| {language}, {how} | {before.exact:.1%} | {after.exact:.1%} |"
        for language in sorted(held.languages)
        for how, copies in (("the model alone", False), ("with copies from the file", True))
        for before, after in [exact(language, copies)]
    ]
    names = ", ".join(folder.resolve().name for folder in folders)
    return "\n".join(
        [
            f"# {base.name}, tuned to a workspace",
            "",
            f"Written by `python -m engine train workspace`: {progress.tokens:,} tokens in {60 * progress.hours:.0f} "
            f"minutes, of {len(kept)} files ({kept.bytes / 1e6:.1f} MB) of {names}. Its weights know these files: give "
            "them to nobody who may not read them.",
            "",
            f"Lines exactly right, at {PLACES} cursors in {len(held)} other files that were held out:",
            "",
            "| | before | after |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
