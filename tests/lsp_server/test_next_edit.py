"""`inpaint/nextEdit` over the wire: the request, its aliases, what becomes of an edit, and silence for bad input."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from lsp_client import SCRIPTED, Json, LspClient, LspError, script, span

URI = "file:///project/a.py"
CALLS = "load(a)\nload(b)\nsave()\nload(c)\nload(d)\n"
NEXT_EDIT, COPILOT = "inpaint/nextEdit", "textDocument/copilotInlineEdit"


@pytest_asyncio.fixture
async def client() -> AsyncIterator[LspClient]:
    async with LspClient.start(SCRIPTED) as started:
        await started.initialize(initializationOptions={"nextEdit": True, "status": True})
        yield started


async def ask(client: LspClient, line: int = 2, uri: str = URI, method: str = NEXT_EDIT, **document: Json) -> Json:
    position = {"line": line, "character": 0}
    return await client.request(method, {"textDocument": {"uri": uri, **document}, "position": position})


def rename(client: LspClient, *lines: int, uri: str = URI, start: int = 0) -> None:
    """Put `read` in the place of `load`, key by key."""
    for line in lines:
        client.change(uri, {"range": span(line, start, start + 4), "text": "r"})
        for number, key in enumerate("ead", 1):
            client.insert(uri, line, start + number, key)


def version(client: LspClient) -> int:
    return next(client._versions) - 1


async def test_the_edit_that_is_due_is_versioned_and_minimal(client: LspClient) -> None:
    client.open(URI, CALLS)
    rename(client, 0, 1)
    now = version(client)
    for method in (NEXT_EDIT, COPILOT):
        [edit] = (await ask(client, method=method, version=now))["edits"]
        assert (edit["text"], edit["range"]) == ("read", span(3, 0, 4))
        assert edit["textDocument"] == {"uri": URI, "version": now}
        assert (edit["kind"], edit["label"]) == ("edit", "1 more like this")
    assert (await ask(client, version=now - 1))["edits"] == []
    client.notify("textDocument/didShowInlineEdit", {"item": {"command": {"arguments": [edit["id"]]}}})
    client.change(URI, {"range": edit["range"], "text": edit["text"]})
    command = {"command": edit["command"]["command"], "arguments": edit["command"]["arguments"]}
    await client.request("workspace/executeCommand", command)
    [edit] = (await ask(client))["edits"]
    assert (edit["range"], edit["label"]) == (span(4, 0, 4), "the last like this")
    counts = (await client.request("inpaint/statistics"))["nextEdits"]
    assert counts == {"shown": 1, "accepted": 1, "rejected": 0}


async def test_what_is_rejected_is_muted_and_the_status_says_so(client: LspClient) -> None:
    client.open(URI, CALLS)
    rename(client, 0, 1)
    [edit] = (await ask(client))["edits"]
    await client.wait_for("inpaint/status", "An edit is offered")
    client.notify("inpaint/didRejectNextEdit", {"id": edit["id"], "reason": "ignored"})
    [edit] = (await ask(client))["edits"]
    client.notify("inpaint/didRejectNextEdit", {"id": edit["id"], "reason": "rejected"})
    assert (await ask(client))["edits"] == []
    await client.wait_for("inpaint/status", "This change was rejected")


async def test_an_edit_is_settled_by_a_pause_and_a_change_ends_the_question(client: LspClient) -> None:
    client.open(URI, CALLS)
    rename(client, 0, 1)
    started = asyncio.get_running_loop().time()
    [edit] = (await ask(client, 1))["edits"]
    assert asyncio.get_running_loop().time() - started > 0.3
    rename(client, 3)
    waiting = asyncio.ensure_future(ask(client, 3))
    await asyncio.sleep(0.05)
    client.insert(URI, 3, 4, "s")
    assert (await waiting)["edits"] == []
    [edit] = (await ask(client, 0))["edits"] or [None]
    assert edit is None  # half a word is no edit that was made twice


@pytest.mark.parametrize("method", [NEXT_EDIT, COPILOT])
async def test_off_by_default_and_params_that_are_none(scripted: LspClient, method: str) -> None:
    await scripted.initialize()
    scripted.open(URI, CALLS)
    rename(scripted, 0, 1)
    assert await ask(scripted, method=method) == {"edits": []}
    with pytest.raises(LspError, match=f"params of {method} are not"):
        await scripted.request(method, {"textDocument": URI})
    scripted.notify("inpaint/didRejectNextEdit", [1])
    scripted.notify("textDocument/didShowInlineEdit", {"item": None})
    scripted.change("file:///nowhere.py", {"text": ""})
    assert await ask(scripted, uri="file:///nowhere.py") == {"edits": []}


async def test_right_ranges_behind_wide_characters_tabs_and_carriage_returns(client: LspClient) -> None:
    client.open(URI, "".join(f'\t"😀é"; load({name})\r\n' for name in "abcd"))
    start = len('\t"😀é"; ') + 1  # in utf-16
    rename(client, 0, 1, start=start)
    [edit] = (await ask(client))["edits"]
    assert (edit["text"], edit["range"]) == ("read", span(2, start, start + 4))


async def test_silence_after_what_is_no_edit_by_hand(client: LspClient) -> None:
    two_lines = {"start": {"line": 0, "character": 0}, "end": {"line": 2, "character": 0}}
    ways = {
        "by a program": [{"range": span(line, 0, 4), "text": "read"} for line in range(4)],
        "another text": [{"text": CALLS.replace("load(a)\nload(b)", "read(a)\nread(b)")}],
        "lines at once": [{"range": two_lines, "text": "read(a)\nread(b)\n"}],
    }
    for number, changes in enumerate(ways.values()):
        uri = f"file:///project/{number}.py"
        client.open(uri, CALLS + "load(e)\n")
        client.change(uri, *changes)
        assert (await ask(client, uri=uri))["edits"] == []
    client.open(URI, CALLS)
    rename(client, 0, 1)
    client.change(URI, {"text": CALLS})  # as it was, on disk
    assert (await ask(client))["edits"] == []
    rename(client, 0, 1)
    client.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    assert (await ask(client))["edits"] == []


async def test_undone_is_not_made(client: LspClient) -> None:
    client.open(URI, CALLS)
    rename(client, 0, 1)
    client.change(URI, {"range": span(2, 0, 0), "text": "x"})
    for line in (1, 0):
        client.change(URI, {"range": span(line, 0, 4), "text": "load"})
    assert (await ask(client))["edits"] == []


async def test_many_are_offered_at_once_and_a_huge_file_is_left_alone(client: LspClient) -> None:
    client.open(URI, "load(a)\n" * 40)
    rename(client, 0, 1)
    answer = await ask(client)
    assert (len(answer["edits"]), len(answer["all"])) == (1, 38)
    huge = "file:///project/huge.py"
    client.open(huge, "load(a)\n" * 1_000_000)
    rename(client, 0, 1, uri=huge)
    assert await ask(client, uri=huge) == {"edits": []}
    await client.wait_for("inpaint/status", "400000 characters")


async def test_a_completion_goes_first(tmp_path: Path, client: LspClient) -> None:
    gate = tmp_path / "gate"
    client.open(URI, script("x", gate=str(gate)) + CALLS)
    rename(client, 1, 2)
    _, completion = client.ask(URI, 3, 0)
    edit = asyncio.ensure_future(ask(client, 3))
    await asyncio.sleep(0.1)
    assert not edit.done()
    gate.touch()
    await completion
    assert len((await edit)["edits"]) == 1
