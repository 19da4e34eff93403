"""A server as a model: `Engine.load("https://gpu.example")`.

While it is away the embedded model answers, and says so in `Fill.instead`; the server is asked again after a while.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Annotated, Any

import msgspec

from engine.contract import DRAWN, Backend, EngineError, Fill, FillRequest, Watch, takes
from engine.plain import plain
from engine.remote.address import ServerAddress, on_this_machine, parse_url
from engine.remote.apis import APIS, Api, InpaintApi, read
from engine.remote.client import Client, HttpResponse, Unreachable
from engine.remote.keys import ENVIRONMENT, key_for, keys_file

REACH = 16_000  # characters before and after the cursor that are sent
PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds until a server that is away is asked again; twice as long each time
PARALLEL = 16  # fills, of a server that passes them on
OURS, LLAMA_CPP = "inpaint", "llamacpp"  # who owns a server's models
INSTEAD = "small"

logger = logging.getLogger(__name__)


class InpaintModelInfo(msgspec.Struct):
    """Ours: the object "inpaint" of a model."""

    reach: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] = REACH


class ModelEntry(msgspec.Struct):
    id: str = ""
    owned_by: str | None = None
    inpaint: msgspec.Raw = msgspec.Raw(b"{}")


class ModelList(msgspec.Struct):
    data: Annotated[list[ModelEntry], msgspec.Meta(min_length=1)]


class ServerInfo(msgspec.Struct, frozen=True):
    """What a server is: its API, the model to ask for, how far that sees."""

    kind: Api
    model: str
    reach: int = REACH


class Remote(Backend):
    """See engine.contract.Backend. `served` is None until the server has been asked what it is."""

    parallel = PARALLEL

    def __init__(self, address: ServerAddress, client: Client) -> None:
        self._address, self._client = address, client
        self.served: ServerInfo | None = None
        self._instead: Backend | None = None
        self._away = ""  # why
        self._pause, self._until = PAUSE, 0.0

    @classmethod
    def load(cls, url: str) -> Remote:
        """Raises EngineError where the URL is none, or the server refuses us; not where it is away."""
        address = parse_url(url)
        remote = cls(address, Client(address.base, key_for(address), on_this_machine(address.host)))
        try:
            remote.served = remote.ask(threading.Event())
        except Unreachable as reason:
            remote._gone(reason)
        return remote

    @property
    def reach(self) -> int:
        """See Engine.reach."""
        return self.served.reach if self.served else REACH

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        """See Engine.fill. Nothing is told before the end."""
        takes(request, *DRAWN)
        if time.monotonic() < self._until:
            return self._filled_instead(request, cancel)
        try:
            self.served = self.served or self.ask(cancel)
            fill = self._filled(self.served, request, cancel)
        except Unreachable as reason:
            self._gone(reason)
            return self._filled_instead(request, cancel)
        self._away, self._pause = "", PAUSE
        return fill

    def _filled(self, served: ServerInfo, request: FillRequest, cancel: threading.Event) -> Fill:
        started = time.perf_counter()
        prefix, suffix = request.prefix[-served.reach :], request.suffix[: served.reach]
        body = served.kind.body(msgspec.structs.replace(request, prefix=prefix, suffix=suffix), served.model)
        answer = self._client.ask(served.kind.endpoint, cancel, body)
        self._check(answer)
        return read(served.kind, request, answer.body, time.perf_counter() - started)

    def _gone(self, reason: Unreachable) -> None:
        if not self._away:
            logger.warning("%s is away (%s): %s answers until it is back", self._address.host, reason, INSTEAD)
        self._away = f"{self._address.host} is away ({reason}): {INSTEAD} answers until it is back."
        pause, self._pause = reason.pause or self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._until = time.monotonic() + pause

    def _filled_instead(self, request: FillRequest, cancel: threading.Event) -> Fill:
        if self._instead is None:
            from engine.embedded import Embedded  # here, so that a server that is there costs no onnxruntime

            self._instead = Embedded.load(INSTEAD)
        return msgspec.structs.replace(self._instead.fill(request, cancel), instead=self._away)

    # ------------------------------------------------------------ what the server is

    def ask(self, cancel: threading.Event) -> ServerInfo:
        """What the server is; nothing of the user's is sent. Raises Unreachable, Cancelled and EngineError."""
        first = self._model(cancel)
        owner, model = first.owned_by, self._address.model or first.id
        if self._address.endpoint and not (owner == OURS and self._address.endpoint == InpaintApi.endpoint):
            return ServerInfo(APIS[self._address.endpoint], model)
        if owner == OURS:
            return ServerInfo(InpaintApi(), model, self._reach(first))
        if owner == LLAMA_CPP:
            return ServerInfo(APIS["infill" if self._takes("infill", LLAMA_GAP, cancel) else "completion"], model)
        fim = self._takes("v1/fim/completions", GAP | ({"model": model} if model else {}), cancel)
        return ServerInfo(APIS["v1/fim/completions" if fim else "v1/completions"], model)

    def _model(self, cancel: threading.Event) -> ModelEntry:
        """The first one; one without a name where the server has no list."""
        answer = self._client.ask("v1/models", cancel)
        if answer.status in (401, 403):
            self._check(answer)
        try:
            return msgspec.json.decode(answer.body, type=ModelList).data[0]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ModelEntry()

    def _reach(self, model: ModelEntry) -> int:
        try:
            return msgspec.json.decode(model.inpaint, type=InpaintModelInfo).reach
        except msgspec.DecodeError as error:
            raise EngineError(f"{self._address.host} says nonsense of its model ({error}): start it again") from None

    def _takes(self, endpoint: str, body: dict[str, Any], cancel: threading.Event) -> bool:
        return self._client.ask(endpoint, cancel, body).status < 400

    def _check(self, answer: HttpResponse) -> None:
        """Raises EngineError where the server refuses, with its own words."""
        if answer.status < 300:
            return
        host = self._address.host
        if answer.status in (401, 403):
            name = self._address.origin
            raise EngineError(f"{host} wants a key: put {name}=KEY into {ENVIRONMENT}, or a line into {keys_file()}")
        if answer.status == 404:
            raise EngineError(f"{host} has no such API: name another in its URL, such as /v1/completions")
        raise EngineError(f"{host} refused (status {answer.status}): {_words(answer.body)}")


GAP = {"prompt": "def f(", "suffix": ")", "max_tokens": 1}
LLAMA_GAP = {"input_prefix": "def f(", "input_suffix": ")", "n_predict": 1}


def _words(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body)["error"]
        return plain(str(error["message"] if isinstance(error, dict) else error)[:200])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError):
        return "it does not say why"
