"""What is built is what is here."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from importlib import resources
from pathlib import Path

import pytest

import spladelite

ROOT = Path(__file__).parents[1]


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [path.parent.relative_to(ROOT) for path in ROOT.glob("spladelite/**/__init__.py")]
    found = {".".join(folder.parts) for folder in (*folders, Path("spladelite/migrations"), Path("spladelite/web"))}
    assert set(listed) == found


def test_no_folder_is_a_link() -> None:
    """Windows makes a text file of it."""
    assert [path for path in (ROOT / "spladelite").rglob("*") if path.is_symlink()] == []


def test_the_bundled_model_is_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "spladelite" / "models").rglob("*.*")) < 10_000_000


def test_the_browsers_side_is_installed() -> None:
    package = resources.files("spladelite.web")
    installed = {entry.name for part in ("src", "page") for entry in package.joinpath(part).iterdir()}
    assert installed == {path.name for part in ("src", "page") for path in (ROOT / "web" / part).iterdir()}
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "spladelite.web"
    ]
    listed = {path.name for pattern in patterns for path in (ROOT / "web").glob(pattern)}
    assert installed - listed == {"index.d.ts"}, "files that a wheel would lack"
    version = json.loads((ROOT / "web" / "package.json").read_text())["version"]
    assert version == spladelite.__version__


def test_the_npm_package_has_what_a_page_needs_and_no_more() -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    packed = subprocess.run(
        [npm, "pack", "--dry-run", "--json"], cwd=ROOT / "web", capture_output=True, text=True, timeout=120, check=True
    )
    (package,) = json.loads(packed.stdout)
    sources = {f"src/{path.name}" for path in (ROOT / "web" / "src").iterdir()}
    assert {file["path"] for file in package["files"]} == sources | {"package.json", "README.md", "LICENSE"}
    assert package["size"] < 60_000
    assert (ROOT / "web" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
