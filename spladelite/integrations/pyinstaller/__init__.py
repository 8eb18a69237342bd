"""PyInstaller finds the hook beside this file by an entry point: a frozen program works without extra flags."""

from __future__ import annotations

from pathlib import Path


def hook_directories() -> list[str]:
    """Where ``hook-spladelite.py`` is."""
    return [str(Path(__file__).parent)]
