"""Coverage-guided fuzzing with atheris (libFuzzer): ``make fuzz SECONDS_EACH=600``.

    python fuzz/fuzz.py blobs FOLDER -max_total_time=600

``blobs`` decodes posting lists and index rows from the fuzzer's bytes: NumPy and the compiled kernel must agree, and
only errors of ours may come out. ``file`` opens the bytes as a database and searches it; it starts with real files.
``filters`` takes them for the JSON of a ``where=``, ``server`` for a request to ``spladelite serve``: each is answered
or refused. New inputs and crashes are kept in FOLDER.
"""

from __future__ import annotations

import json
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
    from spladelite.index import ascending, buckets, postings
    from spladelite.index.passages import Layout, passage_checksum, read_passages
    from spladelite.index.scoring import WORD, Segment, SegmentQuery, top_k
    from spladelite.index.segments import (
        checked_postings,
        posting_checksum,
        read_segment,
        read_tombstones,
        segment_checksum,
        tombstone_checksum,
    )
    from spladelite.index.word_rows import read_words, words_checksum
    from spladelite.serve.app import _answer
    from spladelite.serve.changes import WRITING
    from spladelite.serve.endpoints import READING, open_library

MODEL = WordModel()


def blobs(data: bytes) -> None:
    """Rows with right checksums and any content: what a hostile file can bring past the checksums."""
    source = atheris.FuzzedDataProvider(data)
    which = source.ConsumeIntInRange(0, 5)
    if which == 0:
        size, count = source.ConsumeIntInRange(-2, 70_000), source.ConsumeIntInRange(-2, 70_000)
        fits, blob = source.ConsumeBool(), source.ConsumeBytes(1 << 18)
        length = postings.blob_length(count, size) if count > 0 else 0
        _postings(blob.ljust(length, b"\1")[:length] if fits else blob, count, size)
    elif which == 1:
        _passage(source)
    elif which == 2:
        _segment(source)
    elif which == 3:
        _words(source)
    elif which == 4:
        _bucket(source)
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
    words = (source.ConsumeBytes(4 * max(size, 0)), source.ConsumeIntInRange(-2, 1 << source.ConsumeIntInRange(0, 40)))
    CONNECTION.execute("DELETE FROM segment")
    CONNECTION.execute(
        "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, segment_checksum(*row, *words), *words)
    )
    try:
        segment = read_segment(CONNECTION, 1)
    except CorruptIndex:
        return
    part = SegmentQuery(
        segment, None, [postings.in_memory(np.zeros(1, np.uint16), np.full(1, 7, np.uint8), len(segment))]
    )
    expected, found = top_k([part], [1.0], 5), spladelite.index.kernels.top_k([part], [1.0], 5)
    assert all((a == b).all() for a, b in zip(expected, found, strict=True)), "the kernels differ"


def _words(source: atheris.FuzzedDataProvider) -> None:
    n = source.ConsumeIntInRange(0, 20)
    terms = b"".join(sorted(source.ConsumeBytes(6).rjust(6, b"\x40") for _ in range(n)))
    row = (source.ConsumeInt(8), source.ConsumeInt(8), terms, source.ConsumeBytes(n + source.ConsumeBool()))
    CONNECTION.execute("DELETE FROM document_words")
    CONNECTION.execute("INSERT INTO document_words VALUES (?, ?, ?, ?, ?)", (*row, words_checksum(*row)))
    with suppress(CorruptIndex):
        _, counts = read_words(CONNECTION, -1 << 63, (1 << 63) - 1)
        assert len(counts.terms) == len(counts.frequencies)


