"""What the server is doing, in one notification for status bars: `inpaint/status`.

Whether a completion is on the screen is the client's knowledge; whether the model loads, works or is broken is ours,
and why there is none where the user looks.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from engine import AUTO
from engine.auto import SMALL
from engine.contract import Drafting
from engine.languages import NAMES
from lsp_server.completer import Completer
from lsp_server.settings import Settings

STATUS = "inpaint/status"
State: TypeAlias = Literal["loading", "idle", "thinking", "off", "error"]
Reason: TypeAlias = Literal["excluded", "language", "untrained", "unsure", "dismissed", "nothing"]
EXPLANATIONS: dict[Reason | None, str | None] = {
    None: None,
    "excluded": "This file is left alone: a pattern for files to leave alone names it.",
    "language": "This language is turned off.",
    "untrained": "The model was not trained on this language. Asked by key, it tries.",
    "unsure": "The model was not sure enough to show what it would write here. Asked by key, it shows it.",
    "dismissed": "What the model would write here was dismissed. Asked by key, it shows it again.",
    "nothing": "The model has nothing to add here.",
}
DRAFTING: dict[Drafting, str | None] = {
    "": None,
    "on": "The model denoises drafts, and verifies them.",
    "off": "The model denoises no drafts: to verify them takes longer than it saves on this machine.",
}
LEARNED = [*dict.fromkeys(NAMES.values())]  # the languages of small; others are said to know all


def learned(model: str) -> list[str] | None:
    """The languages that a model is for, as the protocol names them; None where it is said to know all."""
    return LEARNED if model.partition(":")[0] in (AUTO, SMALL) else None  # auto:FOLDER is for what small is for


def knows(model: str, language: str) -> bool:
    """Whether a model was trained on a language: in another, only who asks by key is answered."""
    known = learned(model)
    return known is None or language in known


def state_of(settings: Settings, completer: Completer, thinking: bool) -> tuple[State, str | None]:
    """The state, and what is wrong where it is an error."""
    loading = completer.loading
    if not settings.enabled:
        return "off", None
    if not loading.done() or loading.cancelled():
        return "loading", None
    if (error := loading.exception()) is not None:
        return "error", str(error)
    if completer.failure is not None and not thinking:
        return "error", completer.failure
    return "thinking" if thinking else "idle", None
