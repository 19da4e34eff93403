"""The log: on stderr what is wrong, for the editor to show; in a rotating file also each request with its times.

The file is for bug reports, so it never has text of the user's: of other messages than our own about requests it keeps
what is written in the program and not what was put in, and of an exception its type and places.
"""

from __future__ import annotations

import logging
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import platformdirs

JOURNAL = "lsp_server.requests"  # the logger whose messages hold numbers only
SIZE, KEPT = 1 << 20, 3  # bytes of a file, and older ones


def default_file() -> Path:
    return Path(platformdirs.user_log_path("inpaint", appauthor=False)) / "server.log"


def set_up(file: Path | None) -> None:
    """Log to stderr, and to a file where one is given; one that cannot be written is done without."""
    logging.basicConfig(format="inpaint: %(message)s")
    logging.raiseExceptions = False  # nor do a full disk and a closed stderr matter
    logging.getLogger("pygls").setLevel(logging.CRITICAL)  # it logs a traceback for every malformed message
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(file, maxBytes=SIZE, backupCount=KEPT, encoding="utf-8")
    except OSError:
        return
    handler.setFormatter(RedactingFormatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    requests = logging.getLogger(JOURNAL)
    requests.setLevel(logging.INFO)
    logging.getLogger().handlers[0].setLevel(logging.WARNING)


class RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        kept = logging.makeLogRecord(record.__dict__)
        if record.name != JOURNAL:
            kept.args = None
        kept.exc_text = None
        return super().format(kept)

    def formatException(self, ei: Any) -> str:  # noqa: N802 logging's
        kind, _, trace = ei
        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(trace)]
        return f"{kind.__name__} at {' < '.join(reversed(places))}"
