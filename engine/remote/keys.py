"""The key for a server, from the environment or a private file; each belongs to a host, so no setting can send one
elsewhere.

INPAINT_REMOTE_KEYS has HOST=KEY pairs between commas. The file has netrc's format, `machine HOST password KEY`, and is
for its owner alone: inpaint/keys in the user's folder of settings, or what INPAINT_REMOTE_KEYS_FILE names.
"""

from __future__ import annotations

import netrc
import os
from pathlib import Path

from engine.contract import EngineError

ENVIRONMENT, FILE = "INPAINT_REMOTE_KEYS", "INPAINT_REMOTE_KEYS_FILE"


def key_for(host: str) -> str | None:
    """Raises EngineError where the file cannot be read, or others can read it."""
    for pair in os.environ.get(ENVIRONMENT, "").split(","):
        name, _, key = pair.strip().partition("=")
        if name.strip() == host and key:
            return key.strip()
    file = keys_file()
    if not file.exists():
        return None
    if os.name == "posix" and file.stat().st_mode & 0o077:
        raise EngineError(f"{file} can be read by others: chmod 600 it")
    try:
        found = netrc.netrc(file).authenticators(host)
    except (OSError, netrc.NetrcParseError) as error:
        raise EngineError(f"{file} cannot be read ({error}): its lines are machine HOST password KEY") from None
    return found[2] if found else None


def keys_file() -> Path:
    if named := os.environ.get(FILE):
        return Path(named).expanduser()
    folder = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "inpaint" / "keys"
