"""What users install: the wheel, the sdist, what pip downloads for the extension, the licence in Neovim's folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
VSCODE, NEOVIM = ROOT / "editors" / "vscode", ROOT / "editors" / "neovim"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--installer", "uv", "--outdir", str(folder), str(ROOT)], check=True)
    return folder


def test_the_wheel_has_the_packages_and_the_model_and_nothing_else(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"engine", "lsp_server"}
    tracked = subprocess.run(["git", "ls-files", "engine", "lsp_server"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode == 0:  # not where the sources came as an archive
        wanted = {
            name for name in tracked.stdout.splitlines() if name.endswith(".py") or name.startswith("engine/weights")
        }
        assert wanted - set(names) == set()


def test_the_sdist_can_be_tested_and_packaged(dist: Path) -> None:
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "lsp_server/server.py"} <= names


def test_the_indexes_take_them(dist: Path) -> None:
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir())], check=True)


# ---------------------------------------------------------------- VS Code


def test_everything_that_the_server_needs_is_pinned() -> None:
    pins = [Requirement(line.split("\\")[0]) for line in lines_of(VSCODE / "requirements.txt")]
    project = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.S | re.M)[1]
    for needed in map(Requirement, re.findall('"(.+?)"', listed)):
        versions = [next(iter(pin.specifier)).version for pin in pins if pin.name == needed.name]
        assert versions, f"{needed} is not pinned; the first line of requirements.txt says how to."
        assert all(needed.specifier.contains(version) for version in versions)


def test_what_is_pinned_can_be_installed_here() -> None:
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--require-hashes", "--quiet"]
    subprocess.run([*pip, "--only-binary", ":all:", "-r", str(VSCODE / "requirements.txt")], check=True)


def lines_of(file: Path) -> list[str]:
    """Those that name a package."""
    return [line for line in file.read_text().splitlines() if re.match(r"[a-z]", line)]


# ---------------------------------------------------------------- Neovim


def test_neovims_folder_has_the_licence_of_all() -> None:
    assert (NEOVIM / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


# ---------------------------------------------------------------- the release


def test_what_a_release_runs_is_pinned_and_no_token_is_in_an_address() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    for action in (step["uses"] for step in steps if "uses" in step):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
    said = "\n".join(step.get("run", "") for step in steps)
    assert "secrets." not in said  # they are in the environment of the step that needs them
    assert not re.search(r"npx|npm (install|i)\b|https?://", said)
    tools = set(re.findall(r"npm exec --no -- ([\w-]+)", said))
    lock = json.loads((VSCODE / "package-lock.json").read_text())["packages"]
    assert tools <= {name for package in lock.values() for name in package.get("bin", {})}
    assert tools == {"vsce", "ovsx"}