def _bucket(source: atheris.FuzzedDataProvider) -> None:
    """A word that is found in a whole bucket is found alone, with the same postings."""
    size, count = source.ConsumeIntInRange(1, 70), source.ConsumeIntInRange(-1, 40)
    number = 1 << source.ConsumeIntInRange(0, 3)
    n = source.ConsumeIntInRange(0, 8)
    ids = b"".join(sorted(source.ConsumeBytes(6).rjust(6, b"\x40") for _ in range(n)))
    blob = ids + source.ConsumeBytes(1 << 10)
    with suppress(ValueError):
        buckets.find(blob, count, source.ConsumeIntInRange(0, (1 << 48) - 1), size)
    rows = [buckets.BucketRow(buckets.BUCKET + number + i, count, blob) for i in range(number)]
    try:
        lists, _ = buckets.decode_all(rows, number, size)
    except ValueError:
        return
    for i, word in enumerate(lists.terms):
        assert WORD <= word < 2 * WORD
        begin, end = lists.indptr[i : i + 2].tolist()
        expected = postings.in_memory(lists.ordinals[begin:end], lists.impacts[begin:end], size)
        assert buckets.find(blob, count, word, size) == expected, "a bucket has two meanings"


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


TEXTS = ["w1 w2 w3", "w2 w9", "w30 and a text without a term"]
RECORDS = [{"year": 2020, "tags": ["a", "b"], "a": {"b": "c"}}, {"year": "2020", "x": None, "": 1.5}, {}]
MEMORY = SpladeLite(":memory:", MODEL)
MEMORY.add(TEXTS, ids=["a", "b", "c"], metadata=RECORDS)


def filters(data: bytes) -> None:
    """The bytes as JSON, and that as a filter; or as SQL."""
    text = data.decode("utf-8", "replace")
    try:
        where = json.loads(text)
    except (ValueError, RecursionError):
        where = text
    if isinstance(where, str | dict):
        with suppress(SpladeLiteError):
            MEMORY.search({1: 1.0}, 3, where=where, timeout=2.0)


ENDPOINTS = [*READING, *WRITING]
LIBRARY = open_library(MEMORY, "fuzz", True)


def server(data: bytes) -> None:
    """An endpoint, parameters of its own names, and a body: the answer is JSON or an error of ours."""
    source = atheris.FuzzedDataProvider(data)
    endpoint = ENDPOINTS[source.ConsumeIntInRange(0, len(ENDPOINTS) - 1)]
    names = [*endpoint.parameters(), "other"]
    query = {name: source.ConsumeUnicodeNoSurrogates(40) for name in names if source.ConsumeProbability() < 0.6}
    response = _answer(endpoint, LIBRARY, query, source.ConsumeBytes(1 << 12))
    json.loads(bytes(response.body))
    if len(MEMORY) > 50:
        MEMORY.delete(where="TRUE")
        MEMORY.add(TEXTS, ids=["a", "b", "c"], metadata=RECORDS)


TARGETS = {"blobs": blobs, "file": file, "filters": filters, "server": server}
SEEDS = {
    "filters": [
        b'{"year": 2020}',
        b'{"$and": [{"year": {"$gte": 1, "$lt": 2.5}}, {"$not": {"tags": {"$in": ["a", null, true]}}}]}',
        b'{"$or": [{"a.b": {"$contains": "c"}}, {"$text": {"$icontains": "W1"}}, {"$id": {"$nin": []}}]}',
        b'{"tags": {"$all": ["a", "b"]}, "x": {"$exists": false}, "y": {"$empty": true}, "z": {"$any": {"$eq": "a"}}}',
        b"json_extract(metadata, '$.year') > 2000 AND id IN ('a', 'b')",
    ],
    "server": [b'\0{"documents": [{"text": "w1", "id": "d", "metadata": {}}], "replace": true}', b"\1w1", b"\2a"],
}


def main() -> None:
    """See the module's docstring."""
    target, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        for number, seed in enumerate(SEEDS.get(target, [])):
            (folder / f"seed{number}").write_bytes(seed)
        for number in range(3 if target == "file" else 0):
            damage.build(folder / f"seed{number}.db", number)
    arguments = [sys.argv[0], str(folder), f"-artifact_prefix={folder}/", "-max_len=400000", *sys.argv[3:]]
    atheris.Setup(arguments, TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
