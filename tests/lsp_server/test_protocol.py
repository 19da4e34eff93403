"""The server process, with a scripted engine: what it says to a client, in which order, and what it survives."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import pytest
from lsp_client import AUTOMATIC, INVOKED, PATIENCE, SCRIPTED, Json, LspClient, LspError, script, span

URI = "file:///project/a.py"
ENDLESS = 100_000  # passes: many minutes


async def what_the_engine_sees(client: LspClient, line: int, character: int, uri: str = URI) -> dict[str, Json]:
    """The request that reaches the engine for a position of a document without a script."""
    [item] = await client.complete(uri, line, character, INVOKED)
    return json.loads(item["insertText"])


async def counts(client: LspClient) -> dict[str, int]:
    """What the engine has done so far."""
    client.open("file:///report.py", script(report=True) + "x")
    [item] = await client.complete("file:///report.py", 1, 1, INVOKED)
    return json.loads(item["insertText"])


# ---------------------------------------------------------------- initialize


@pytest.mark.parametrize("encodings", [("utf-8", "utf-16"), ("utf-16",), ("utf-32", "utf-8"), ("ucs-7", "utf-8")])
async def test_the_encoding_is_the_one_the_client_prefers(scripted: LspClient, encodings: tuple[str, ...]) -> None:
    capabilities = await scripted.initialize(encodings)
    assert capabilities["positionEncoding"] == next(e for e in encodings if e.startswith("utf"))


async def test_capabilities(scripted: LspClient) -> None:
    capabilities = await scripted.initialize()
    assert capabilities["inlineCompletionProvider"] == {"workDoneProgress": False}  # and not {}
    assert capabilities["textDocumentSync"]["change"] == 2  # incremental
    assert "inpaint.accepted" in capabilities["executeCommandProvider"]["commands"]


# ---------------------------------------------------------------- items


async def test_an_item_goes_to_the_cursor_and_covers_nothing(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello") + "print()  # end\n")
    [item] = await scripted.complete(URI, 1, 6)
    assert item["insertText"] == "hello"
    assert item["range"] == span(1, 6)
    assert await scripted.request("workspace/executeCommand", {**item["command"], "arguments": []}) is None


async def test_an_item_extends_the_selected_entry_of_the_popup_menu(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script(".join(a)") + "os.pa  # end\n")
    selected = {"range": span(1, 3, 5), "text": "path"}
    [item] = await scripted.complete(URI, 1, 5, selectedCompletionInfo=selected)
    assert item["insertText"] == "path.join(a)"
    assert item["range"] == span(1, 3, 5)
    scripted.open(URI, "os.pa  # end\n")
    [item] = await scripted.complete(
        URI, 0, 5, INVOKED, selectedCompletionInfo={"range": span(0, 3, 5), "text": "path"}
    )
    assert json.loads(item["insertText"].removeprefix("path"))["prefix"] == "os.path"


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
async def test_any_trigger_kind_is_answered(scripted: LspClient, kind: int) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello") + "x = ")
    assert len(await scripted.complete(URI, 1, 4, kind)) == 1


async def test_automatic_requests_get_only_what_is_believed_in(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"minConfidence": 0.5})
    scripted.open(URI, script("hello", confidence=0.4) + "x = ")
    assert await scripted.complete(URI, 1, 4, AUTOMATIC) == []
    assert len(await scripted.complete(URI, 1, 4, INVOKED)) == 1


async def test_what_repeats_the_text_is_not_shown(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("x)") + "print()\n")
    [item] = await scripted.complete(URI, 1, 6)
    assert item["insertText"] == "x"
    scripted.open(URI, script("done()") + "\ndone()\n")
    assert await scripted.complete(URI, 1, 0) == []


async def test_typing_what_is_suggested_asks_the_engine_once(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello") + "x = ")
    texts = []
    for typed in range(len("hello")):
        [item] = await scripted.complete(URI, 1, 4 + typed)
        texts.append(item["insertText"])
        scripted.insert(URI, 1, 4 + typed, "hello"[typed])
    assert texts == ["hello", "ello", "llo", "lo", "o"]
    assert (await counts(scripted))["asked"] == 1


# ---------------------------------------------------------------- text


async def test_unknown_documents_get_an_empty_list(scripted: LspClient) -> None:
    await scripted.initialize()
    assert await scripted.complete("file:///never/opened.py", 3, 3) == []
    scripted.insert("file:///never/opened.py", 0, 0, "x")
    scripted.open(URI, script("hello") + "x = ")
    assert len(await scripted.complete(URI, 1, 4)) == 1
    scripted.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    assert await scripted.complete(URI, 1, 4) == []


async def test_a_position_past_the_end_is_clamped(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello") + "x = ")
    for position in ((1, 999), (999, 0)):
        [item] = await scripted.complete(URI, *position)
        assert item["range"] == span(1, 4)


async def test_crlf_documents_get_crlf_and_the_engine_sees_none(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("a\nb").replace("\n", "\r\n") + "x = \r\ny\r\n")
    [item] = await scripted.complete(URI, 1, 4, INVOKED)
    assert item["insertText"] == "a\r\nb"
    scripted.open(URI, "x = \r\ny\r\n")
    scripted.insert(URI, 0, 4, "1\r\nz")
    request = await what_the_engine_sees(scripted, 1, 1)
    assert (request["prefix"], request["suffix"]) == ("x = 1\nz", "\ny\n")


async def test_neovim_gets_newlines_only(scripted: LspClient) -> None:
    await scripted.initialize(clientInfo={"name": "Neovim"})
    scripted.open(URI, script("a\nb").replace("\n", "\r\n") + "x = \r\ny\r\n")
    [item] = await scripted.complete(URI, 1, 4, INVOKED)
    assert item["insertText"] == "a\nb"


@pytest.mark.parametrize(("encoding", "length"), [("utf-8", 4), ("utf-16", 2), ("utf-32", 1)])
async def test_characters_outside_the_basic_plane(scripted: LspClient, encoding: str, length: int) -> None:
    await scripted.initialize([encoding])
    scripted.open(URI, "s = (😀😀) + x\n")
    scripted.change(URI, {"range": span(0, 5 + length, 5 + 2 * length), "text": "🦊a"})
    request = await what_the_engine_sees(scripted, 0, 5 + 2 * length + 1)
    assert (request["prefix"], request["suffix"]) == ("s = (😀🦊a", ") + x\n")
    [item] = await scripted.complete(URI, 0, 5 + 2 * length + 1, INVOKED)
    assert item["range"] == span(0, 5 + 2 * length + 1)


async def test_form_feeds_and_line_separators_are_no_line_ends(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, "a = 1\f\nb = '\u2028\x85\v'\nc = \n")
    scripted.insert(URI, 2, 4, "3")
    request = await what_the_engine_sees(scripted, 2, 5)
    assert (request["prefix"], request["suffix"]) == ("a = 1\f\nb = '\u2028\x85\v'\nc = 3", "\n")


async def test_lone_surrogates(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, "a = '\ud83d' + \n")
    assert (await what_the_engine_sees(scripted, 0, 10))["prefix"] == "a = '\ufffd' + "


async def test_a_change_of_the_whole_text(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, "x")
    scripted.change(URI, {"text": "a\nb"}, {"range": span(1, 1), "text": "c"})
    assert (await what_the_engine_sees(scripted, 1, 2))["prefix"] == "a\nbc"


async def test_a_file_of_five_megabytes(scripted: LspClient) -> None:
    await scripted.initialize()
    line = "value = compute(1, 2, 3)  # and so on\n"
    scripted.open(URI, line * (5_000_000 // len(line)))
    scripted.insert(URI, 100_000, 0, "here = ")
    request = await what_the_engine_sees(scripted, 100_000, 7)
    assert request["prefix"].endswith(line + "here = ")
    assert request["suffix"].startswith(line)
    assert len(request["prefix"]) + len(request["suffix"]) < 200_000


async def test_binary_content_gets_nothing_unasked(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, "".join(map(chr, range(256))) * 100)
    assert await scripted.complete(URI, 1, 5) == []
    assert (await what_the_engine_sees(scripted, 1, 5))["prefix"].startswith("\0\1\2")


# ---------------------------------------------------------------- cancelling


async def test_a_cancelled_request_is_answered_and_its_work_stops(scripted: LspClient, tmp_path: Path) -> None:
    await scripted.initialize()
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    scripted.open(URI, script("hello", passes=ENDLESS, started=str(started), stopped=str(stopped)) + "x = ")
    number, answer = scripted.ask(URI, 1, 4)
    await until_exists(started)
    scripted.cancel(number)
    with pytest.raises(LspError) as error:
        await asyncio.wait_for(answer, PATIENCE)
    assert error.value.code == -32800
    await until_exists(stopped)  # without another request, which would stop it too
    await work_has_stopped(scripted)


async def until_exists(file: Path) -> None:
    for _ in range(int(PATIENCE / 0.01)):
        if file.exists():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError(file)


async def work_has_stopped(client: LspClient) -> None:
    before = await counts(client)  # the worker does one thing at a time, so it has come to an end with the other
    await asyncio.sleep(0.1)
    assert (await counts(client))["passes"] == before["passes"] < ENDLESS
    assert before["asked"] == before["filled"] + before["cancelled"]


@pytest.mark.parametrize("uri", [URI, "file:///project/b.py"])
async def test_the_newest_request_wins(scripted: LspClient, uri: str) -> None:
    await scripted.initialize()
    scripted.open("file:///project/b.py", script("quick") + "x = ")
    scripted.open(URI, script("slow", passes=ENDLESS) + "x = ")
    old, answer = scripted.ask(URI, 1, 4)
    await asyncio.sleep(0.1)
    if uri == URI:
        scripted.change(URI, {"text": script("quick") + "y = "})
    new, newest = scripted.ask(uri, 1, 4)
    items = (await asyncio.wait_for(newest, PATIENCE))["items"]
    assert [item["insertText"] for item in items] == ["quick"]
    assert (await answer)["items"] == []
    assert scripted.order.index(old) < scripted.order.index(new)


async def test_an_answer_from_the_cache_does_not_overtake_the_older_request(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open("file:///project/b.py", script("quick") + "x = ")
    scripted.open(URI, script("slow", passes=ENDLESS) + "x = ")
    await scripted.complete("file:///project/b.py", 1, 4)
    for _ in range(20):
        old, _answer = scripted.ask(URI, 1, 4)
        new, newest = scripted.ask("file:///project/b.py", 1, 4)
        assert len((await asyncio.wait_for(newest, PATIENCE))["items"]) == 1
        assert scripted.order.index(old) < scripted.order.index(new)


async def test_nobody_waits_for_the_pass_of_a_superseded_request(scripted: LspClient, tmp_path: Path) -> None:
    await scripted.initialize()
    gate, started = tmp_path / "gate", tmp_path / "started"
    scripted.open("file:///project/b.py", script("quick") + "x = ")
    scripted.open(URI, script("slow", passes=2, gate=str(gate), started=str(started)) + "x = ")
    await scripted.complete("file:///project/b.py", 1, 4)
    _, old = scripted.ask(URI, 1, 4)
    await until_exists(started)
    assert len(await scripted.complete("file:///project/b.py", 1, 4)) == 1
    assert (await asyncio.wait_for(old, PATIENCE))["items"] == []
    gate.touch()  # only now does its first pass end, and it must not go into a second
    done = await counts(scripted)
    assert (done["filled"], done["passes"]) == (1, 2)


async def test_an_edit_makes_the_request_before_it_stale(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("slow", passes=ENDLESS) + "x = ")
    _, answer = scripted.ask(URI, 1, 4)
    await asyncio.sleep(0.05)
    scripted.insert(URI, 1, 4, "y")
    assert (await asyncio.wait_for(answer, PATIENCE))["items"] == []
    await work_has_stopped(scripted)


async def test_a_document_that_is_closed_and_opened_anew_is_another(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open("file:///project/b.py", script("hello") + "x = ")
    for number in range(20):
        scripted.open(URI, script(f"old {number}", passes=20) + "x = ")
        _, answer = scripted.ask(URI, 1, 4)
        scripted.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
        if number % 2:
            scripted.open(URI, "another text")
        assert (await asyncio.wait_for(answer, PATIENCE))["items"] == []
    assert len(await scripted.complete("file:///project/b.py", 1, 4)) == 1


async def test_an_edit_elsewhere_does_not(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello", passes=20) + "x = ")
    scripted.open("file:///project/b.py", "")
    _, answer = scripted.ask(URI, 1, 4)
    scripted.insert("file:///project/b.py", 0, 0, "y")
    assert len((await asyncio.wait_for(answer, PATIENCE))["items"]) == 1


async def test_a_storm_of_requests_leaves_no_backlog(scripted: LspClient) -> None:
    """A thousand keys, each with a request that would work for minutes; no client cancels any."""
    await scripted.initialize()
    scripted.open(URI, script("slow", passes=ENDLESS) + "x = ")
    answers = []
    for typed in range(1000):
        scripted.insert(URI, 1, 4 + typed, "y")
        answers.append(scripted.ask(URI, 1, 5 + typed))
        if typed % 10 == 0:
            await asyncio.sleep(0.01)
    scripted.open("file:///project/b.py", script("quick") + "x = ")
    assert len(await scripted.complete("file:///project/b.py", 1, 4)) == 1
    numbers, answered = zip(*answers, strict=True)
    assert all(answer["items"] == [] for answer in await asyncio.gather(*answered))
    assert tuple(scripted.order[1 : 1 + len(numbers)]) == numbers
    await work_has_stopped(scripted)


# ---------------------------------------------------------------- options


async def test_a_wrong_option_is_named_and_the_rest_kept(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"maxLinez": 3, "steps": "many", "deadlineInvokedMs": 77})
    assert (await scripted.wait_for("window/showMessage", "maxLinez"))["type"] == 2  # a warning
    await scripted.wait_for("window/showMessage", '\\"steps\\"')
    scripted.open(URI, "x = ")
    assert (await what_the_engine_sees(scripted, 0, 4))["deadline_ms"] == 77


@pytest.mark.parametrize("wrap", [lambda options: options, lambda options: {"inpaint": options}])
async def test_options_change_while_running(scripted: LspClient, wrap: Json) -> None:
    await scripted.initialize(initializationOptions=wrap({"steps": 2}))
    scripted.open(URI, "x = ")
    assert (await what_the_engine_sees(scripted, 0, 4))["steps"] == 2
    scripted.notify("workspace/didChangeConfiguration", {"settings": wrap({"steps": 3})})
    assert (await what_the_engine_sees(scripted, 0, 4))["steps"] == 3
    scripted.notify("workspace/didChangeConfiguration", {"settings": None})
    assert (await what_the_engine_sees(scripted, 0, 4))["steps"] == 3


async def test_off_by_language_by_file_and_altogether(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"disabledLanguages": ["markdown"]})
    for uri, language in (("file:///a.md", "markdown"), ("file:///project/.env", "shellscript"), (URI, "python")):
        scripted.open(uri, script("hello") + "x = ", language)
    assert await scripted.complete("file:///a.md", 1, 4, INVOKED) == []
    assert await scripted.complete("file:///project/.env", 1, 4, INVOKED) == []
    assert len(await scripted.complete(URI, 1, 4)) == 1
    scripted.notify("workspace/didChangeConfiguration", {"settings": {"enabled": False}})
    assert await scripted.complete(URI, 1, 4, INVOKED) == []


async def test_the_model_is_told_the_path_within_the_workspace(scripted: LspClient) -> None:
    await scripted.initialize(rootUri="file:///project/project")
    for uri, path in (("file:///project/project/pkg/a%20b.py", "pkg/a b.py"), ("file:///else/c.py", "c.py")):
        scripted.open(uri, "x = ")
        assert (await what_the_engine_sees(scripted, 0, 4, uri))["path"] == path


# ---------------------------------------------------------------- loading


async def test_while_the_model_loads_the_client_sees_progress_and_gets_empty_lists(tmp_path: Path) -> None:
    model = tmp_path / "model"
    async with LspClient.start([*SCRIPTED, "--model", str(model)]) as client:
        await client.initialize(progress=True)
        client.open(URI, script("hello") + "x = ")
        assert await client.complete(URI, 1, 4) == []
        token = (await client.wait_for("window/workDoneProgress/create"))["token"]
        assert (await client.wait_for("$/progress", '"begin"'))["token"] == token
        model.touch()
        assert (await client.wait_for("$/progress", '"end"'))["token"] == token
        assert len(await client.complete(URI, 1, 4)) == 1
        assert await client.leave() == 0


async def test_no_progress_for_clients_that_know_none(tmp_path: Path) -> None:
    model = tmp_path / "model"
    async with LspClient.start([*SCRIPTED, "--model", str(model)]) as client:
        await client.initialize(progress=False)
        client.open(URI, script("hello") + "x = ")
        assert await client.complete(URI, 1, 4) == []
        model.touch()
        while not await client.complete(URI, 1, 4):
            await asyncio.sleep(0.05)
        assert client.received == []


async def test_a_model_that_does_not_load_is_told_in_one_sentence() -> None:
    async with LspClient.start([*SCRIPTED, "--model", "missing"]) as client:
        await client.initialize(progress=True)
        message = await client.wait_for("window/showMessage")
        assert message == {"type": 1, "message": 'Inpaint: The model "missing" is missing: install it again.'}
        client.open(URI, script("hello") + "x = ")
        assert await client.complete(URI, 1, 4) == []
        assert await client.leave() == 0
        assert await client.stderr() == 'inpaint: The model "missing" is missing: install it again.\n'


async def test_another_device_by_option(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"device": "gpu"})
    message = await scripted.wait_for("window/showMessage", "device")
    assert message["message"].endswith('was left as it was: it is one of "auto", "cpu", "cuda", "mps".')
    scripted.notify("workspace/didChangeConfiguration", {"settings": {"device": "cuda"}})
    assert (await scripted.wait_for("window/showMessage", "There is no cuda here"))["type"] == 1
    scripted.open(URI, script("hello") + "x = ")
    assert len(await scripted.complete(URI, 1, 4)) == 1  # where it was before


async def test_another_model_by_option(scripted: LspClient, tmp_path: Path) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello") + "x = ")
    assert len(await scripted.complete(URI, 1, 4)) == 1
    scripted.notify("workspace/didChangeConfiguration", {"settings": {"model": str(tmp_path / "model")}})
    assert await scripted.complete(URI, 1, 4) == []
    (tmp_path / "model").touch()
    scripted.notify("workspace/didChangeConfiguration", {"settings": {"model": "missing"}})
    await scripted.wait_for("window/showMessage", "missing")
    assert len(await scripted.complete(URI, 1, 4)) == 1  # by the one before


# ---------------------------------------------------------------- surviving


async def test_a_failing_engine_is_logged_and_the_server_lives_on(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script(error="out of memory") + "x = ")
    assert await scripted.complete(URI, 1, 4) == []
    scripted.change(URI, {"text": script("hello") + "x = "})
    assert len(await scripted.complete(URI, 1, 4)) == 1
    assert await scripted.leave() == 0
    assert "RuntimeError: out of memory" in await scripted.stderr()


async def test_a_malformed_request_is_answered_with_an_error(scripted: LspClient) -> None:
    await scripted.initialize()
    for params in ({}, {"textDocument": {"uri": URI}, "position": {"line": -1, "character": "x"}, "context": {}}):
        with pytest.raises(LspError):
            await scripted.request("textDocument/inlineCompletion", params)
    with pytest.raises(LspError):
        await scripted.request("textDocument/unheardOf", {})
    scripted.notify("textDocument/didChange", {"nonsense": True})
    scripted.open(URI, script("hello") + "x = ")
    assert len(await scripted.complete(URI, 1, 4)) == 1
    assert await scripted.leave() == 0
    assert "Traceback" not in await scripted.stderr()


async def test_shutdown_and_exit(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello", passes=ENDLESS) + "x = ")
    scripted.ask(URI, 1, 4)
    assert await scripted.leave() == 0
    assert await scripted.stderr() == ""


async def test_an_exit_without_shutdown_is_a_failure(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.notify("exit")
    assert await scripted.gone() == 1
    assert await scripted.stderr() == ""


@pytest.mark.parametrize("started", [False, True])
async def test_a_closed_stdin_is_a_clean_exit(scripted: LspClient, started: bool) -> None:
    if started:
        await scripted.initialize()
        scripted.open(URI, script("hello", passes=ENDLESS) + "x = ")
        _, answer = scripted.ask(URI, 1, 4)
        answer.cancel()  # whether it is answered does not matter
    scripted.close()
    assert await scripted.gone() == 0
    assert not await scripted.stderr()
    assert await scripted.stderr() == ""


# ---------------------------------------------------------------- command line


async def run(*arguments: str) -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "lsp_server", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    out, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode or 0, out.decode(), errors.decode()


async def test_without_arguments_there_is_help() -> None:
    code, out, errors = await run()
    assert (code, errors) == (0, "")
    assert "--stdio" in out


@pytest.mark.parametrize("address", ["2087", "localhost:", "localhost:http", ":1", "localhost:70000"])
async def test_a_wrong_address(address: str) -> None:
    code, _, errors = await run("--tcp", address)
    assert code == 2
    assert "HOST:PORT" in errors.splitlines()[-1]


async def test_a_wrong_device() -> None:
    code, _, errors = await run("--try", "a.py:1:1", "--device", "gpu")
    assert code == 2
    assert "cpu" in errors.splitlines()[-1]


async def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, errors = await run("--tcp", f"127.0.0.1:{taken.getsockname()[1]}")
    assert code == 2
    assert "choose another" in errors
    assert "Traceback" not in errors


# ---------------------------------------------------------------- other documents


async def test_the_engine_sees_the_other_documents_of_the_language_the_last_used_first(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"disabledGlobs": ["*secret*"]})
    scripted.open("file:///project/b.py", "b = 1\r\n")
    scripted.open("file:///project/secret.py", "key = 1\n")
    scripted.open("file:///project/notes.md", "words\n", "markdown")
    scripted.open("file:///project/c.py", "c = 1\n")
    scripted.open(URI, "x = ")
    assert (await what_the_engine_sees(scripted, 0, 4))["related"] == ["c = 1\n", "b = 1\n"]
    scripted.insert("file:///project/b.py", 0, 0, "# ")
    await scripted.complete("file:///project/b.py", 0, 2)
    assert (await what_the_engine_sees(scripted, 0, 4))["related"] == ["# b = 1\n", "c = 1\n"]
    scripted.notify("textDocument/didClose", {"textDocument": {"uri": "file:///project/b.py"}})
    assert (await what_the_engine_sees(scripted, 0, 4))["related"] == ["c = 1\n"]


async def test_what_an_ignore_file_names_is_neither_completed_nor_copied_from(
    scripted: LspClient, tmp_path: Path
) -> None:
    (tmp_path / ".inpaintignore").write_text("private/\n")
    private, public = ((tmp_path / name / "a.py").as_uri() for name in ("private", "public"))
    await scripted.initialize()
    scripted.open(private, "key = 1\n")
    scripted.open(public, "x = ")
    assert (await what_the_engine_sees(scripted, 0, 4, public))["related"] == []
    assert await scripted.complete(private, 0, 6, INVOKED) == []


async def test_files_whose_newer_text_is_open_are_named(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open("file:///project/a.py", "x = ")
    scripted.open("file:///project/b.js", "y = 1", "javascript")
    asked = json.loads((await scripted.complete("file:///project/a.py", 0, 4))[0]["insertText"])
    assert asked["files"] == ["/project/a.py"]  # what is not copied from is as it is on disk
    scripted.insert("file:///project/b.js", 0, 5, "2")
    scripted.insert("file:///project/a.py", 0, 4, "z")
    asked = json.loads((await scripted.complete("file:///project/a.py", 0, 5))[0]["insertText"])
    assert asked["files"] == ["/project/a.py", "/project/b.js"]
    scripted.notify("textDocument/didSave", {"textDocument": {"uri": "file:///project/b.js"}})
    scripted.insert("file:///project/a.py", 0, 5, "z")
    asked = json.loads((await scripted.complete("file:///project/a.py", 0, 6))[0]["insertText"])
    assert asked["files"] == ["/project/a.py"]
