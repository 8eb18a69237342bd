"""What is built is what is here."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [path.parent.relative_to(ROOT) for path in ROOT.glob("spladelite/**/__init__.py")]
    found = {".".join(folder.parts) for folder in (*folders, Path("spladelite/migrations"), Path("spladelite/web"))}
    assert set(listed) == found


def test_the_bundled_model_is_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "spladelite" / "models").rglob("*.*")) < 10_000_000
