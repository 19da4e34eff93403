"""pygls, where clients and large files need it otherwise."""

from __future__ import annotations

from typing import Any

from cattrs import Converter
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer
from pygls.protocol import JsonRPCNotification, LanguageServerProtocol, default_converter

# pygls keeps the text of documents too, at tens of milliseconds a key in a large file, and ends by a SystemExit, which
# asyncio reports as a fault when serving on TCP
OURS = (types.TEXT_DOCUMENT_DID_OPEN, types.TEXT_DOCUMENT_DID_CHANGE, types.TEXT_DOCUMENT_DID_CLOSE, types.EXIT)


class Protocol(LanguageServerProtocol):
    """Leaves the methods in OURS to our handlers alone, and answers a request that cannot be read with an error."""

    def __init__(self, server: LanguageServer, converter: Converter) -> None:
        super().__init__(server, converter)
        for method in OURS:
            del self.fm.builtin_features[method]

    def structure_message(self, data: dict[str, Any]) -> Any:
        try:
            return super().structure_message(data)
        except JsonRpcException as error:
            if "id" in data and "method" in data:  # pygls would leave the client waiting
                self._send_response(data["id"], error=error.to_response_error())
            raise


def lenient_converter() -> Converter:
    """pygls' converter, but VS Code's client 9 sends trigger kinds from 0, at which lsprotocol would fail.

    The parameters of our own notifications stay as they come, where pygls would make named tuples of them.
    """
    converter: Converter = default_converter()  # type: ignore[no-untyped-call]
    kinds = types.InlineCompletionTriggerKind
    converter.register_structure_hook(kinds, lambda value, _: kinds.Invoked if value in (0, 1) else kinds.Automatic)
    converter.register_structure_hook(JsonRPCNotification, lambda data, kind: kind(**data))
    return converter
