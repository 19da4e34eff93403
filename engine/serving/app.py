"""The routes: three APIs, the models, health, metrics, a page to try it. Errors have OpenAI's shape.

A client that goes away is noticed while its fill runs, which is then cancelled. Nothing of a body is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from engine.contract import EngineError, Refusal
from engine.serving.browsers import OwnPages
from engine.serving.keys import Keys
from engine.serving.llama_cpp import LlamaInfillBody
from engine.serving.mistral import Fim
from engine.serving.openai import Completions
from engine.serving.scheduler import QueueFull
from engine.serving.schema import Answer, BadRequest, CompletionRequest, Head, HttpApi, Json, error, json_response
from engine.serving.service import Service
from engine.serving.workers import WorkerDied

T = TypeVar("T")

APIS: dict[str, HttpApi] = {
    "/v1/completions": Completions(),
    "/v1/fim/completions": Fim(),
    "/infill": LlamaInfillBody(),
}
MOST_BYTES = 2_000_000  # of a body
DRAINED = 100_000_000  # bytes of a body that is refused: clients read no answer before they have sent all
PATIENCE = 10.0  # seconds in which a body has to come
SESSION = "x-session-id"  # Ray Serve routes by this header too
PAGE = Path(__file__).with_name("demo.html")
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
RETRY = {"Retry-After": "1"}


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, kind: str, param: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.param = status, kind, param
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def application(service: Service, keys: Keys) -> Starlette:
    """The ASGI application. Without keys, no web page may ask but its own."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = Starlette(
        routes=[
            *(Route(path, complete, methods=["POST"]) for path in APIS),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/", page),
        ],
        exception_handlers={
            Refused: refused,
            HTTPException: no_route,
            ClientDisconnect: gone,
            Exception: broken,
        },
        middleware=[] if keys else [Middleware(OwnPages)],
        lifespan=lifespan,
    )
    app.state.service, app.state.keys = service, keys
    return app


# ---------------------------------------------------------------- completions


async def complete(request: Request) -> Response:
    service: Service = request.app.state.service
    path, started = request.scope["path"], time.perf_counter()
    try:
        response = await _completed(request, service, APIS[path])
    except (Refused, ClientDisconnect) as refusal:
        service.metrics.answers.labels(path, getattr(refusal, "status", 499)).inc()
        raise
    service.metrics.answers.labels(path, response.status_code).inc()
    service.metrics.seconds.labels(path).observe(time.perf_counter() - started)
    return response


async def _completed(request: Request, service: Service, api: HttpApi) -> Response:
    try:
        user = _user(request)
        _require_json(request)
    except Refused:
        with contextlib.suppress(Refused):
            await _body(request, 0)
        raise
    asked = _questions(api, await _body(request, MOST_BYTES))
    if not service.ready:
        raise Refused(503, service.failure or "the model is loading; try again", "server_error", **RETRY)
    head = Head(secrets.token_hex(12), int(time.time()), service.model)
    session = f"{user}\n{request.headers.get(SESSION, '')[:100]}"
    if asked[0].stream:
        events = _events(service, api, head, asked, user, session)
        first = await _while_there(request, service, _translated(anext(events)))  # or an error would come too late
        return StreamingResponse(_counted(service, first, events), media_type="text/event-stream")
    answering = _answers(service, asked, user, session)
    answers = await _while_there(request, service, _translated(answering))
    return json_response(api.answer(head, asked, answers))


async def _answers(service: Service, asked: list[CompletionRequest], user: str, session: str) -> list[Answer]:
    """In order. As many as there is room for are filled together; where one fails, the others are cancelled."""
    room = asyncio.Semaphore(service.scheduler.concurrency)

    async def answer(question: CompletionRequest) -> Answer:
        async with room:
            return await service.whole(question, user, session)

    answering = [asyncio.ensure_future(answer(question)) for question in asked]
    try:
        return await asyncio.gather(*answering)
    finally:
        for each in answering:
            each.cancel()


async def _events(
    service: Service, api: HttpApi, head: Head, asked: list[CompletionRequest], user: str, session: str
) -> AsyncIterator[bytes]:
    last = []
    for index, question in enumerate(asked):
        async for answer in service.parts(question, user, session):
            yield _event(api.event(head, question, answer, index))
            last += [answer] if answer.finish else []
    if asked[0].usage and (usage := api.usage(head, last)) is not None:
        yield _event(usage)
    yield api.done


def _event(event: Json) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


