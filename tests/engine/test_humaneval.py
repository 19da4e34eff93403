"""Problems are run in a child, and what passes is what its tests let pass."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from engine import EngineError, Fill, FillRequest
from engine.__main__ import main
from engine.evaluation.humaneval import Problem, evaluate, problems
from engine.evaluation.sandbox import passes

HEAD, LINES = "def f(x):\n", ["    y = x + 1\n", "    z = y * 2\n", "    return z\n"]


def a_problem(number: int) -> dict[str, str]:
    return {
        "task_id": f"SingleLineInfilling/HumanEval/0/L{number}",
        "entry_point": "f",
        "prompt": HEAD + "".join(LINES[:number]),
        "canonical_solution": LINES[number],
        "suffix": "".join(LINES[number + 1 :]),
        "test": "def check(f):\n    assert f(1) == 4\n",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = "\n".join(json.dumps(a_problem(number)) for number in range(len(LINES)))
    (tmp_path / "HumanEval-SingleLineInfilling.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return tmp_path


def test_a_solution_passes_and_another_text_does_not(folder: Path) -> None:
    for problem in problems(folder, "single-line"):
        assert problem.solved_by(problem.canonical_solution)
        assert not problem.solved_by("    pass\n")


def test_runs_of_lines_are_all_runs(folder: Path) -> None:
    made = problems(folder, "multi-line")
    assert [problem.task_id.rpartition("/")[2] for problem in made] == [
        "L0_L0",
        "L0_L1",
        "L0_L2",
        "L1_L1",
        "L1_L2",
        "L2_L2",
    ]
    for problem in made:
        assert problem.prompt + problem.canonical_solution + problem.suffix == HEAD + "".join(LINES)
        assert problem.solved_by(problem.canonical_solution)


@pytest.mark.parametrize("text", ["    import os; os._exit(0)\n", "    raise SystemExit\n", "    return\n", "    (\n"])
def test_to_leave_early_is_not_to_pass(text: str) -> None:
    assert Problem(**a_problem(0)).solved_by(text) is False


def test_a_program_that_does_not_end_is_out_of_time() -> None:
    assert passes("while True: pass", 1.0) is None


def test_a_program_writes_no_large_file() -> None:
    assert passes("open('x', 'w').write('x')", 10.0)
    assert not passes("open('x', 'w').write('x' * 10_000_000)", 10.0)


def test_a_folder_without_the_data_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match="RandomSpan"):
        problems(folder, "random-span")
    assert main(["eval", "humaneval", "--data", str(folder / "none"), "--limit", "1"]) == 2
    assert "HumanEval-SingleLineInfilling" in capsys.readouterr().err


def test_the_shipped_model_is_scored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "humaneval", "--data", str(folder), "--split", "single-line", "multi-line", "--json"]) == 0
    single, several = json.loads(capsys.readouterr().out)
    assert (single["problems"], several["problems"]) == (3, 6)
    assert 0 <= single["passed"] <= 3


def test_right_fills_pass(folder: Path) -> None:
    class Filler:
        def fill(self, request: FillRequest, cancel: object, watch: object = None) -> Fill:
            text = next(line for line in LINES if not request.prefix.endswith(line) and line not in request.prefix)
            numbers = dict.fromkeys(("passes", "tokens", "encoded", "reused"), 1)
            return Fill(text=text, confidence=1.0, encode_ms=1.0, decode_ms=1.0, complete=True, **numbers)

    score = evaluate(Filler(), folder, "single-line", None, 0)  # type: ignore[arg-type]
    assert (score.passed, score.exact, score.problems) == (3, 3, 3)


def test_eval_alone_is_eval_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["eval", str(tmp_path)], ["eval", "lines", str(tmp_path)]):
        assert main(arguments) == 2
        assert "train corpus" in capsys.readouterr().err
