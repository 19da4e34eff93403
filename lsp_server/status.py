"""What the server is doing, in one notification for status bars: `inpaint/status`.

Whether a completion is on the screen is the client's knowledge; whether the model loads, works or is broken is ours.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from lsp_server.completer import Completer
from lsp_server.feedback import Outcome
from lsp_server.settings import Settings

STATUS = "inpaint/status"
State: TypeAlias = Literal["loading", "idle", "thinking", "off", "error"]


class Cost(NamedTuple):
    """What a fill has cost: from the request's arrival to its answer; no passes where it came from the cache."""

    latency_ms: float
    passes: int


def status(
    settings: Settings, completer: Completer, thinking: bool, cost: Cost | None, counts: dict[Outcome, int]
) -> dict[str, Any]:
    """The parameters of the notification; `cost` is that of the last fill."""
    state, message = state_of(settings, completer, thinking)
    return {
        "state": state,
        "message": message,
        "model": settings.model,
        "latencyMs": cost and round(cost.latency_ms, 2),
        "passes": cost and cost.passes,
        "fromCache": cost and cost.passes == 0,
        "counts": dict(counts),
    }


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
