"""What completions were worth, by day and language: figures only, and on disk only where that is asked for.

What a session adds is added to what the file has when it is written, for several servers may run.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import os
from datetime import date
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import platformdirs

logger = logging.getLogger(__name__)

Outcome: TypeAlias = Literal["shown", "dismissed", "partlyAccepted", "accepted"]
WORST_FIRST: tuple[Outcome, ...] = ("shown", "dismissed", "partlyAccepted", "accepted")
BOUNDS = (5, 10, 20, 50, 100, 200, 500)  # milliseconds; the last bucket has what took longer


def none_yet() -> dict[Outcome, int]:
    return dict.fromkeys(WORST_FIRST, 0)


class Day(msgspec.Struct, kw_only=True):
    """The figures of one language on one day. `characters` is what was accepted, in UTF-16 units."""

    day: str
    language: str
    counts: dict[Outcome, int] = msgspec.field(default_factory=none_yet)
    characters: int = 0
    latencies: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, other: Day) -> None:
        self.counts = {outcome: number + other.counts.get(outcome, 0) for outcome, number in self.counts.items()}
        self.characters += other.characters
        self.latencies = [mine + more for mine, more in zip(self.latencies, other.latencies, strict=True)]


class Statistics:
    """The figures of this session, and those on disk."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or platformdirs.user_data_path("inpaint", appauthor=False) / "statistics.json"
        self._session: dict[tuple[str, str], Day] = {}  # what is not on disk

    def count(self, language: str, outcome: Outcome, number: int = 1) -> None:
        self._today(language).counts[outcome] += number

    def accepted(self, language: str, characters: int) -> None:
        self._today(language).characters += characters

    def took(self, language: str, milliseconds: float) -> None:
        self._today(language).latencies[bisect.bisect_left(BOUNDS, milliseconds)] += 1

    def days(self, on_disk: bool) -> list[Day]:
        """All rows, the oldest first; of this session alone or with those on disk."""
        rows = self._read() if on_disk else {}
        for key, row in self._session.items():
            rows.setdefault(key, Day(day=row.day, language=row.language)).add(row)
        return [rows[key] for key in sorted(rows)]

    def save(self) -> None:
        """Add the session's figures to those on disk. A disk that takes none costs nothing else."""
        if not self._session:
            return
        beside = self._file.with_suffix(f".{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(self.days(on_disk=True)))
            beside.replace(self._file)
        except OSError as error:
            logger.error("the statistics were not kept: %s", error)
        else:
            self._session.clear()

    def reset(self) -> None:
        """Forget all, on disk too."""
        self._session.clear()
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _today(self, language: str) -> Day:
        key = date.today().isoformat(), language
        return self._session.setdefault(key, Day(day=key[0], language=language))

    def _read(self) -> dict[tuple[str, str], Day]:
        try:
            rows = msgspec.json.decode(self._file.read_bytes(), type=list[Day])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            logger.error("the statistics on disk could not be read: %s", error)
            return {}
        return {(row.day, row.language): row for row in rows}
