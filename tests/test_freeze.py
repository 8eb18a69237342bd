"""A program that uses SpladeLite, frozen by PyInstaller without any flag. Slow: `make freeze` runs it."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import os, sys, tempfile
from spladelite import SpladeLite, __version__

with tempfile.TemporaryDirectory() as folder, SpladeLite(os.path.join(folder, "kb.db")) as db:
    db.add(["A car crashed into a tree.", "Bake the bread for an hour."], ids=["car", "bread"])
    hit = db.search("automobile accident", k=1, mode="hybrid")[0]
    print(hit.id, db.highlight(hit), db.stats().kernel)
    db.export_rows(os.path.join(folder, "rows.db"))
    print(db.explain("automobile accident", "car").terms[0].term)
    db.export_web(os.path.join(folder, "site"))
"""


def run(*command: str | Path, cwd: Path, timeout: int, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.freeze
@pytest.mark.skipif(sys.platform == "win32", reason="looks for programs where they are on POSIX")
def test_a_frozen_program_needs_no_flags(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    pip = (tmp_path / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, str(ROOT), "pyinstaller", cwd=tmp_path, timeout=900)
    (tmp_path / "app.py").write_text(PROGRAM)
    run(tmp_path / "venv" / "bin" / "pyinstaller", "--log-level", "WARN", "app.py", cwd=tmp_path, timeout=600)
    folder = tmp_path / "dist" / "app"
    printed = run(folder / "app", cwd=tmp_path, timeout=120, env={})
    assert printed.splitlines()[0].startswith("car A **car** crashed into a tree.")
    assert printed.splitlines()[1] == "crash"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"{size / 1e6:.0f} MB")
    assert size < 200e6
    assert not list(folder.rglob("huggingface_hub"))
