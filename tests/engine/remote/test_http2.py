"""A server that speaks HTTP/2 alone."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
import trustme

from engine import Cancelled, Engine, FillRequest

ANSWERS = {
    "/v1/models": {"data": [{"id": "coder", "owned_by": "vllm"}]},
    "/v1/completions": {"choices": [{"text": "ab", "finish_reason": "stop"}]},
}
HELD = "held"  # a prompt that is not answered
PATIENCE = 60.0


class Http2Server:
    """Counts connections; `held` and `reset` tell that a request is not answered, and that it was given up."""

    def __init__(self, certificate: trustme.LeafCert) -> None:
        self.connections, self.held, self.reset = 0, threading.Event(), threading.Event()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.set_alpn_protocols(["h2"])
        certificate.configure_cert(self._tls)

    async def listen(self) -> int:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return int(server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        paths: dict[int, str] = {}
        bodies: dict[int, bytes] = {}
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    paths[event.stream_id] = dict(event.headers)[b":path"].decode()
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self._answer(
                        connection, event.stream_id, paths[event.stream_id], bodies.get(event.stream_id, b"{}")
                    )
                elif isinstance(event, h2.events.StreamReset):
                    self.reset.set()
            writer.write(connection.data_to_send())
        writer.close()

    def _answer(self, connection: h2.connection.H2Connection, stream: int, path: str, body: bytes) -> None:
        if json.loads(body).get("prompt") == HELD:
            self.held.set()
            return
        connection.send_headers(stream, [(":status", "200" if path in ANSWERS else "404")])
        connection.send_data(stream, json.dumps(ANSWERS.get(path, {})).encode(), end_stream=True)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Http2Server]]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    made, loop = Http2Server(authority.issue_cert("localhost")), asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    port = asyncio.run_coroutine_threadsafe(made.listen(), loop).result(PATIENCE)
    yield f"https://localhost:{port}", made
    loop.call_soon_threadsafe(loop.stop)


def test_all_requests_share_a_connection_and_a_cancelled_one_leaves_it_open(server: tuple[str, Http2Server]) -> None:
    url, theirs = server
    engine = Engine.load(url)
    for _ in range(2):
        assert engine.fill(FillRequest(prefix="p", suffix="s"), threading.Event()).text == "ab"
    cancel = threading.Event()
    held = ThreadPoolExecutor(1).submit(engine.fill, FillRequest(prefix=HELD), cancel)
    assert theirs.held.wait(PATIENCE)
    cancel.set()
    with pytest.raises(Cancelled):
        held.result(PATIENCE)
    assert theirs.reset.wait(PATIENCE)
    assert engine.fill(FillRequest(prefix="p"), threading.Event()).text == "ab"
    assert theirs.connections == 1
