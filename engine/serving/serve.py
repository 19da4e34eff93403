"""`python -m engine serve`: the HTTP server on one machine."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import uvicorn

from engine.contract import EngineError
from engine.options import ModelChoice
from engine.remote.address import on_this_machine
from engine.serving.app import application
from engine.serving.connections import BATCH, LARGEST_HEAD, Connection, most_connections
from engine.serving.keys import ENVIRONMENT, Keys
from engine.serving.service import Service
from engine.serving.workers import command, default_count

DRAINING = 10  # seconds for what runs to end after SIGTERM

logger = logging.getLogger(__name__)


def serve(
    host: str, port: int, choice: ModelChoice, workers: int | None, queue: int, keys: Path | None, open_to_all: bool
) -> None:
    """Serve until SIGINT or SIGTERM. Raises EngineError where it cannot: no model, a taken port, no keys."""
    known = keys_for(host, keys, open_to_all)
    service = Service(choice.model, command(choice), workers or default_count(choice), queue)
    asyncio.run(serve_on(listening(host, port), service, known))


def keys_for(host: str, file: Path | None, open_to_all: bool) -> Keys:
    """Raises EngineError where other machines may reach the address and there are no keys."""
    known = Keys.read(file)
    if not (known or open_to_all or on_this_machine(host)):
        needed = f"give --keys FILE, or keys in {ENVIRONMENT}, or --no-keys"
        raise EngineError(f"{host} can be reached from other machines: {needed}")
    return known


async def serve_on(listener: socket.socket, service: Service, keys: Keys) -> None:
    """Serve until a signal. Raises EngineError where no worker can load the model."""
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        application(service, keys),
        http=Connection,
        backlog=BATCH,
        ws="none",
        h11_max_incomplete_event_size=LARGEST_HEAD,
        limit_concurrency=most_connections(len(service.scheduler.processes)),
        log_level="error",  # warnings are of clients, who could fill the log
        timeout_graceful_shutdown=DRAINING,
        timeout_keep_alive=75,
        server_header=False,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    await asyncio.wait({serving, asyncio.create_task(service.settled.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if service.failure is not None:
        server.should_exit = True
    elif not serving.done():
        listener.listen(2048)  # who waits to be accepted, where the server has said a batch
        place = f"[{host}]" if ":" in host else host
        logger.info("%s is served on http://%s:%d", service.model, place, port)
    failure = service.failure
    await serving
    if failure is not None:
        raise EngineError(failure)


def listening(host: str, port: int) -> socket.socket:
    """Raises EngineError where the address is taken, or none of this machine."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise EngineError(f"cannot listen on {host} port {port} ({error}): choose another --host or --port") from None
    # connections inherit it: asyncio would set it for sockets alone that name their protocol, and these do not, so that
    # the second part of each answer waited 40 ms for the client's acknowledgement of the first
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
