"""A server that offers two completions, and a third one when asked by key: to see what an editor makes of several.

With the argument `one` it offers one, and three when asked by key. It says that it reads the workspace, for ever.
"""

from __future__ import annotations

import sys

from lsprotocol import types
from pygls.lsp.server import LanguageServer

server = LanguageServer("two-items", "0")
ACCEPTED = "inpaint.accepted"
COUNTS = ("shown", "accepted", "partlyAccepted", "dismissed")
AUTOMATIC, INVOKED = (("urn a",), ("urn a", "ire", "ry")) if "one" in sys.argv else (("urn a", "ire"), ("ry",))


@server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
def complete(ls: LanguageServer, params: types.InlineCompletionParams) -> list[types.InlineCompletionItem]:
    invoked = params.context.trigger_kind is types.InlineCompletionTriggerKind.Invoked
    # without a range VS Code would replace the word before the cursor
    here = types.Range(params.position, params.position)
    return [
        types.InlineCompletionItem(
            insert_text=text, range=here, command=types.Command("Accepted", ACCEPTED, arguments=[text])
        )
        for text in (INVOKED if invoked else AUTOMATIC)
    ]


@server.command(ACCEPTED)
def accepted(ls: LanguageServer, *arguments: str) -> None:
    """Nothing is counted here."""


@server.feature(types.INITIALIZED)
def initialized(ls: LanguageServer, params: types.InitializedParams) -> None:
    index = {"state": "building", "files": 0, "leftOut": {}, "packages": [], "read": 3, "of": 12, "message": None}
    counts = dict.fromkeys(COUNTS, 0)
    ls.protocol.notify("inpaint/status", {"state": "idle", "model": "none", "counts": counts, "index": index})


if __name__ == "__main__":
    server.start_io()
