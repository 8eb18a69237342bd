"""Write the golden database of the present format: python scripts/make_golden.py tests/golden

It has what a file can have: a text of several passages, metadata with an index, sealed segments, a tail, a tombstone,
updated documents. Once a format was released, its file is never written again (tests/test_golden.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

from spladelite import SpladeLite

TEXTS = {
    "car": "A car crashed into a tree and the driver was hurt.",
    "bread": "Let the bread cool for an hour before you cut it.",
    "cat": "The cat sleeps on the warm windowsill.",
    "train": "The night train to the coast was late because of snow on the line.",
    "river": "The river rises in the mountains and falls into a quiet lake.",
    "bees": "Bees dance to tell each other where flowers are.",
    "clock": "The old clock in the tower strikes twice at noon and never at midnight.",
    "moon": "The moon pulls the sea towards it, and tides follow.",
    "violin": "She tuned the violin by ear before the concert in the park.",
    "cafe": "The café serves crème brûlée on Sundays.",
    "note": "Call back.",
    "gone": "This document is deleted before the file is closed.",
}
JOURNEY = " ".join(
    f"On day {day} we walked {5 + day % 7} miles along the coast, met {day % 4} travellers and slept under the stars."
    for day in range(1, 40)
)


def main(folder: Path) -> None:
    """Build the file of the present format in ``folder``."""
    new = folder / "new.db"
    with SpladeLite(new, tail_size=4, segment_size=16) as db:
        db.create_metadata_index("n")
        for n, (id, text) in enumerate(TEXTS.items()):
            db.add(text, ids=id, metadata={"n": n, "topic": ("road", "home")[n % 2]})
        db.add(JOURNEY, ids="journey", metadata={"n": 99, "topic": "road"})
        db.update("moon", metadata={"n": 8, "topic": "road"})
        db.upsert("Soup is best when it has rested overnight.", ids="soup", metadata={"n": 7})
        db.delete("gone")
        version = db.stats().format
        db.export(folder / f"format{version}.db", overwrite=True)
    new.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
