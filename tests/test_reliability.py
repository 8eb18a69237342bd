"""The torture tests in small amounts, each in a process of its own; ``make torture`` runs the large ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

AMOUNTS = {
    "kill": 60,
    "power": 1000,
    "faults": 1_000_000,
    "processes": 8,
    "foreign": 100,
    "damage": 2000,
    "inputs": 3000,
}


@pytest.mark.skipif(sys.platform == "win32", reason="uses fork, signals and a VFS over the one of Unix")
@pytest.mark.parametrize("name", AMOUNTS)
def test_torture(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torture", name, str(AMOUNTS[name])],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(rf"^{name} +([\d,]+) +0 ", done.stdout, re.MULTILINE)
    assert found, done.stdout
    least = {"faults": 400, "processes": 100}.get(name, AMOUNTS[name])
    assert int(found[1].replace(",", "")) >= least