async def _counted(service: Service, first: bytes, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events; what fails in the middle of them ends them with an error, for the status has been sent."""
    try:
        yield first
        async for event in events:
            yield event
    except (EngineError, WorkerDied, QueueFull) as failure:
        yield _event(error(str(failure) or "the server is overloaded", "server_error"))
    except (asyncio.CancelledError, GeneratorExit):
        service.metrics.cancelled.inc()
        raise


async def _while_there(request: Request, service: Service, work: Awaitable[T]) -> T:
    """The result of the work, which is cancelled where the client goes away. Raises ClientDisconnect then."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            service.metrics.cancelled.inc()
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _translated(work: Awaitable[T]) -> T:
    """The result of the work, or what a client is told of its failure."""
    try:
        return await work
    except QueueFull:
        raise Refused(429, "too many requests wait; try again", "rate_limit_error", **RETRY) from None
    except WorkerDied:
        raise Refused(503, "the worker ended; try again", "server_error", **RETRY) from None
    except Refusal as wrong:
        raise Refused(400, str(wrong), "invalid_request_error") from None
    except EngineError as failure:
        raise Refused(500, str(failure), "server_error") from None


def _questions(api: HttpApi, body: bytes) -> list[CompletionRequest]:
    try:
        return api.requests(body)
    except BadRequest as wrong:
        raise Refused(400, str(wrong), "invalid_request_error", wrong.param) from None
    except msgspec.ValidationError as wrong:
        message, _, param = str(wrong).partition(" - at `$.")
        raise Refused(400, message, "invalid_request_error", param.rstrip("`") or None) from None
    except RecursionError:
        raise Refused(400, "the body is nested too deep", "invalid_request_error") from None
    except (msgspec.DecodeError, ValueError) as wrong:
        raise Refused(400, f"the body is not JSON: {wrong}", "invalid_request_error") from None


def _require_json(request: Request) -> None:
    """Raises Refused. Pages of other sites cannot send this type unasked."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "send the body as Content-Type: application/json", "invalid_request_error")


async def _body(request: Request, most: int) -> bytes:
    """Of at most so many bytes; a longer one is read and thrown away. Raises Refused."""
    parts, size = [], 0
    try:
        with anyio.fail_after(PATIENCE):
            async for part in request.stream():
                size += len(part)
                if size <= most:
                    parts.append(part)
                elif size > DRAINED:
                    break
    except TimeoutError:
        raise Refused(408, "the body did not come in time", "invalid_request_error", Connection="close") from None
    if size > most:
        raise Refused(413, f"the body has more than {most} bytes", "invalid_request_error", Connection="close")
    return b"".join(parts)


# ---------------------------------------------------------------- the others


async def models(request: Request) -> Response:
    _user(request)
    service: Service = request.app.state.service
    model: Json = {"id": service.model, "object": "model", "created": 0, "owned_by": "inpaint"}
    if service.reach:
        model["inpaint"] = {"reach": service.reach}  # characters before and after the cursor that make a difference
    return json_response({"object": "list", "data": [model]})


async def health(request: Request) -> Response:
    service: Service = request.app.state.service
    if not service.ready:
        stuck = any(process.parallel for process in service.scheduler.processes)
        return json_response({"status": "error" if service.failure else "stuck" if stuck else "loading"}, 503)
    busy = {"running": service.scheduler.running, "waiting": service.scheduler.waiting}
    return json_response({"status": "ok", "model": service.model, "replica": service.name, **busy})


async def metrics(request: Request) -> Response:
    _user(request)
    service: Service = request.app.state.service
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def page(request: Request) -> Response:
    return FileResponse(PAGE, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})


# ---------------------------------------------------------------- who asks, and errors


def _user(request: Request) -> str:
    """The name of a key's user; without keys, the address. Raises Refused."""
    keys: Keys = request.app.state.keys
    if not keys:
        return request.client.host if request.client else ""
    user = keys.user(request.headers.get("authorization", ""))
    if user is None:
        raise Refused(401, "give a key of this server: Authorization: Bearer KEY", "authentication_error")
    return user


async def refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refused)
    return json_response(error(str(refusal), refusal.kind, refusal.param), refusal.status, refusal.headers)


async def no_route(request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, HTTPException)
    message = f"{request.method} {request.scope['path']}: {wrong.detail}"
    return json_response(error(message, "invalid_request_error"), wrong.status_code, wrong.headers)


async def gone(request: Request, left: Exception) -> Response:
    return Response(status_code=499)  # nginx's; nobody reads it


async def broken(request: Request, failure: Exception) -> Response:
    return json_response(error("the server failed; its log says more", "server_error"), 500)
