"""The server with a scripted engine in the model's place, for tests of the protocol and not of the text.

    python tests/lsp_server/scripted_server.py --stdio

A document's first line is the engine's script, JSON in a comment: `#{"text": "x"}` fills with x; `"confidence"` is the
fill's; `"passes"` of 5 ms each are worked first, looking at the cancel event before each; a pass lasts until the file
`"gate"` exists, if one is named; `"started"` is a file to make in a pass, `"stopped"` one to make when cancelled;
`"others"` are the fills of who asks for others; `"error"` is raised; `"copied"` is the document's line that the fill is
said to be copied from; `"model"` is who has filled; `"echo"` fills with `_` and the line up to the cursor; `"report"`
fills with the counts of what the engine has done. Without a script the fill is the request itself, as JSON.
A model is fetched by waiting for the file `come` in the folder of the models.
A model whose name is a path loads once there is a file, and "missing" does not load, nor does any on the device cuda.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import msgspec

from engine import Cancelled, EngineError, Fill, FillRequest, get
from engine.contract import Source
from lsp_server.__main__ import main

PASS = 0.005


class Script(msgspec.Struct, forbid_unknown_fields=True):
    text: str = ""
    confidence: float = 1.0
    passes: int = 1
    gate: str = ""
    started: str = ""
    stopped: str = ""
    others: list[str] = []
    error: str = ""
    copied: int = 0
    model: str = ""
    echo: bool = False
    report: bool = False


class Counts(msgspec.Struct):
    asked: int = 0
    filled: int = 0
    cancelled: int = 0
    passes: int = 0


class ScriptedEngine:
    reach = sys.maxsize

    def __init__(self) -> None:
        self.counts = Counts()

    def fill(self, request: FillRequest, cancel: threading.Event) -> Fill:
        first = request.prefix.partition("\n")[0]
        script = msgspec.json.decode(first[1:], type=Script) if first.startswith("#{") else None
        if request.others:
            known = script.others[len(request.others) - 1 :] if script else []
            return fill_with(known[0] if known else "", 1.0)
        if script is None:
            return fill_with(msgspec.json.encode(request).decode(), 1.0)
        if script.report:
            return fill_with(msgspec.json.encode(self.counts).decode(), 1.0)
        self.counts.asked += 1
        for _ in range(script.passes):
            self.work(script, cancel)
        if script.error:
            raise RuntimeError(script.error)
        self.counts.filled += 1
        line = request.prefix.rpartition("\n")[2]
        source = Source(request.files[0], script.copied) if script.copied else None
        filled = fill_with(f"_{line}" if script.echo else script.text, script.confidence, source)
        return msgspec.structs.replace(filled, model=script.model)

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        return True

    def work(self, script: Script, cancel: threading.Event) -> None:
        if cancel.is_set():
            self.counts.cancelled += 1
            if script.stopped:
                Path(script.stopped).touch()
            raise Cancelled
        self.counts.passes += 1
        if script.started:
            Path(script.started).touch()
        time.sleep(PASS)
        while script.gate and not Path(script.gate).exists():
            time.sleep(PASS)


def fill_with(text: str, confidence: float, source: Source | None = None) -> Fill:
    return Fill(
        text=text,
        confidence=confidence,
        passes=1,
        tokens=1,
        encoded=0,
        reused=0,
        encode_ms=0.0,
        decode_ms=0.0,
        complete=True,
        source=source,
    )


def load(model: str, device: str) -> ScriptedEngine:
    if model == "missing":
        raise EngineError('The model "missing" is missing: install it again.')
    if device == "cuda":
        raise EngineError("There is no cuda here: set device to cpu.")
    while model not in ("auto", "small") and not Path(model).exists():
        time.sleep(PASS)
    return ScriptedEngine()


def fetch(name: str, say: get.Say) -> Path:
    if name not in get.MODELS:
        raise EngineError(f"there is no model {name!r}")
    folder = get.models_folder() / name
    folder.mkdir()
    while not (folder.parent / "come").exists():
        say("some of it is there")
        time.sleep(PASS)
    (folder / get.STORED).touch()
    return folder


if __name__ == "__main__":
    get.get = fetch
    sys.exit(main(load_engine=load))
