"""Keeps what the workspace's files say: an index of the folders, and of the packages that the open files import.

A process of its own builds and refreshes it (see engine.retrieval.build), so the loop and the engine never wait. What
was kept from the last time is used at once, then brought up to date. After a change of files it is refreshed, a while
after the last event, and so seldom that it takes a tenth of one core at most. The engine is handed snapshots.

Nothing here knows LSP.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import watchfiles

import engine
from engine.retrieval.build import BUILD, IndexOrder, IndexProgress, store_of
from engine.retrieval.exclusions import IGNORE_FILE
from engine.retrieval.files import IGNORE_FILE as GITIGNORE
from engine.retrieval.index import Index
from engine.retrieval.installed import LARGEST, MOST, imported

ROOT = Path(engine.__file__).parents[1]  # where that module is found, not in the folder that the server was started in
SETTLED = 1.5  # seconds without an event, after which files are read again
SHARE = 0.1  # of the time that refreshing may take

State: TypeAlias = Literal["off", "none", "building", "ready", "error"]


class Workspace:
    """The indexes of a session. `changed` is called when there is something new to tell, `renewed` when there is
    something else to look up: what was completed before may be out of date.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None, renewed: Callable[[], None] = lambda: None) -> None:
        self.state: State = "none"
        self.error: str | None = None
        self.progress = IndexProgress()
        self.folders: tuple[str, ...] = ()
        self.index = Index()
        self.packages: dict[str, Index] = {}  # by the package's path
        self._changed, self._renewed = changed, renewed
        self._globs: tuple[str, ...] = ()
        self._imported: list[str] = []  # paths of packages that are to be indexed
        self._stale = False  # whether files have changed since they were read
        self._wake = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._building: asyncio.subprocess.Process | None = None

    def open(self, folders: Sequence[str], globs: Iterable[str] = ()) -> None:
        """Keep an index of these folders from now on; of none, none."""
        self.close()
        self.folders, self._globs = tuple(sorted(folders)), tuple(globs)
        if self.folders:
            self._keep(anew=False)

    def close(self, state: State = "none") -> None:
        """Stop all that goes on, and know nothing."""
        self._stop()
        if self._watching is not None:
            self._watching.cancel()
        self.folders, self.index, self.packages, self.state, self.error = (), Index(), {}, state, None
        self._imported.clear()
        self._renewed()
        self._changed()

    def rebuild(self) -> None:
        """Forget what is kept, and read all files again."""
        if self.folders:
            self._keep(anew=True)

    def _keep(self, anew: bool) -> None:
        self._stop()
        self.state = "building"
        self._keeping = asyncio.ensure_future(self._kept(anew))
        self._changed()

    def _stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        if self._building is not None and self._building.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._building.kill()

    @property
    def indexes(self) -> tuple[Index, ...]:
        """Those that know a file, the workspace's own first."""
        return tuple(index for index in (self.index, *self.packages.values()) if len(index))

    def report(self) -> dict[str, Any]:
        """For the status: what is known, and how many files are not, by the reason."""
        return {
            "state": self.state,
            "folders": list(self.folders),
            "files": len(self.index),
            "leftOut": dict(self.index.manifest.left_out),
            "packages": [Path(package).stem for package in self.packages],
            "read": self.progress.read,
            "of": self.progress.of,
            "message": self.error,
        }

    # ---------------------------------------------------------------- keeping it true

    def files_changed(self, paths: Iterable[str]) -> None:
        """These files are others now: read them again soon. Hidden ones, as our own cache may be, do not count, but
        those that say what may be read.
        """
        if counting := [path for path in paths if self._counts(path)]:
            self._stale = True
            self._wake.set()
            if any(Path(path).name == IGNORE_FILE for path in counting):
                self._renewed()

    def _counts(self, path: str) -> bool:
        for folder in self.folders:
            with contextlib.suppress(ValueError):
                *above, name = Path(path).relative_to(folder).parts or ("",)
                hidden = name.startswith(".") and name not in (IGNORE_FILE, GITIGNORE)
                return not (hidden or any(part.startswith(".") for part in above))
        return False

    def watch(self) -> None:
        """Watch the folders, where no client does."""
        if self.folders:
            self._watching = asyncio.ensure_future(self._watched())

    async def _watched(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # more folders than the system can watch: saves still count
            async for changes in watchfiles.awatch(*self.folders, ignore_permission_denied=True):
                self.files_changed(path for _, path in changes)

    async def _kept(self, anew: bool) -> None:
        store = store_of(list(self.folders))
        if not anew:
            self.index = await asyncio.to_thread(Index.open, store, globs=self._globs)
        took = await self._refresh(store, anew)
        while True:
            await self._read_packages()
            await self._wake.wait()
            self._wake.clear()
            if self._stale:
                await asyncio.sleep(max(SETTLED, took / SHARE))
                took = await self._refresh(store)

    async def _refresh(self, store: Path, anew: bool = False) -> float:
        """Bring the index up to date; how many seconds it took."""
        started, self.state, self._stale = time.monotonic(), "building", False
        self._changed()
        self.error = await self._build(IndexOrder(list(self.folders), str(store), list(self._globs), anew=anew))
        if self.error is None:
            before, self.index = self.index, await asyncio.to_thread(Index.open, store, globs=self._globs)
            if self.index.manifest != before.manifest:
                self._renewed()
        self.state = "error" if self.error else "ready"
        self._changed()
        return time.monotonic() - started

    async def _build(self, order: IndexOrder) -> str | None:
        """Run the process; what went wrong, if anything."""
        pipe, quiet = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(*BUILD, stdin=pipe, stdout=pipe, stderr=quiet, cwd=ROOT)
        except OSError as error:
            return f"the index cannot be built ({error.strerror})"
        self._building = process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        last = IndexProgress(error="the index was not built: its process ended too early")
        async for line in process.stdout:
            with contextlib.suppress(msgspec.DecodeError):
                last = self.progress = msgspec.json.decode(line, type=IndexProgress)
                self._changed()
        process.stdin.close()
        await process.wait()
        return None if last.done else last.error or "the index was not built: its process ended too early"

    # ---------------------------------------------------------------- installed packages

    async def imports(self, text: str, environment: Path | None) -> None:
        """Index the packages that a text imports, read-only and bounded, where they are installed."""
        if environment is None or not self.folders:
            return
        for package in await asyncio.to_thread(imported, text, environment):
            known = package in self.packages or package in self._imported
            if not known and len(self.packages) + len(self._imported) < MOST:
                self._imported.append(package)
                self._wake.set()

    async def _read_packages(self) -> None:
        while self._imported:
            package = self._imported[0]
            store = store_of([package])
            if await self._build(IndexOrder([package], str(store), list(self._globs), LARGEST)) is None:
                self.packages[package] = await asyncio.to_thread(Index.open, store, True, self._globs)
                self._renewed()
                self._changed()
            self._imported.pop(0)
