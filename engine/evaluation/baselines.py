"""What the language server is held against: the same server on another engine, the copies or the model alone."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import msgspec

from engine import Engine, Fill, FillRequest
from engine.contract import TokenSpan, confidence
from engine.retrieval import copying
from engine.retrieval.copy_weights import prior
from engine.tokenizer import EOM, Tokenizer

SERVE = """\
import sys
from {module} import {load}
from lsp_server.__main__ import main
sys.exit(main(sys.argv[1:], {load}))
"""

SERVE_WITHOUT = """\
import sys
from lsp_server import postprocess
from lsp_server.__main__ import main
postprocess.RULES = tuple(each for each in postprocess.RULES if each is not postprocess.{name})
postprocess.{name} = lambda fill: fill.text  # who cuts a fill by its doubts is none of them
sys.exit(main(sys.argv[1:]))
"""


def server(load: str) -> tuple[str, ...]:
    """The command of a language server on an engine that a function of this module loads."""
    return (sys.executable, "-c", SERVE.format(module=__name__, load=load), "--stdio")


def server_without(name: str) -> tuple[str, ...]:
    """The command of the language server without one of its rules."""
    return (sys.executable, "-c", SERVE_WITHOUT.format(name=name), "--stdio")


def rules() -> list[str]:
    """The names of the server's rules."""
    command = (
        "from lsp_server import postprocess as p; print(*(e.__name__ for e in (p.without_doubtful_lines, *p.RULES)))"
    )
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()


def model_alone(model: str, device: str, **options: Any) -> Alone:
    return Alone(Engine.load(model, device, **options))


def copies_alone(model: str, device: str, **options: Any) -> Copies:
    from engine.embedded import WEIGHTS

    return Copies(Tokenizer.load(WEIGHTS / "small" / "tokenizer.json"))


class Alone:
    """An engine that copies nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.reach = engine, engine.reach

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill:
        return self._engine.fill(msgspec.structs.replace(request, copies=False), cancel)

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        return self._engine.read(request, cancel)


class Copies:
    """Says what stood after the longest match, to the end of the line, and has no model."""

    reach = copying.REACH

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill:
        blank = self._tokenizer.split_blank(request.prefix)[1]
        copier = copying.Copier(request, self._tokenizer, blank)
        text, pieces, ended, tokens = "", [], False, list[int]()
        while not ended and len(tokens) < request.max_tokens and (copy := copier.next) is not None:
            ended = copy.token == EOM or self._tokenizer.starts_line(copy.token)
            if not ended:
                tokens.append(copy.token)
                text = self._tokenizer.decode(tokens)[len(blank) :]
            share = prior(copy.evidence)
            pieces.append(TokenSpan(len(text), share, share))
            copier.advance([copy.token])
        return Fill(
            text=text,
            confidence=confidence(piece.probability for piece in pieces) if text else 0.0,
            passes=0,
            tokens=len(tokens),
            encoded=0,
            reused=0,
            encode_ms=0.0,
            decode_ms=0.0,
            complete=True,
            pieces=(*pieces, *[TokenSpan(len(text), 1.0)] * (not ended)),
        )

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        return True
