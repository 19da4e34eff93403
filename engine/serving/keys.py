"""Who may ask: keys in a file of hashes, or in the environment.

A line of the file is what `printf %s "$KEY" | sha256sum` prints, with the user's name in place of the dash. Keys are
long and random, so one round of SHA-256 keeps them.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from engine.contract import EngineError

ENVIRONMENT = "INPAINT_API_KEYS"  # separated by commas or blanks


class Keys:
    """Names of users by the hashes of their keys. Where there is none, anybody may ask."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def __bool__(self) -> bool:
        return bool(self._names)

    @classmethod
    def read(cls, file: Path | None) -> Keys:
        """Of a file and of the environment. Raises EngineError where the file cannot be read."""
        names = {}
        for number, key in enumerate(os.environ.get(ENVIRONMENT, "").replace(",", " ").split(), 1):
            names[hashed(key)] = f"key {number}"
        if file is not None:
            names.update(_from_file(file))
        return cls(names)

    def user(self, authorization: str) -> str | None:
        """The name of who has the key of a header `Authorization: Bearer KEY`; None for nobody.

        It is looked up by its hash, so how long that takes tells nothing of the keys.
        """
        scheme, _, key = authorization.partition(" ")
        return self._names.get(hashed(key.strip())) if scheme.lower() == "bearer" else None


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _from_file(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"the keys in {file} cannot be read ({error})") from None
    names = {}
    for number, line in enumerate(lines, 1):
        digest, _, name = line.partition(" ")
        if not line.strip() or line.startswith("#"):
            continue
        if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):
            raise EngineError(f"line {number} of {file} is not a SHA-256 hash and a name: hash the key with sha256sum")
        names[digest.lower()] = name.strip(" *-") or f"line {number}"
    if not names:
        raise EngineError(f"{file} has no keys: add lines of a SHA-256 hash and a name")
    return names
