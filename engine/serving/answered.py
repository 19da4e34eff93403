"""For Ray Serve's proxies: a request whose replica died is answered by 503, where Ray itself has no words but 500.

A proxy takes `middlewares` by its path from RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH in the cluster's environment.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.serving.schema import error, json_response

PATH = "engine.serving.answered:middlewares"
GONE = error("the replica that worked at this has gone; try again", "server_error")


class Answered:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = scope["type"] != "http"

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        await self.app(scope, receive, noted)
        if not begun:
            await json_response(GONE, 503, {"Retry-After": "1"})(scope, receive, send)


def middlewares() -> list[Middleware]:
    return [Middleware(Answered)]
