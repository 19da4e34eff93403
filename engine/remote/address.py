"""What the URL of a model says: a server, and perhaps which of its APIs to use and which of its models.

https://gpu.example                                                    kind and model are found by asking
http://127.0.0.1:8080/infill                                           llama.cpp's API
https://api.example/v1/fim/completions?model=mercury-edit-2            an API, and a model
"""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qs, urlsplit

import msgspec

from engine.contract import EngineError

ENDPOINTS = ("v1/fim/completions", "v1/completions", "infill", "completion", "v1")


class ServerAddress(msgspec.Struct, frozen=True):
    """`base` ends with a slash; `endpoint` and `model` are empty where the URL does not name one."""

    base: str
    host: str
    endpoint: str
    model: str

    @property
    def origin(self) -> str:
        """Scheme, host and port, which a key is for."""
        parts = urlsplit(self.base)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{parts.scheme}://{parts.netloc.removesuffix(f':{parts.port}')}:{port}"

    @property
    def in_the_open(self) -> bool:
        """Whether text goes over a network unencrypted."""
        return self.base.startswith("http:") and not on_this_machine(self.host)


def is_url(model: str) -> bool:
    return model.lower().startswith(("http://", "https://"))


def parse_url(url: str) -> ServerAddress:
    """Raises EngineError where it is no URL of a server."""
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname or ""
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        host = port = ""
    if not host or parts.username is not None or parts.fragment:
        shape = "https://HOST[:PORT][/API][?model=NAME]; a key goes into the environment or a private file"
        raise EngineError(f"the URL of a model is {shape}")
    path = parts.path.strip("/")
    endpoint = next((name for name in ENDPOINTS if path == name or path.endswith(f"/{name}")), "")
    folder = path.removesuffix(endpoint)
    folder = f"{folder.strip('/')}/" if folder.strip("/") else ""
    name = f"[{host}]" if ":" in host else host
    base = f"{parts.scheme.lower()}://{name}{port}/{folder}"
    model = parse_qs(parts.query).get("model", [""])[0]
    return ServerAddress(base, host, "" if endpoint == "v1" else endpoint, model)


def on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
