"""``python -m torture [NAME [AMOUNT]]``: run one or all of the tests at full size and print a table."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from torture import Tally, damage, faults, foreign, inputs, kill, oracle, power, processes

# name: what to run with (folder, amount, seed), and the full amount
TESTS: dict[str, tuple[Callable[[Path, int, int], Tally], int]] = {
    "kill": (kill.run, 1_000),
    "power": (power.run, 10_000),
    "faults": (faults.run, 1_000_000),
    "processes": (processes.run, 60),
    "foreign": (foreign.run, 2_000),
    "damage": (damage.run, 100_000),
    "inputs": (inputs.run, 10_000),
    "oracle": (oracle.run, 5_000),
}


def main() -> int:
    """Run; returns how many tests failed."""
    names = sys.argv[1:2] or list(TESTS)
    failed = 0
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # what is simulated here needs no real disk
    print(f"{'test':<12} {'tried':>9} {'failures':>9} {'seconds':>8}  notes", flush=True)
    for name in names:
        run, amount = TESTS[name]
        amount = int(sys.argv[2]) if len(sys.argv) > 2 else amount
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            tally = run(Path(folder), amount, 1)
        notes = ", ".join(f"{what} {count}" for what, count in sorted(tally.notes.items()))
        seconds = time.monotonic() - began
        print(f"{name:<12} {tally.tried:>9,} {len(tally.failures):>9,} {seconds:>8.0f}  {notes}", flush=True)
        for failure in tally.failures[:20]:
            print(f"    {failure}", flush=True)
        failed += bool(tally.failures)
    return failed


if __name__ == "__main__":
    sys.exit(main())
