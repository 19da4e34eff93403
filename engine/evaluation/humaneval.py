"""HumanEval-Infilling (Bavarian et al. 2022, arXiv 2207.14255, section 4): gaps in short functions, judged by running
their tests.

    single-line   a line of the solution
    multi-line    a run of its lines: all 5,815 runs, which follow from the single-line file
    random-span   from any character to any other

The data are read from a folder and are no part of the project: `HumanEval-SingleLineInfilling.jsonl.gz` and
`HumanEval-RandomSpanInfillingLight.jsonl.gz` of the published benchmark.
"""

from __future__ import annotations

import gzip
import os
import random
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from engine.contract import Backend, EngineError, FillRequest
from engine.evaluation import sandbox

FILES = {
    "single-line": "HumanEval-SingleLineInfilling.jsonl.gz",
    "multi-line": "HumanEval-SingleLineInfilling.jsonl.gz",
    "random-span": "HumanEval-RandomSpanInfillingLight.jsonl.gz",
}
SECONDS = 10.0  # of a test, with the start of the interpreter on a busy machine
MOST_TOKENS = 256


class Problem(msgspec.Struct):
    task_id: str
    entry_point: str
    prompt: str
    suffix: str
    canonical_solution: str
    test: str

    def solved_by(self, text: str) -> bool | None:
        """Whether the function passes its tests with this text in the gap; None where time ran out."""
        program = f"{self.prompt}{text}{self.suffix}\n{self.test}\ncheck({self.entry_point})\n"
        return sandbox.passes(program, SECONDS)


class Score(msgspec.Struct):
    """`passed` by execution, `exact` by text; of `problems`."""

    split: str
    problems: int
    passed: int
    exact: int
    out_of_time: int


def problems(folder: Path, split: str) -> list[Problem]:
    """Raises EngineError where the folder has no such file."""
    try:
        lines = gzip.decompress((folder / FILES[split]).read_bytes()).splitlines()
        read = [msgspec.json.decode(line, type=Problem) for line in lines]
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise EngineError(f"no {FILES[split]} of HumanEval-Infilling to read in {folder} ({error})") from None
    return list(runs(read)) if split == "multi-line" else read


def runs(single: Sequence[Problem]) -> Iterator[Problem]:
    """Each run of lines of each solution: from the gap of one line to that of another."""
    functions = defaultdict(list)
    for problem in single:
        functions[problem.test, problem.entry_point].append(problem)
    for lines in functions.values():
        for number, first in enumerate(lines):
            for last in lines[number:]:
                missing = (last.prompt + last.canonical_solution)[len(first.prompt) :]
                task = f"{first.task_id.replace('SingleLine', 'MultiLine')}_{last.task_id.rpartition('/')[2]}"
                yield msgspec.structs.replace(first, task_id=task, suffix=last.suffix, canonical_solution=missing)


def evaluate(
    filler: Backend,
    folder: Path,
    split: str,
    limit: int | None,
    seed: int,
    copies: bool = True,
) -> Score:
    """Fill and run `limit` problems of a split, drawn by the seed, or all; without `copies` the model is alone. Raises
    EngineError.
    """
    from tqdm import tqdm

    drawn = problems(folder, split)
    if limit is not None and limit < len(drawn):
        drawn = random.Random(seed).sample(drawn, limit)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        texts, running = [], []
        for problem in tqdm(drawn, desc=split, unit="problem", disable=None):
            request = FillRequest(
                prefix=problem.prompt,
                suffix=problem.suffix,
                max_lines=1 if split == "single-line" else None,
                max_tokens=MOST_TOKENS,
                copies=copies,
            )
            texts.append(filler.fill(request, threading.Event()).text)
            running.append(pool.submit(problem.solved_by, texts[-1]))
        results = [each.result() for each in running]
    exact = sum(text == problem.canonical_solution for text, problem in zip(texts, drawn, strict=True))
    return Score(split, len(drawn), sum(map(bool, results)), exact, results.count(None))
