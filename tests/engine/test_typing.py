"""The typist types what it should, however it types; a replay counts what it did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from engine import Engine
from engine.embedded import Embedded
from engine.evaluation import typing
from engine.evaluation.editor import Editor
from engine.evaluation.typing import CLIENTS, TypingClient, replay, replay_over_lsp, request
from engine.evaluation.typist import SCENARIOS, Key, Scenario, Screen, TypedFile, Typist

TEXT = Path(__file__).with_name("sample.txt").read_text(encoding="utf-8")
SOURCES = [TypedFile("a.py", TEXT), TypedFile("b.py", TEXT)]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_typed_is_the_file_again(scenario: Scenario, seed: int) -> None:
    typist, keys, screens = Typist(scenario, SOURCES, lines=200, seed=seed), 0, []
    for key in typist.pressed():
        if key is None:
            screens.append(typist.screen)
            continue
        typist.screen.press(key)
        keys += 1
        typist.suggestion = typist.screen.todo[:9]  # always right
        written = typist.screen.before + typist.screen.after
        assert set(TEXT) | set("abcdefghijklmnopqrstuvwxyz") >= set(written)
    assert keys > 20
    assert len(screens) == scenario.places * scenario.rounds
    assert len(set(screens)) == scenario.places
    for screen in screens:
        assert screen.todo == ""
        assert without_closers(screen.before + screen.after) == without_closers(TEXT)


def test_back_and_forth_types_some_lines_at_a_time() -> None:
    scenario = Scenario(name="back and forth", places=2, rounds=3)
    typist, turns = Typist(scenario, SOURCES, lines=9), []
    for key in typist.pressed():
        if key is None:
            turns.append((typist.screen.path, typist.screen.todo.count("\n")))
        else:
            typist.screen.press(key)
    paths = [path for path, _ in turns]
    assert sorted(paths[:2]) == ["a.py", "b.py"]
    assert paths == paths[:2] * 3
    assert [lines for _, lines in turns] == [8, 8, 5, 5, 2, 2]


def without_closers(text: str) -> str:
    """A quote or bracket that a typist's editor closed too early stays behind, as it does in life."""
    return "".join(character for character in text if character not in ")]}\"'")


def test_keys_do_what_they_say() -> None:
    screen = Screen("f", "", "\n")
    screen.press(Key(1, left="(", right=")"))
    assert (screen.before, screen.after) == ("f(", ")\n")
    screen.press(Key(1, over=1))
    screen.press(Key(1, take=2, left="x"))
    assert (screen.before, screen.after) == ("fx", "\n")


def test_a_replay_counts_its_keys(small: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    unhurried = lambda screen: msgspec.structs.replace(request(screen), deadline_ms=None)  # noqa: E731
    monkeypatch.setattr(typing, "request", unhurried)  # a slow machine reads little before a deadline
    monkeypatch.setattr(typing, "JUMP_MS", 60_000)
    slow = Scenario(name="short", key_ms=(60_000, 60_000), pause=0)
    result = replay(Engine(small), Typist(slow, SOURCES, lines=1))
    assert result.keys > 20
    assert (result.late, result.work["cancelled"]) == (0, 0)
    assert result.work["requests"] == len(result.reply_ms) == result.keys + 1
    assert result.row()["encoded"] < 40 < result.row()["reused"]
    assert result.memory_mb > 10
    assert result.cpu_seconds_per_1000_keys > 0


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
async def test_a_replay_over_lsp_counts_the_servers_work(client: TypingClient) -> None:
    scenario = Scenario(name="slips", key_ms=(100, 130), pause=0, slip=0.3)
    async with Editor.start() as editor:
        await editor.loaded()
        result = await replay_over_lsp(editor, client, Typist(scenario, SOURCES, lines=1, seed=3))
    assert result.keys > 20
    assert result.work["requests"] == result.keys + 1
    assert len(result.reply_ms) + result.late == result.work["requests"]
    assert result.work["fromCache"] > 0  # slips are taken back
    assert result.work["reused"] > result.work["encoded"] > 0


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine", "bench", "typing", *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False)


def test_the_bench_reports(tmp_path: Path) -> None:
    (file := tmp_path / "short.py").write_text("".join(f"x{number} = {number}\n" for number in range(40)))
    done = bench("--json", "--lines", "1", "--file", str(file))
    report = json.loads(done.stdout)
    assert {one["scenario"] for one in report["replays"]} == {scenario.name for scenario in SCENARIOS}
    assert report["matrix_product_ms"] > 0


def test_a_corpus_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = bench("--corpus", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "train corpus" in done.stderr
