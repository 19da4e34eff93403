"""`inpaint/status` and what it is made of: the states, what the last fill cost, what became of the completions."""

from __future__ import annotations

import asyncio
import os
from datetime import date
from pathlib import Path

from lsp_client import INVOKED, SCRIPTED, Json, LspClient, script

URI = "file:///project/a.py"
NOTHING = {"shown": 0, "dismissed": 0, "partlyAccepted": 0, "accepted": 0}


def statuses(client: LspClient) -> list[Json]:
    return [message["params"] for message in client.received if message["method"] == "inpaint/status"]


async def counts(client: LspClient) -> dict[str, int]:
    return (await client.request("inpaint/statistics"))["counts"]


async def accept(client: LspClient, item: Json) -> None:
    command = {"command": item["command"]["command"], "arguments": item["command"]["arguments"]}
    assert await client.request("workspace/executeCommand", command) is None


def tell(client: LspClient, item: Json, kind: str, characters: int | None = None) -> None:
    [identifier] = item["command"]["arguments"]
    client.notify("inpaint/feedback", {"id": identifier, "kind": kind, "characters": characters})


# ---------------------------------------------------------------- states


async def test_from_loading_over_thinking_to_idle(tmp_path: Path) -> None:
    model, gate = tmp_path / "model", tmp_path / "gate"
    async with LspClient.start([*SCRIPTED, "--model", str(model)]) as client:
        await client.initialize(initializationOptions={"status": True})
        first = await client.wait_for("inpaint/status")
        silent = ["reason", "message", "answered", "learned", "latencyMs", "passes", "fromCache", "source", "nextEdit"]
        nothing = dict.fromkeys([*silent, "drafting"])
        assert first.pop("index")["state"] == "none"
        assert [(each["name"], each["there"]) for each in first.pop("models")] == [("base", False), ("large", False)]
        assert first == {"state": "loading", "model": str(model), "counts": NOTHING, **nothing}
        model.touch()
        await client.wait_for("inpaint/status", '"idle"')
        client.open(URI, script("hello", gate=str(gate)) + "x = ")
        _, answer = client.ask(URI, 1, 4)
        await client.wait_for("inpaint/status", '"thinking"')
        gate.touch()
        assert len((await answer)["items"]) == 1
        last = await client.wait_for("inpaint/status", '"shown": 1')
        assert (last["state"], last["passes"], last["fromCache"]) == ("idle", 1, False)
        assert last["latencyMs"] > 0
        assert [status["state"] for status in statuses(client)] == ["loading", "idle", "thinking", "idle"]


async def test_a_failed_completion_is_an_error_until_the_next_one_succeeds(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"status": True})
    scripted.open(URI, script(error="out of memory") + "x = ")
    assert await scripted.complete(URI, 1, 4) == []
    failed = await scripted.wait_for("inpaint/status", '"error"')
    assert failed["message"] == "The last completion failed (RuntimeError: out of memory); the log says more."
    scripted.change(URI, {"text": script("hello") + "x = "})
    assert len(await scripted.complete(URI, 1, 4)) == 1
    last = await scripted.wait_for("inpaint/status", '"shown": 1')
    assert (last["state"], last["message"]) == ("idle", None)


async def test_why_nothing_is_shown(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"status": True, "disabledLanguages": ["markdown"]})
    for name, language, text in (
        ("unsure.py", "python", script("hello", confidence=0.1) + "x = "),
        ("nothing.py", "python", script("") + "x = "),
        (".env", "python", script("hello") + "x = "),
        ("a.md", "markdown", script("hello") + "x = "),
        ("a.c", "c", script("hello") + "x = "),
    ):
        scripted.open(f"file:///project/{name}", text, language)
        assert await scripted.complete(f"file:///project/{name}", 1, 4) == []
    for reason in ("unsure", "nothing", "excluded", "language", "untrained"):
        said = await scripted.wait_for("inpaint/status", f'"reason": "{reason}"')
        assert said["state"] == "idle"
        assert said["message"]
    for name in ("unsure.py", "a.c"):
        assert len(await scripted.complete(f"file:///project/{name}", 1, 4, INVOKED)) == 1
    assert (await scripted.wait_for("inpaint/status", '"shown": 1'))["reason"] is None


async def test_the_status_is_about_the_document_that_is_looked_at(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"status": True})
    await scripted.wait_for("inpaint/status", '"idle"')
    scripted.open(URI, "x = 1")
    scripted.open("file:///project/.env", "x = 1")
    scripted.notify("textDocument/didFocus", {"textDocument": {"uri": "file:///project/.env"}})
    await scripted.wait_for("inpaint/status", '"excluded"')
    scripted.received.clear()
    scripted.notify("textDocument/didFocus", {"textDocument": {"uri": URI}})
    assert (await scripted.wait_for("inpaint/status"))["reason"] is None


