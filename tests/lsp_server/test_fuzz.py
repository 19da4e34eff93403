"""Messages that are made up from a seed, to the real process: it never dies and answers every request once.

6 rounds of a process's life in the suite; `ROUNDS=500 python -m pytest tests/lsp_server/test_fuzz.py` makes more.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from typing import Any

import pytest
from lsp_client import INVOKED, PATIENCE, SCRIPTED, LspClient, script

ROUNDS = int(os.environ.get("ROUNDS", "6"))
MESSAGES = 250  # a round
URI = "file:///project/a.py"
METHODS = (
    "initialize", "initialized", "textDocument/didOpen", "textDocument/didChange", "textDocument/didClose",
    "textDocument/inlineCompletion", "textDocument/didSave", "textDocument/hover", "workspace/didChangeConfiguration",
    "workspace/executeCommand", "workspace/didChangeWorkspaceFolders", "$/cancelRequest", "$/setTrace",
    "inpaint/feedback", "inpaint/statistics", "textDocument/didFocus", "notebookDocument/didOpen", "no/such", "", "\0",
)  # fmt: skip
KEYS = (
    "textDocument", "uri", "languageId", "version", "text", "contentChanges", "range", "start", "end", "line",
    "character", "position", "context", "triggerKind", "settings", "inpaint", "command", "arguments", "id", "kind",
    "jsonrpc", "method", "params", "result", "error", "event", "value", "selectedCompletionInfo", "disabledGlobs",
    "status", "steps", "minConfidence",
)  # fmt: skip
SCALARS = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 1.5, -0.0, 1e300, "", "x", "\ud83d", "é😀", "\r\n", "a" * 999,
    URI, "file:///", "inpaint.accepted", "off",
)  # fmt: skip


def anything(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.random()
    if depth > 4 or kind < 0.5:
        return rng.choice(SCALARS)
    if kind < 0.7:
        return [anything(rng, depth + 1) for _ in range(rng.randrange(3))]
    return {rng.choice(KEYS): anything(rng, depth + 1) for _ in range(rng.randrange(5))}


def plausible(rng: random.Random) -> Any:
    """Params as a client's, in which one thing may be off."""
    number = lambda: rng.choice((0, 1, 2, 7, -1, 2**31, 10**30))  # noqa: E731
    position = {"line": number(), "character": number()}
    span = {"start": position, "end": {"line": number(), "character": number()}}
    params = {
        "textDocument": {"uri": URI, "languageId": "python", "version": 1, "text": rng.choice(("", "x", "a\r\nb\n"))},
        "position": position,
        "context": {"triggerKind": rng.choice((0, 1, 2)), "selectedCompletionInfo": {"range": span, "text": "x"}},
        "contentChanges": [{"range": span, "text": "é\n"}, {"text": "all"}][: rng.randrange(3)],
        "settings": {"steps": rng.randrange(5), "status": rng.random() < 0.5},
        "command": "inpaint.accepted",
        "arguments": [anything(rng)],
        "id": rng.choice(("x", 1, None)),
        "kind": "dismissed",
        "value": "off",
        "event": {"added": [], "removed": []},
    }
    if rng.random() < 0.5:
        params[rng.choice([*params])] = anything(rng)
    return params


def message(rng: random.Random, number: int) -> tuple[bytes, bool]:
    """A message's body, and whether it is a request with that number, which is answered for sure."""
    body = {"jsonrpc": "2.0", "method": rng.choice(METHODS), "params": rng.choice((plausible, anything))(rng)}
    request = rng.random() < 0.5
    if request:
        body["id"] = number
    spoiled = rng.random()
    if spoiled < 0.1:
        return json.dumps(anything(rng)).encode(), False
    if spoiled < 0.2:
        body[rng.choice([*body])] = anything(rng)
        request = request and body.get("id") == number and body["id"] is not True
    encoded = json.dumps(body).encode()
    if spoiled > 0.95:
        at = rng.randrange(len(encoded))
        return encoded[:at] + bytes([rng.randrange(256)]) + encoded[at + 1 :], False
    return encoded, request


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_made_up_messages(seed: int) -> None:
    rng = random.Random(seed)
    async with LspClient.start(SCRIPTED) as client:
        await client.initialize()
        waiting = set[int]()
        for number in range(1000, 1000 + MESSAGES):
            body, request = message(rng, number)
            client._writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            if request:
                waiting.add(number)
                client._waiting[number] = asyncio.get_running_loop().create_future()
        client.notify("workspace/didChangeConfiguration", {"settings": {"enabled": True, "disabledLanguages": []}})
        client.open("file:///else/b.py", script("hello") + "x = ")
        assert len(await client.complete("file:///else/b.py", 1, 4, INVOKED)) == 1
        answered = [answer for answer in client.order if answer in waiting]
        assert sorted(answered) == sorted(set(answered))  # none twice
        for number in waiting - set(answered):
            await asyncio.wait([client._waiting[number]], timeout=PATIENCE)
        assert set(client.order) >= waiting
        assert await client.leave() == 0
        assert "Traceback" not in await client.stderr()
