"""pygls, where clients, large files and the JSON-RPC specification need it otherwise.

Messages are judged here, before pygls sees them: what is no message gets the error that the specification names, and
what comes before `initialize` or after `shutdown` that of the Language Server Protocol.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, NoReturn

import msgspec
from cattrs import Converter
from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from pygls.protocol import JsonRPCNotification, JsonRPCRequestMessage, LanguageServerProtocol, default_converter

from lsp_server.buffers import well_formed
from lsp_server.messages import OWN, TEXT, RpcMessage

logger = logging.getLogger(__name__)

# pygls keeps the text of documents too, at tens of milliseconds a key in a large file, and ends by a SystemExit, which
# asyncio reports as a fault when serving on TCP
LEFT_TO_US = (*TEXT, types.EXIT)
Code = types.ErrorCodes


def names_a_request(params: Any) -> bool:
    """Whether these params name a request; the library looks the id up as it is, be it a list."""
    return isinstance(params, dict) and isinstance(params.get("id"), (str, int))


class RefusedMessage(Exception):
    """A message that is none, or comes at the wrong time: its answer's id, the error's code and its sentence."""

    def __init__(self, identifier: str | int | None, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.identifier, self.code = identifier, code


class InpaintProtocol(LanguageServerProtocol):
    """Leaves the methods in LEFT_TO_US to our handlers alone; every request gets one answer."""

    def __init__(self, server: LanguageServer, converter: Converter) -> None:
        super().__init__(server, converter)
        self.exit_code: int | None = None  # once the client has said `exit`
        self._initialized = False
        for method in LEFT_TO_US:
            self.fm.builtin_features.pop(method, None)

    async def receive(self, body: bytes | bytearray) -> None:
        """Handle a message; answer one that is none with an error. One with text is done with when this returns."""
        try:
            text = text_message(body)
            if text is None:
                message = parse_message(body)
                if message.get("method") in TEXT and "id" not in message:
                    # with a lone surrogate, which msgspec refuses
                    text = text_message(well_formed(json.dumps(message, ensure_ascii=False)).encode())
            if text is None:
                self._take(message)
            elif self._timely(text.method, None):
                await asyncio.sleep(0)  # for a long one that took a while, and the next step takes as long
                await self._take_text(text)
        except RefusedMessage as refused:
            logger.error("a message was refused: %s", refused)
            error = {"code": refused.code.value, "message": str(refused)}
            self._send_data({"jsonrpc": "2.0", "id": refused.identifier, "error": error})

    def _take(self, message: dict[str, Any]) -> None:
        method, identifier = message.get("method"), message.get("id")
        if method is None:
            if identifier in self._request_futures:
                self._take_answer(message)
            return
        if not self._timely(method, identifier):
            return
        if method in TEXT:
            raise RefusedMessage(identifier, Code.InvalidRequest, f"{method} is a notification")
        try:
            structured = self.structure_message(message)
        except JsonRpcInvalidParams:
            sentence = f"the params of {method[:80]} are not those of the protocol"
            if identifier is not None:
                raise RefusedMessage(identifier, Code.InvalidParams, sentence) from None
            logger.error("a message was left alone: %s", sentence)
            return
        if identifier is not None and not hasattr(structured, "id"):
            raise RefusedMessage(identifier, Code.InvalidRequest, f"{method} is a notification")
        if method == types.CANCEL_REQUEST and not names_a_request(message.get("params")):
            logger.error("a message was left alone: what %s cancels is no request's id", method)
            return
        self._initialized = self._initialized or method == types.INITIALIZE
        self.handle_message(structured)

    async def _take_text(self, message: RpcMessage) -> None:
        try:
            await self.fm.features[message.method](msgspec.json.decode(message.params, type=TEXT[message.method]))
        except (ValueError, RecursionError, msgspec.DecodeError) as error:
            logger.error("the params of %s are not those of the protocol: %s", message.method, error)

    def _timely(self, method: str, identifier: str | int | None) -> bool:
        """Whether it is the time for a message. Raises RefusedMessage for a request when it is not."""
        if method == types.EXIT or (self._initialized and not self._shutdown and method != types.INITIALIZE):
            return True
        if not self._initialized and method == types.INITIALIZE and not self._shutdown:
            return True
        if identifier is None:
            return False
        if self._shutdown:
            raise RefusedMessage(identifier, Code.InvalidRequest, "the server has been shut down: exit comes next")
        if self._initialized:
            raise RefusedMessage(identifier, Code.InvalidRequest, "the server has been initialized already")
        raise RefusedMessage(identifier, Code.ServerNotInitialized, "the first request must be initialize")

    def _take_answer(self, message: dict[str, Any]) -> None:
        """An answer to one of our requests; one that is none counts as none."""
        try:
            answer = message if "error" in message else {"result": None, **message}
            self.handle_message(self.structure_message(answer))
        except JsonRpcException:
            self._request_futures.pop(message["id"]).cancel()

    def structure_message(self, data: dict[str, Any]) -> Any:
        """The message as an object of its type. Raises JsonRpcInvalidParams."""
        try:
            structured = super().structure_message(data)
            if kind := OWN.get(data.get("method", "")):
                structured.params = msgspec.convert(structured.params, kind)
        except (JsonRpcException, msgspec.ValidationError) as error:
            raise JsonRpcInvalidParams(str(error)) from None
        return structured


def text_message(body: bytes | bytearray) -> RpcMessage | None:
    """The message, if it is a notification of a text."""
    try:
        message = msgspec.json.decode(body, type=RpcMessage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    ours = message.method in TEXT and message.jsonrpc == "2.0" and message.id is msgspec.UNSET
    return message if ours else None


def parse_message(body: bytes | bytearray) -> dict[str, Any]:
    """The message, with `params` where it is one of ours to read. Raises RefusedMessage."""
    try:
        message = json.loads(body.decode(), parse_constant=no_number)
    except (ValueError, RecursionError):  # no UTF-8, no JSON, a number of thousands of digits, nested a thousand deep
        raise RefusedMessage(None, Code.ParseError, "a message is no JSON that can be read") from None
    if not isinstance(message, dict):
        what = "batches are no part of this protocol" if isinstance(message, list) else "a message is an object"
        raise RefusedMessage(None, Code.InvalidRequest, what)
    identifier = message.get("id")
    known = identifier if isinstance(identifier, str | int) and not isinstance(identifier, bool) else None
    if message.get("jsonrpc") != "2.0":
        raise RefusedMessage(known, Code.InvalidRequest, 'a message has "jsonrpc": "2.0"')
    if "id" in message and known is None and message.keys() != {"jsonrpc", "id", "error"}:
        raise RefusedMessage(None, Code.InvalidRequest, "an id is a string or a whole number")
    if "method" not in message:
        if known is None or message.keys() & {"result", "error"}:
            return message
        raise RefusedMessage(known, Code.InvalidRequest, "a message has a method, a result or an error")
    if not isinstance(message["method"], str):
        raise RefusedMessage(known, Code.InvalidRequest, "a method is a string")
    if not isinstance(message.setdefault("params"), dict | list | None):
        raise RefusedMessage(known, Code.InvalidRequest, "params are an object or an array")
    if message["method"] == types.INITIALIZED and message["params"] is None:
        message["params"] = {}
    return message


def no_number(text: str) -> NoReturn:
    raise ValueError(text)  # NaN and Infinity, which JSON does not have


def lenient_converter() -> Converter:
    """pygls' converter, but VS Code's client 9 sends trigger kinds from 0, at which lsprotocol would fail.

    The parameters of our own methods stay as they come, where pygls would make named tuples of them.
    """
    converter: Converter = default_converter()  # type: ignore[no-untyped-call]
    kinds = types.InlineCompletionTriggerKind
    converter.register_structure_hook(kinds, lambda value, _: kinds.Invoked if value in (0, 1) else kinds.Automatic)
    for kind in (JsonRPCNotification, JsonRPCRequestMessage):
        converter.register_structure_hook(
            kind, lambda data, kind: kind(**{name: data[name] for name in kind.__annotations__})
        )
    return converter
