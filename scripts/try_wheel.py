"""Try an installed wheel: python scripts/try_wheel.py. It must bring the compiled kernel and the model, and find a text."""

from __future__ import annotations

import tempfile
from pathlib import Path

from spladelite import SpladeLite
from spladelite.index.kernels import KERNEL


def main() -> None:
    """Add, search, close and open again."""
    assert KERNEL == "compiled", "the wheel has no compiled kernel"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kb.db"
        with SpladeLite(path) as db:
            db.add(["A car crashed into a tree.", "Let the bread cool."], ids=["car", "bread"])
        with SpladeLite(path, read_only=True) as db:
            (hit,) = db.search("automobile accident", k=1)
            assert hit.id == "car", hit
            print(f"found {hit.id!r} with {db.stats().model} and the {KERNEL} kernel")


if __name__ == "__main__":
    main()
