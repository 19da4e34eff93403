"""The process as a whole: it always ends, and on TCP it is one person's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from lsp_client import PATIENCE, SCRIPTED, LspClient, script

URI = "file:///project/a.py"
TCP = SCRIPTED[:-1]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a server that is about to listen."""
    for _ in range(int(PATIENCE / 0.05)):
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
    raise TimeoutError(port)


async def client_of(port: int) -> LspClient:
    client = LspClient(*await connected(port))
    client.reading = asyncio.create_task(client.read())
    return client


# ---------------------------------------------------------------- the end


async def ask_for_ever(client: LspClient, never: Path) -> None:
    """Have the engine begin a pass that does not end."""
    client.open(URI, script("hello", gate=str(never)) + "x = ")
    _, answer = client.ask(URI, 1, 4)
    answer.cancel()
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("way", ["exit", "end of input"])
@pytest.mark.parametrize("hanging", ["load", "pass"])
async def test_a_load_or_a_pass_that_never_returns_does_not_keep_the_process(
    hanging: str, way: str, tmp_path: Path
) -> None:
    never = tmp_path / "never"
    model = ["--model", str(never)] if hanging == "load" else []
    async with LspClient.start([*SCRIPTED, *model]) as client:
        await client.initialize()
        if hanging == "pass":
            await ask_for_ever(client, never)
        if way == "exit":
            assert await client.leave() == 0
        else:
            client.close()
            assert await client.gone() == 0
        assert await client.stderr() == ""


async def test_the_server_ends_with_its_client_even_where_the_input_stays_open(tmp_path: Path) -> None:
    editor = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    async with LspClient.start(SCRIPTED) as client:
        await client.initialize(processId=editor.pid)
        await ask_for_ever(client, tmp_path / "never")
        editor.communicate(b"\n")
        assert await client.gone() == 1


async def test_a_client_in_another_container_has_no_process_to_watch() -> None:
    editor = subprocess.Popen([sys.executable, "-c", ""])
    editor.wait()
    async with LspClient.start(SCRIPTED) as client:
        await client.initialize(processId=editor.pid)
        client.open(URI, script("hello") + "x = ")
        assert len(await client.complete(URI, 1, 4)) == 1
        assert await client.leave() == 0


def test_a_client_that_reads_nothing_does_not_keep_the_process() -> None:
    server = subprocess.Popen(SCRIPTED, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    body = json.dumps({"jsonrpc": "2.0", "id": "x" * 100_000, "method": "no/such"}).encode()
    server.stdin.write((b"Content-Length: %d\r\n\r\n%s" % (len(body), body)) * 10)
    server.stdin.close()
    assert server.wait(PATIENCE) == 0
    server.stdout.close()


# ---------------------------------------------------------------- bytes that are no messages


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"Content-Length: 99999999999\r\n\r\n",
        b"Content-Length: 9\r\n\r\n{}",
        b"Content-Length: 1\r\n\r\n{}",
    ],
)
async def test_what_cannot_be_understood_ends_the_session_with_a_line_and_a_code(
    scripted: LspClient, data: bytes
) -> None:
    await scripted.initialize()
    scripted._writer.write(data)
    scripted.close()
    assert await scripted.gone() == 2
    [*_, line] = (await scripted.stderr()).splitlines()
    assert "cannot be understood" in line


# ---------------------------------------------------------------- TCP


async def refused(port: int, data: bytes) -> None:
    reader, writer = await connected(port)
    writer.write(data)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()


async def test_who_is_no_client_comes_and_goes_and_the_first_client_is_the_only_one() -> None:
    port = free_port()
    async with LspClient.start([*TCP, "--tcp", f"127.0.0.1:{port}"]) as server:
        (await connected(port))[1].close()
        await refused(port, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        await refused(port, b'Content-Length: 35\r\n\r\n{"jsonrpc":"2.0","method":"exit"}   ')
        idle = await client_of(port)
        client = await client_of(port)
        await client.initialize()
        client.open(URI, script("mine") + "x = ")
        with pytest.raises(ConnectionError):
            await idle.request("initialize", {"processId": None, "capabilities": {}})
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        [item] = await client.complete(URI, 1, 4)
        assert item["insertText"] == "mine"
        await client.request("shutdown")
        client.notify("exit")
        assert await server.gone() == 0


@pytest.mark.parametrize("politely", [True, False])
async def test_over_tcp(politely: bool) -> None:
    port = free_port()
    async with LspClient.start([*TCP, "--tcp", f"127.0.0.1:{port}"]) as server:
        client = await client_of(port)
        await client.initialize()
        client.open(URI, script("hello") + "x = ")
        assert len(await client.complete(URI, 1, 4)) == 1
        if politely:
            await client.request("shutdown")
            client.notify("exit")
        else:
            client.close()
        assert await server.gone() == 0
        await client.reading
        assert await server.stderr() == ""


async def test_a_token() -> None:
    port = free_port()
    environment = {**os.environ, "INPAINT_TOKEN": "open sesame"}
    async with LspClient.start([*TCP, "--tcp", f"0.0.0.0:{port}"], env=environment) as server:
        for options in (None, {}, {"token": "open"}, {"token": ["open sesame"]}):
            client = await client_of(port)
            with pytest.raises(ConnectionError):
                await client.request("initialize", {"capabilities": {}, "initializationOptions": options})
        client = await client_of(port)
        await client.initialize(initializationOptions={"token": "open sesame", "steps": 2})
        client.open(URI, script("hello") + "x = ")
        assert len(await client.complete(URI, 1, 4)) == 1
        assert client.received == []  # no word about an unknown option
        client.close()
        assert await server.gone() == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_other_machines_are_served_with_a_token_only(host: str) -> None:
    command: Sequence[str] = [*TCP, "--tcp", f"{host}:{free_port()}"]
    environment = {name: value for name, value in os.environ.items() if name != "INPAINT_TOKEN"}
    async with LspClient.start(command, env=environment) as server:
        assert await server.gone() == 2
        assert "INPAINT_TOKEN" in await server.stderr()


async def test_a_signal_ends_it(tmp_path: Path) -> None:
    async with LspClient.start(SCRIPTED) as client:
        await client.initialize()
        await ask_for_ever(client, tmp_path / "never")
        client.process.send_signal(signal.SIGINT)
        assert await client.gone() == -signal.SIGINT
