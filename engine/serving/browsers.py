"""What a web page may not do to a server without keys: ask it from another site, or by a name that it lets point here.

An address or this machine's own name cannot be made to point elsewhere, so these are the names of such a server.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.serving.schema import error, json_response

OURS = ("none", "same-origin")  # of Sec-Fetch-Site; what is no browser does not send it


class OwnPages:
    """Middleware that refuses what other sites' pages ask."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, name = app, socket.gethostname().lower()
        self._names = {"localhost", name, f"{name}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self.app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if not self._is_own(headers.get("host", "")):
                why = "a server without keys is asked by an address or its machine's name, or give it --keys"
                app = json_response(error(why, "invalid_request_error"), 400)
            elif _is_foreign(headers):
                why = "a page of another site may not ask a server without keys"
                app = json_response(error(why, "permission_error"), 403)
        await app(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def _is_foreign(headers: Headers) -> bool:
    origin, host = headers.get("origin"), headers["host"].lower()
    own = origin is None or origin.lower() in (f"http://{host}", f"https://{host}")
    return not own or headers.get("sec-fetch-site", "none") not in OURS
