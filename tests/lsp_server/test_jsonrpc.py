"""The errors of JSON-RPC and the Language Server Protocol, and that one message spoils no other."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lsp_server.completer import Completer
from lsp_server.protocol import InpaintProtocol
from lsp_server.server import create_server
from lsp_server.settings import Settings

Json = Any
INITIALIZE = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"processId": None, "capabilities": {}}}
STATISTICS = {"jsonrpc": "2.0", "id": 1, "method": "inpaint/statistics"}


class Sent(list[Json]):
    """A writer that keeps what the server sends."""

    def write(self, data: bytes) -> None:
        self.append(json.loads(data.partition(b"\r\n\r\n")[2]))

    def close(self) -> None: ...


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def protocol(sent: Sent) -> Iterator[InpaintProtocol]:
    """Of a server without a model."""
    completer = Completer()
    protocol = create_server(completer, Settings()).protocol
    protocol.set_writer(sent)
    yield protocol
    completer.close()


async def tell(protocol: InpaintProtocol, *messages: Json) -> None:
    for message in messages:
        await protocol.receive(message if isinstance(message, bytes) else json.dumps(message).encode())


DEEP = b'{"jsonrpc":"2.0","id":1,"method":"inpaint/statistics","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("message", "code", "identifier"),
    [
        (b"", -32700, None),
        (b"{", -32700, None),
        (b"\xff{}", -32700, None),
        (DEEP, -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":[%s]}' % (b"9" * 10_000), -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":[NaN]}', -32700, None),
        ([], -32600, None),
        ([STATISTICS], -32600, None),
        (1, -32600, None),
        (None, -32600, None),
        ({}, -32600, None),
        ({"id": 1, "method": "inpaint/statistics"}, -32600, 1),
        ({**STATISTICS, "jsonrpc": "1.0"}, -32600, 1),
        ({**STATISTICS, "id": None}, -32600, None),
        ({**STATISTICS, "id": True}, -32600, None),
        ({**STATISTICS, "id": 1.5}, -32600, None),
        ({**STATISTICS, "id": [1]}, -32600, None),
        ({**STATISTICS, "method": 1}, -32600, 1),
        ({**STATISTICS, "method": None}, -32600, 1),
        ({**STATISTICS, "params": "text"}, -32600, 1),
        ({**STATISTICS, "params": 1}, -32600, 1),
        ({"jsonrpc": "2.0", "id": 1}, -32600, 1),
        ({**STATISTICS, "method": "no/such"}, -32601, 1),
        ({**STATISTICS, "method": "textDocument/inlineCompletion"}, -32602, 1),
        ({**STATISTICS, "method": "textDocument/inlineCompletion", "params": []}, -32602, 1),
        ({**STATISTICS, "method": "workspace/executeCommand", "params": {}}, -32602, 1),
        ({**STATISTICS, "method": "textDocument/didClose"}, -32600, 1),
        (INITIALIZE, -32600, 0),
    ],
)
async def test_an_error_for_what_is_no_message(
    protocol: InpaintProtocol, sent: Sent, message: Json, code: int, identifier: Json
) -> None:
    await tell(protocol, INITIALIZE, message, STATISTICS)
    _, error, answer = sent
    assert (error["id"], error["error"]["code"]) == (identifier, code)
    assert "result" in answer


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "initialized"},
        {"jsonrpc": "2.0", "method": "initialized", "params": None},
        {"jsonrpc": "2.0", "method": "no/such"},
        {"jsonrpc": "2.0", "method": "no/such", "params": [1], "more": 2},
        {"jsonrpc": "2.0", "method": "$/no/such", "params": {"jsonrpc": "2.0", "method": "exit", "id": 1}},
        {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": "never asked"}},
        {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": []}},
        {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": {"jsonrpc": "2.0", "result": 1, "id": 1}},
        {"jsonrpc": "2.0", "method": "textDocument/didOpen"},
        {"jsonrpc": "2.0", "method": "workspace/didChangeConfiguration", "params": {"settings": {"id": 1}}},
        {"jsonrpc": "2.0", "id": "never asked", "result": {}},
        {"jsonrpc": "2.0", "id": 7, "error": "broken"},
        {"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": ""}},
    ],
)
async def test_notifications_and_answers_get_no_answer(protocol: InpaintProtocol, sent: Sent, message: Json) -> None:
    await tell(protocol, INITIALIZE, message, STATISTICS)
    assert [answer["id"] for answer in sent if "id" in answer] == [0, 1]
    assert all("result" in answer for answer in sent if "id" in answer)


async def test_look_alikes_within_params_are_values(protocol: InpaintProtocol, sent: Sent) -> None:
    nested = {"jsonrpc": "2.0", "id": 9, "method": "exit", "steps": 3}
    params = {**INITIALIZE["params"], "initializationOptions": {"inpaint": nested}}
    await tell(protocol, {**INITIALIZE, "params": params})
    assert protocol._server.settings.steps == 3
    assert protocol.exit_code is None


async def test_huge_numbers(protocol: InpaintProtocol, sent: Sent) -> None:
    position = {"line": 10**4000, "character": 10**30}
    params = {"textDocument": {"uri": "file:///a.py"}, "position": position, "context": {"triggerKind": 1}}
    request = {"jsonrpc": "2.0", "id": 10**30, "method": "textDocument/inlineCompletion", "params": params}
    await tell(
        protocol, INITIALIZE, request, {**request, "id": 2**53, "params": {**params, "position": {"line": 1e300}}}
    )
    while len(sent) < 3:
        await asyncio.sleep(0.01)
    assert {answer["id"] for answer in sent} == {0, 10**30, 2**53}


async def test_before_initialize(protocol: InpaintProtocol, sent: Sent) -> None:
    await tell(protocol, STATISTICS, {"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": {}})
    assert [(answer["id"], answer["error"]["code"]) for answer in sent] == [(1, -32002)]
    await tell(protocol, {**INITIALIZE, "params": {}}, INITIALIZE)
    assert [answer.get("error", {}).get("code") for answer in sent[1:]] == [-32602, None]


async def test_after_shutdown(protocol: InpaintProtocol, sent: Sent) -> None:
    shutdown = {"jsonrpc": "2.0", "id": 5, "method": "shutdown"}
    await tell(protocol, INITIALIZE, shutdown, STATISTICS, shutdown, INITIALIZE)
    assert [(a["id"], a.get("error", {}).get("code")) for a in sent[1:]] == [
        (5, None), (1, -32600), (5, -32600), (0, -32600),
    ]  # fmt: skip
    assert protocol.exit_code is None
    await tell(protocol, {"jsonrpc": "2.0", "method": "exit"})
    assert protocol.exit_code == 0


async def test_exit_without_a_session(protocol: InpaintProtocol) -> None:
    await tell(protocol, {"jsonrpc": "2.0", "method": "exit"})
    assert protocol.exit_code == 1


def test_deep_nesting_is_deeper_than_the_interpreter_goes() -> None:
    assert DEEP.count(b"[") > sys.getrecursionlimit()