async def test_a_model_that_answers_for_another_is_silent_in_languages_of_the_others(
    scripted: LspClient, tmp_path: Path
) -> None:
    await scripted.initialize(initializationOptions={"status": True, "model": str(tmp_path)})
    for model, shown in (("other", 1), ("small", 0)):
        uri = f"file:///project/{model}.lua"
        scripted.open(uri, script("hello", model=model) + "x = ", "lua")
        assert len(await scripted.complete(uri, 1, 4)) == shown
    await scripted.wait_for("inpaint/status", '"untrained"')
    assert len(await scripted.complete(uri, 1, 4, INVOKED)) == 1


async def test_what_was_dismissed_stays_away_until_the_text_is_another(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"status": True})
    scripted.open(URI, script("hello") + "x = ")
    [item] = await scripted.complete(URI, 1, 4)
    tell(scripted, item, "dismissed")
    for typed in range(3):
        assert await scripted.complete(URI, 1, 4 + typed) == []
        scripted.insert(URI, 1, 4 + typed, "hel"[typed])
    await scripted.wait_for("inpaint/status", '"dismissed"')
    assert len(await scripted.complete(URI, 1, 7, INVOKED)) == 1  # asked for by key it is wanted
    assert len(await scripted.complete(URI, 1, 7)) == 1  # and so it is while it is typed
    scripted.insert(URI, 1, 7, "x")
    assert len(await scripted.complete(URI, 1, 8)) == 1


async def test_what_was_dismissed_is_forgotten_when_its_document_is_closed(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(other := "file:///project/b.py", "")
    scripted.open(URI, text := script("hello") + "x = ")
    [item] = await scripted.complete(URI, 1, 4)
    tell(scripted, item, "dismissed")
    scripted.notify("textDocument/didClose", {"textDocument": {"uri": other}})
    assert await scripted.complete(URI, 1, 4) == []
    scripted.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    scripted.open(URI, text)
    [item] = await scripted.complete(URI, 1, 4)
    scripted.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    tell(scripted, item, "dismissed")  # as Escape and the closing may overtake each other
    scripted.open(URI, text)
    assert len(await scripted.complete(URI, 1, 4)) == 1


async def test_figures_by_day_and_language(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello") + "x = ")
    [item] = await scripted.complete(URI, 1, 4)
    tell(scripted, item, "partlyAccepted", 2)
    scripted.insert(URI, 1, 4, "he")
    [item] = await scripted.complete(URI, 1, 6)
    await accept(scripted, item)
    [day] = (await scripted.request("inpaint/statistics"))["days"]
    assert day["day"] == date.today().isoformat()
    assert (day["language"], day["characters"], sum(day["latencies"])) == ("python", 5, 2)
    assert day["counts"] == {**NOTHING, "shown": 1, "accepted": 1}
    await scripted.request("inpaint/resetStatistics")
    assert (await scripted.request("inpaint/statistics"))["days"] == []


async def test_figures_are_on_disk_only_where_that_is_asked_for(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path), "HOME": str(tmp_path)}
    for kept, shown in ((False, 1), (True, 1), (True, 2)):
        async with LspClient.start(SCRIPTED, env=environment) as client:
            await client.initialize(initializationOptions={"statistics": kept})
            client.open(URI, script("hello") + "x = ")
            [item] = await client.complete(URI, 1, 4)
            await accept(client, item)
            [day] = (await client.request("inpaint/statistics"))["days"]
            assert day["counts"]["shown"] == shown
            assert await client.leave() == 0
        assert bool(list(tmp_path.rglob("statistics.json"))) == kept


async def test_an_answer_from_the_cache_costs_no_pass(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"status": True})
    scripted.open(URI, script("hello") + "x = ")
    await scripted.complete(URI, 1, 4)
    scripted.insert(URI, 1, 4, "h")
    await scripted.complete(URI, 1, 5)
    last = await scripted.wait_for("inpaint/status", '"fromCache": true')
    assert (last["state"], last["passes"]) == ("idle", 0)


async def test_off_and_on(scripted: LspClient) -> None:
    await scripted.initialize(initializationOptions={"status": True, "enabled": False})
    await scripted.wait_for("inpaint/status", '"off"')
    scripted.notify("workspace/didChangeConfiguration", {"settings": {"enabled": True}})
    await scripted.wait_for("inpaint/status", '"idle"')


async def test_an_error_comes_with_its_sentence_and_goes_with_another_model(tmp_path: Path) -> None:
    async with LspClient.start([*SCRIPTED, "--model", "missing"]) as client:
        await client.initialize(initializationOptions={"status": True})
        broken = await client.wait_for("inpaint/status", '"error"')
        assert broken["message"] == 'The model "missing" is missing: install it again.'
        client.notify("workspace/didChangeConfiguration", {"settings": {"model": "small"}})
        await client.wait_for("inpaint/status", '"idle"')
        assert (statuses(client)[-1]["message"], statuses(client)[-1]["model"]) == (None, "small")


