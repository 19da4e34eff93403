"""The server as users get it, `python -m lsp_server --stdio` with the shipped model."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from lsp_client import INVOKED, PATIENCE, REAL, ROOT, LspClient, LspError

import engine

URI = "file:///project/shapes.py"
SOURCE = """\
import math


class Circle:
    def __init__(self, radius):
        self.radius = radius

    def area(self):
        return math.pi * self.radius ** 2

    def circumference(self):
        return 2 * math.pi * self.
"""
LINE, CHARACTER = 11, 34  # at the end of the last one
UNHURRIED = {"deadlineAutomaticMs": 60_000, "deadlineInvokedMs": 60_000}  # what is written is not the clock's matter
WEIGHTS = Path(engine.__file__).parent / "weights" / "small"


@pytest_asyncio.fixture
async def loaded(real: LspClient) -> AsyncIterator[LspClient]:
    await real.initialize(initializationOptions=UNHURRIED)
    await until_loaded(real)
    yield real


async def until_loaded(client: LspClient) -> None:
    """The server answers with empty lists while the model loads."""
    client.open(URI, SOURCE)
    deadline = time.monotonic() + PATIENCE
    while not await client.complete(URI, LINE, CHARACTER, INVOKED):
        assert time.monotonic() < deadline, "the model has not loaded, or says nothing"
        await asyncio.sleep(0.02)


async def test_from_starting_to_the_first_completion() -> None:
    started = time.monotonic()
    async with LspClient.start(REAL, cwd=ROOT) as client:
        await client.initialize(progress=True)
        await until_loaded(client)
        seconds = time.monotonic() - started
        print(f"spawn to first completion: {seconds:.2f} s")
        assert await client.leave() == 0
        assert await client.stderr() == ""
    assert seconds < 30  # ten times and more of what it takes anywhere: only a hang is slower


async def test_the_model_completes_what_everybody_writes(loaded: LspClient) -> None:
    loaded.open("file:///project/first.py", "import numpy as \n\nimport os\n")
    [item, *_] = await loaded.complete("file:///project/first.py", 0, 16, INVOKED)
    assert item["insertText"].splitlines()[0] == "np"


async def test_the_same_question_gets_the_same_answer(loaded: LspClient) -> None:
    answers = []
    for n in range(3):
        uri = f"file:///project/{n}/shapes.py"
        loaded.open(uri, SOURCE)
        [item, *_] = await loaded.complete(uri, LINE, CHARACTER, INVOKED)
        answers.append(item["insertText"])
    assert answers[0] == answers[1] == answers[2]


async def test_by_key_there_are_several_that_differ(loaded: LspClient) -> None:
    items = await loaded.complete(URI, LINE, CHARACTER, INVOKED)
    texts = [item["insertText"] for item in items]
    assert texts[0].startswith("radius")
    assert 2 <= len(texts) == len({text.split()[0] for text in texts}) <= 3
    assert await loaded.complete(URI, LINE, CHARACTER, INVOKED) == items
    assert len(await loaded.complete(URI, LINE, CHARACTER)) <= 1


async def test_typing_what_is_suggested_shortens_it(loaded: LspClient) -> None:
    [item, *_] = await loaded.complete(URI, LINE, CHARACTER, INVOKED)
    loaded.insert(URI, LINE, CHARACTER, item["insertText"][:2])
    [rest, *_] = await loaded.complete(URI, LINE, CHARACTER + 2, INVOKED)
    assert rest["insertText"] == item["insertText"][2:]


async def test_a_cancel_at_any_time_leaves_the_server_in_order(loaded: LspClient) -> None:
    for n in range(40):
        loaded.insert(URI, 0, 0, f"x{n} = 1\n")  # a new context: nothing comes from the cache
        number, answer = loaded.ask(URI, LINE + n + 1, CHARACTER, INVOKED)
        await asyncio.sleep(n * 0.001)
        loaded.cancel(number)
        with contextlib.suppress(LspError):
            await asyncio.wait_for(answer, PATIENCE)
    assert await loaded.complete(URI, LINE + 40, CHARACTER, INVOKED)
    assert await loaded.leave() == 0
    assert "Traceback" not in await loaded.stderr()


TEXTS = (
    "",
    "\n",
    SOURCE.replace("\n", "\r\n"),
    "x = '😀é€' \f \u2028 \x85\n" * 50,
    "".join(map(chr, range(0x300))) * 40,
    "\ud83d\n" * 20,
    "x" * 5_000_000,
    SOURCE * (5_000_000 // len(SOURCE)),
    "(" * 10_000,
    "\n" * 100_000,
    "    " * 10_000,
)


async def test_any_text_is_answered(real: LspClient) -> None:
    """One server has them all, and is in order after each."""
    await real.initialize()
    await until_loaded(real)
    for number, text in enumerate(TEXTS):
        uri, what = f"file:///{number}/any.py", f"{text[:12]!r} * {len(text)}"
        real.open(uri, text)
        for line, character in ((0, 0), (0, 7), (5, 3), (10**6, 10**6)):
            for item in await real.complete(uri, line, character, INVOKED):
                assert item["insertText"].strip(), what
        real.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        assert await real.complete(URI, LINE, CHARACTER, INVOKED), what
    assert await real.leave() == 0
    assert await real.stderr() == ""


# ---------------------------------------------------------------- weights that are not there


def without(folder: Path) -> None:
    shutil.rmtree(folder)


def truncated(folder: Path) -> None:
    for file in folder.glob("*.onnx"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize("damage", [without, truncated, emptied])
async def test_missing_or_damaged_weights_are_told_in_one_sentence(tmp_path: Path, damage: object) -> None:
    folder = tmp_path / "small"
    shutil.copytree(WEIGHTS, folder)
    damage(folder)  # type: ignore[operator]
    async with LspClient.start([*REAL, "--model", str(folder)], cwd=ROOT) as client:
        await client.initialize()
        message = await client.wait_for("window/showMessage")
        assert message["type"] == 1
        client.open(URI, SOURCE)
        assert await client.complete(URI, LINE, CHARACTER, INVOKED) == []
        assert await client.leave() == 0
        [sentence] = (await client.stderr()).splitlines()
        assert sentence.removeprefix("inpaint: ") == message["message"].removeprefix("Inpaint: ")


async def test_a_line_of_another_open_document(loaded: LspClient) -> None:
    line = "    with connect(settings.warehouse, timeout=settings.patience) as warehouse:"
    loaded.open("file:///project/stock.py", f"def stock(settings):\n{line}\n        pass\n")
    loaded.open("file:///project/orders.py", f"def orders(settings):\n{line[:40]}")
    [item, *_] = await loaded.complete("file:///project/orders.py", 1, 40, INVOKED)
    assert line[:40] + item["insertText"] == line
