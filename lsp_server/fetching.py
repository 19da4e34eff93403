"""Fetches a better model where the user says so, beside all answers, and offers that once."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from pathlib import Path

import platformdirs
import psutil
from lsprotocol import types

from engine import AUTO, Cancelled, EngineError, get
from lsp_server.session import InpaintServer

logger = logging.getLogger(__name__)

GET_MODEL = "inpaint.getModel"  # the command that fetches the model whose name is its argument
BETTER, SHIPPED = "base", "small"  # what is offered, to whom is answered by what
ENOUGH = 200  # completions in a session, after which the user may want better ones
YES, NO = "Get it", "Not now"


async def fetch(ls: InpaintServer, name: str) -> None:
    """Fetch and convert a model in a thread of its own, with progress that the user may cancel.

    Raises EngineError with what to do, and Cancelled.
    """
    loop, done, cancelled = asyncio.get_running_loop(), Future[Path](), threading.Event()

    def say(text: str) -> None:
        if cancelled.is_set():
            raise Cancelled
        loop.call_soon_threadsafe(ls.report_progress, token, text)

    def work() -> None:
        try:
            done.set_result(get.get(name, say=say))
        except (EngineError, Cancelled) as error:
            done.set_exception(error)
        except Exception as error:
            logger.exception("%s could not be fetched.", name)
            done.set_exception(EngineError(f"{name} could not be fetched ({type(error).__name__}); the log says more"))

    async with ls.show_progress(title=f"Inpaint: getting {name}", cancellable=True) as token:
        if token:
            ls.work_done_progress.tokens[token].add_done_callback(lambda _: cancelled.set())
        threading.Thread(target=work, name="fetching", daemon=True).start()
        try:
            await asyncio.wrap_future(done)
        finally:
            cancelled.set()  # where the session ends


async def fetch_and_use(ls: InpaintServer, name: str) -> None:
    """The model that answers is loaded anew where it may be another now."""
    try:
        await fetch(ls, name)
    except Cancelled:
        ls.tell(types.MessageType.Info, f"{name} was not fetched. The next time goes on where this stopped.")
    except EngineError as error:
        ls.tell(types.MessageType.Error, str(error))
    else:
        ls.tell(types.MessageType.Info, f"{name} is there.")
        if ls.settings.model.partition(":")[0] in (AUTO, name):
            ls.completer.load(ls.settings.model, ls.settings.device)
            ls.follow_loading()
    ls.announce()


def offer(ls: InpaintServer) -> None:
    """Offer a better one, once, where it is time for that."""
    window = ls.client_capabilities.window
    can_ask = window is not None and window.show_message is not None
    if can_ask and not ls.offered and is_due(ls.fill.model if ls.fill else "", ls.feedback.counts["shown"]):
        ls.offered = True
        ls.fetching = asyncio.ensure_future(fetch_if_wanted(ls))


def is_due(answered: str, shown: int) -> bool:
    """Whether to offer the better model: to who has used the shipped one for a while, once ever, where the machine has
    the memory for it. It counts as offered from then on.
    """
    if answered != SHIPPED or shown < ENOUGH or get.installed(BETTER):
        return False
    offered = platformdirs.user_data_path("inpaint", appauthor=False) / f"{BETTER}.offered"
    if psutil.virtual_memory().available < 2e6 * get.MODELS[BETTER].memory or offered.exists():
        return False
    try:
        offered.parent.mkdir(parents=True, exist_ok=True)
        offered.touch()
    except OSError:
        return False  # and so it would be offered again and again
    return True


async def fetch_if_wanted(ls: InpaintServer) -> None:
    """Ask the user, who is told what it takes."""
    message = f"Inpaint: a better model can be fetched, once. It is {BETTER}, {get.MODELS[BETTER]}."
    actions = [types.MessageActionItem(title=YES), types.MessageActionItem(title=NO)]
    params = types.ShowMessageRequestParams(type=types.MessageType.Info, message=message, actions=actions)
    answer = await ls.window_show_message_request_async(params)
    if answer is not None and answer.title == YES:
        await fetch_and_use(ls, BETTER)