async def test_clients_that_do_not_ask_for_it_are_not_bothered(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello") + "x = ")
    [item] = await scripted.complete(URI, 1, 4)
    await accept(scripted, item)
    assert await counts(scripted) == NOTHING | {"shown": 1, "accepted": 1}
    assert scripted.received == []


# ---------------------------------------------------------------- what became of the completions


async def test_what_is_typed_through_is_one_completion_with_one_outcome(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello") + "x = ")
    items = []
    for typed in range(3):
        items += await scripted.complete(URI, 1, 4 + typed)
        scripted.insert(URI, 1, 4 + typed, "hello"[typed])
    assert len({item["command"]["arguments"][0] for item in items}) == 1
    tell(scripted, items[0], "partlyAccepted", 2)
    assert await counts(scripted) == NOTHING | {"shown": 1, "partlyAccepted": 1}
    tell(scripted, items[1], "partlyAccepted", 1)
    tell(scripted, items[1], "dismissed")
    assert await counts(scripted) == NOTHING | {"shown": 1, "partlyAccepted": 1}
    await accept(scripted, items[2])
    await accept(scripted, items[2])
    assert await counts(scripted) == NOTHING | {"shown": 1, "accepted": 1}
    [kept] = (await scripted.request("inpaint/statistics"))["completions"]
    assert (kept["outcome"], kept["characters"], kept["confidence"]) == ("accepted", 3, 1.0)
    assert kept["latencyMs"] > 0


async def test_dismissed_and_asked_for_again(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello") + "x = ")
    [item] = await scripted.complete(URI, 1, 4)
    tell(scripted, item, "dismissed")
    assert await counts(scripted) == NOTHING | {"shown": 1, "dismissed": 1}
    [item] = await scripted.complete(URI, 1, 4, INVOKED)
    await accept(scripted, item)
    assert await counts(scripted) == NOTHING | {"shown": 1, "accepted": 1}


async def test_several_that_are_offered_count_as_one(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello", others=["hello", "other(1)", "more"]) + "x = ")
    items = await scripted.complete(URI, 1, 4, INVOKED)
    assert [item["insertText"] for item in items] == ["hello"]  # the same again ends it
    scripted.open(URI, script("hello", others=["other(1)", "more", "and more"]) + "x = ")
    items = await scripted.complete(URI, 1, 4, INVOKED)
    assert [item["insertText"] for item in items] == ["hello", "other(1)", "more"]
    assert await counts(scripted) == NOTHING | {"shown": 2}
    await accept(scripted, items[1])
    assert await counts(scripted) == NOTHING | {"shown": 2, "accepted": 1}
    days = (await scripted.request("inpaint/statistics"))["days"]
    assert [(day["language"], day["characters"]) for day in days] == [("python", len("other(1)"))]


async def test_another_completion_is_another(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, script("hello") + "x = \ny = ")
    [first] = await scripted.complete(URI, 1, 4)
    [second] = await scripted.complete(URI, 2, 4)
    assert first["command"]["arguments"] != second["command"]["arguments"]
    assert (await counts(scripted))["shown"] == 2


async def test_feedback_that_makes_no_sense_is_passed_over(scripted: LspClient) -> None:
    await scripted.initialize()
    senseless = {"id": 1, "kind": "dismissed"}, {"id": "1", "kind": "liked"}, {"type_name": "x", "a b": 1}
    for params in (None, [], {}, *senseless):
        scripted.notify("inpaint/feedback", params)
    scripted.notify("inpaint/feedback", {"id": "no such", "kind": "dismissed"})
    await scripted.request("workspace/executeCommand", {"command": "inpaint.accepted"})
    await scripted.request("workspace/executeCommand", {"command": "inpaint.accepted", "arguments": [["odd"]]})
    assert await counts(scripted) == NOTHING
    assert await scripted.leave() == 0
    assert "Traceback" not in await scripted.stderr()


async def test_where_the_cursor_rests_is_read_ahead(scripted: LspClient) -> None:
    await scripted.initialize()
    scripted.open(URI, "x = 1\n")
    scripted.notify("textDocument/didFocus", {"textDocument": {"uri": URI}, "position": "nowhere"})
    scripted.notify("textDocument/didFocus", {"textDocument": {"uri": URI}, "position": {"line": 0, "character": 4}})
    work: Json = {"readAhead": 0}
    while not work["readAhead"]:
        work = (await scripted.request("inpaint/statistics"))["work"]
        await asyncio.sleep(0.05)
    assert (work["readAhead"], work["requests"]) == (1, 0)
