"""Coverage-guided fuzzing with atheris (libFuzzer): ``make fuzz SECONDS_EACH=600``.

    python fuzz/fuzz.py blobs FOLDER -max_total_time=600
    python fuzz/fuzz.py file FOLDER -max_total_time=600

``blobs`` decodes posting lists and index rows from the fuzzer's bytes: NumPy and the compiled kernel must agree, and
only errors of ours may come out. ``file`` opens the bytes as a database and searches it; it starts
with real files.
New inputs and crashes are kept in FOLDER.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

with atheris.instrument_imports(include=["spladelite"]):
    import apsw
    import numpy as np
    from torture import damage
    from torture.words import WORDS, WordModel

    import spladelite.index.kernels
    from spladelite import SpladeLite
    from spladelite.errors import CorruptIndex, SpladeLiteError
    from spladelite.file.migrations import migrations
    from spladelite.index import ascending, postings
    from spladelite.index.passages import Layout, passage_checksum, read_passages
    from spladelite.index.scoring import Segment, SegmentQuery, top_k
    from spladelite.index.segments import (
        checked_postings,
        posting_checksum,
        read_segment,
        read_tombstones,
        segment_checksum,
        tombstone_checksum,
    )

MODEL = WordModel()


def blobs(data: bytes) -> None:
    """Rows with right checksums and any content: what a hostile file can bring past the checksums."""
    source = atheris.FuzzedDataProvider(data)
    which = source.ConsumeIntInRange(0, 3)
    if which == 0:
        size, count = source.ConsumeIntInRange(-2, 70_000), source.ConsumeIntInRange(-2, 70_000)
        fits, blob = source.ConsumeBool(), source.ConsumeBytes(1 << 18)
        length = postings.blob_length(count, size) if count > 0 else 0
        _postings(blob.ljust(length, b"\1")[:length] if fits else blob, count, size)
    elif which == 1:
        _passage(source)
    elif which == 2:
        _segment(source)
    else:
        _tombstone(source)


def _postings(blob: bytes, count: int, size: int) -> None:
    results = []
    for decode in (postings.decode, spladelite.index.kernels.decode):
        try:
            results.append(decode(blob, count, size))
        except ValueError:
            results.append(None)
    assert results[0] == results[1], "NumPy and the compiled kernel differ"
    try:
        checked = checked_postings(1, 2, count, blob, posting_checksum(1, 2, count, blob), size)
    except CorruptIndex:
        return
    if 0 < size <= postings.MAX_SEGMENT:
        part = SegmentQuery(
            Segment(1, np.arange(1, size + 1), np.ones(size, np.float32), None), None, [checked, checked]
        )
        expected, found = top_k([part], [1.5, 0.5], 5), spladelite.index.kernels.top_k([part], [1.5, 0.5], 5)
        assert all((a == b).all() for a, b in zip(expected, found, strict=True)), "the kernels differ"


def _database() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    for step in migrations():
        connection.execute(step)
    return connection


CONNECTION = _database()


def _passage(source: atheris.FuzzedDataProvider) -> None:
    impacts = source.ConsumeBytes(source.ConsumeIntInRange(0, WORDS))
    length = len(impacts) + ascending.upper_length(len(impacts), ascending.blocks_of(WORDS))
    row = (
        source.ConsumeIntInRange(1, 1 << 62),
        source.ConsumeIntInRange(0, 1 << 62),
        source.ConsumeInt(8),
        source.ConsumeInt(8),
        source.ConsumeFloat(),
        source.ConsumeBytes(length).ljust(length, b"\1"),
        impacts,
    )
    if row[4] != row[4]:
        return
    CONNECTION.execute("DELETE FROM passage")
    CONNECTION.execute("INSERT INTO passage VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, passage_checksum(*row)))
    with suppress(CorruptIndex):
        read_passages(CONNECTION, Layout(WORDS), 0, 1 << 62)


def _segment(source: atheris.FuzzedDataProvider) -> None:
    size = source.ConsumeIntInRange(-1, 40)
    fits = source.ConsumeBool()
    lengths = (8 * max(size, 0), 4 * max(size, 0), -(-max(size, 0) // 8), source.ConsumeIntInRange(0, 20))
    blobs = [source.ConsumeBytes(length).ljust(length if fits else 0, b"\1") for length in lengths]
    row = (1, size, source.ConsumeInt(8), *blobs)
    CONNECTION.execute("DELETE FROM segment")
    CONNECTION.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, segment_checksum(*row)))
    try:
        segment = read_segment(CONNECTION, 1)
    except CorruptIndex:
        return
    part = SegmentQuery(segment, None, [postings.decode(b"\x00\x80\x07", 1, len(segment))])
    expected, found = top_k([part], [1.0], 5), spladelite.index.kernels.top_k([part], [1.0], 5)
    assert all((a == b).all() for a, b in zip(expected, found, strict=True)), "the kernels differ"


def _tombstone(source: atheris.FuzzedDataProvider) -> None:
    row = (1, source.ConsumeInt(8), source.ConsumeBytes(500))
    CONNECTION.execute("DELETE FROM tombstone")
    CONNECTION.execute("INSERT INTO tombstone VALUES (?, ?, ?, ?)", (*row, tombstone_checksum(*row)))
    with suppress(CorruptIndex):
        read_tombstones(CONNECTION, {1: source.ConsumeIntInRange(1, 70_000)})


PATH = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / "fuzz.db"


def file(data: bytes) -> None:
    """The bytes as a database: opened, asked, checked."""
    for leftover in PATH.parent.glob(PATH.name + "*"):
        leftover.unlink()
    PATH.write_bytes(data)
    with suppress(SpladeLiteError), SpladeLite(PATH, MODEL, read_only=True) as db:
        for question in (*damage.search_questions().values(), *damage.other_questions().values()):
            with suppress(SpladeLiteError):
                question(db)
        db.check()


def main() -> None:
    """See the module's docstring."""
    target, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if target == "file" and not any(folder.iterdir()):
        for seed in range(3):
            damage.build(folder / f"seed{seed}.db", seed)
    arguments = [sys.argv[0], str(folder), f"-artifact_prefix={folder}/", "-max_len=400000", *sys.argv[3:]]
    atheris.Setup(arguments, {"blobs": blobs, "file": file}[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
