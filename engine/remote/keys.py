"""The key for a server, from the environment or a private file; each belongs to a scheme, host and port, so no setting
can send one elsewhere, and goes over https, or to this machine.

INPAINT_REMOTE_KEYS has HOST=KEY pairs between commas. The file has netrc's format, `machine HOST password KEY`, and is
for its owner alone: inpaint/keys in the user's folder of settings, or what INPAINT_REMOTE_KEYS_FILE names. HOST is as
in a URL, with the port where that has one, and may begin with http:// or https://.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator
from pathlib import Path

from engine.contract import EngineError
from engine.remote.address import ServerAddress, parse_url

ENVIRONMENT, FILE = "INPAINT_REMOTE_KEYS", "INPAINT_REMOTE_KEYS_FILE"


def key_for(address: ServerAddress) -> str | None:
    """Raises EngineError where the file cannot be read, others can read it, or the key would go unencrypted."""
    key = next((key for name, key in _pairs() if _is_for(name, address)), None)
    if key and address.in_the_open:
        raise EngineError(f"the key of {address.host} is sent over https only: write https:// in the model's URL")
    return key


def _is_for(name: str, address: ServerAddress) -> bool:
    try:
        named = parse_url(name if "://" in name else f"{address.base.partition(':')[0]}://{name}")
    except EngineError:
        return False
    return named.origin == address.origin


def _pairs() -> Iterator[tuple[str, str]]:
    """Names and keys. Raises EngineError."""
    for pair in os.environ.get(ENVIRONMENT, "").split(","):
        name, _, key = pair.strip().partition("=")
        if key:
            yield name.strip(), key.strip()
    file = keys_file()
    if not file.exists():
        return
    if os.name == "posix" and file.stat().st_mode & 0o077:
        raise EngineError(f"{file} can be read by others: chmod 600 it")
    try:
        hosts = netrc.netrc(file).hosts
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError) as error:
        raise EngineError(f"{file} cannot be read ({error}): its lines are machine HOST password KEY") from None
    yield from ((name, key) for name, (_, _, key) in hosts.items() if key and name != "default")  # that is nobody's


def keys_file() -> Path:
    if named := os.environ.get(FILE):
        return Path(named).expanduser()
    folder = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "inpaint" / "keys"
