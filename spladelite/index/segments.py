"""The index over the passages: the tail, sealed segments, posting rows, tombstones.

A new passage is one row of ``passage``. Passages newer than the newest segment are the *tail*; when it has
``tail_size`` of them it is *sealed*: inverted into posting rows under a new segment id. Eight neighbours of a tier are
merged into one segment of the next, so there are O(log n) of them. A merge reads the stored vectors, not the old
postings: they are the ground truth, and inverting them again is faster than merging lists. Words have no stored vectors
beside their texts: their lists are merged (:mod:`spladelite.index.word_rows`). Deleting sets a bit in the
segment's tombstone; a segment that is half dead is rewritten.

Every row carries a CRC-32 over its key and its content, as in :mod:`spladelite.index.passages`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.errors import CorruptIndex
from spladelite.file.sqlite import fetch, int_array
from spladelite.index.buckets import MAX_BUCKETS, find
from spladelite.index.kernels import decode
from spladelite.index.passages import (
    Layout,
    PassageVectors,
    matches,
    next_id,
    next_passage_id,
    read_passages,
)
from spladelite.index.postings import MAX_SEGMENT, invert
from spladelite.index.quantize import LARGEST_WEIGHT
from spladelite.index.scoring import Segment
from spladelite.index.word_rows import (
    SegmentWords,
    merge_words,
    posting_checksum,
    remove_words,
    write_lists,
    write_words,
)

WordsOf = Callable[[apsw.Connection, PassageVectors], SegmentWords]

# Segments of a tier that become one of the next. A larger factor rewrites a passage less often and leaves more
# segments for a search to visit: of n passages about 8 · log8(n / tail_size) at most.
MERGE_FACTOR = 8
# A segment that is nearly full is left alone: merging it again would rewrite much and save nothing.
NEARLY_FULL = 0.75


def sealed_until(connection: apsw.Connection) -> int:
    """The last passage id that a segment covers; later passages are the tail."""
    last: int | None = connection.execute("SELECT max(last_passage_id) FROM segment").get
    return last or 0


def maintain(connection: apsw.Connection, layout: Layout) -> None:
    """Seal the tail if it is full, then merge segments so that their number stays logarithmic; after every write."""
    sealed = sealed_until(connection)
    tail: int = connection.execute("SELECT count(*) FROM passage WHERE passage_id > ?", (sealed,)).get
    if tail >= layout.tail_size:
        _rewrite(connection, layout, [], sealed + 1, next_passage_id(connection) - 1)
        _merge_tiers(connection, layout)
    record_size(connection)


def record_size(connection: apsw.Connection) -> None:
    """Write down how many segments and how long a tail the index has, so that rows that are lost are missed."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('size', ? || ' ' || ? || ' ' || ?)", _size(connection))


def _size(connection: apsw.Connection) -> tuple[int, int, int]:
    segments: int = connection.execute("SELECT count(*) FROM segment").get
    tail: int = connection.execute("SELECT count(*) FROM passage WHERE passage_id > ?", (sealed_until(connection),)).get
    deleted: int = connection.execute("SELECT coalesce(sum(deleted), 0) FROM tombstone").get
    return segments, tail, deleted


def recorded_size(connection: apsw.Connection) -> tuple[int, int, int]:
    """How many segments, passages in the tail, and dead passages in segments there must be."""
    value = connection.execute("SELECT value FROM meta WHERE key = 'size'").get
    try:
        segments, tail, deleted = map(int, value.split(" "))
    except (AttributeError, ValueError):
        raise CorruptIndex(f"table meta: size is {value!r}; run check(repair=True)") from None
    return segments, tail, deleted


def merge_all(connection: apsw.Connection, layout: Layout, words_of: WordsOf | None = None) -> None:
    """Rewrite the whole index into the fewest segments, without dead postings.

    ``words_of`` gives the words of a segment's documents, which otherwise are those that the index has.
    """
    segments = [segment_id for (segment_id,) in connection.execute("SELECT segment_id FROM segment")]
    _rewrite(connection, layout, segments, 1, next_passage_id(connection) - 1, words_of)
    record_size(connection)


def _merge_tiers(connection: apsw.Connection, layout: Layout) -> None:
    limit = layout.tail_size * MERGE_FACTOR
    while True:
        rows = fetch(
            connection,
            "SELECT s.segment_id, s.size - coalesce(t.deleted, 0), s.last_passage_id"
            " FROM segment s LEFT JOIN tombstone t USING (segment_id) ORDER BY s.last_passage_id DESC",
        )
        run = []
        for segment_id, size, last in rows:
            if size >= min(limit, int(layout.segment_size * NEARLY_FULL)):
                break
            run.append((segment_id, size, last))
        if len(run) >= MERGE_FACTOR or (len(run) > 1 and sum(size for _, size, _ in run) >= layout.segment_size):
            first = connection.execute(
                "SELECT coalesce(max(last_passage_id), 0) + 1 FROM segment WHERE last_passage_id < ?",
                (min(last for _, _, last in run),),
            ).get
            _rewrite(
                connection, layout, [segment_id for segment_id, _, _ in run], first, max(last for _, _, last in run)
            )
        if limit >= layout.segment_size:
            return
        limit *= MERGE_FACTOR


def _rewrite(
    connection: apsw.Connection,
    layout: Layout,
    old: Sequence[int],
    first: int,
    last: int,
    words_of: WordsOf | None = None,
) -> None:
    """Replace the segments ``old`` by new ones over the living passages from ``first`` to ``last``."""
    remaining = sorted(
        (read_segment(connection, segment_id) for segment_id in old), key=lambda s: int(s.passage_ids[0])
    )
    for start, end, size in _segment_ranges(connection, layout, first, last):
        passages = read_passages(connection, layout, start, end)
        if len(passages) != size:  # what is not read now would be in no segment afterwards
            raise CorruptIndex(
                f"the documents {start} to {end} have {size} passages, and there are {len(passages)}; "
                f"run check(repair=True)"
            )
        words = None
        if layout.bm25 and words_of is not None:
            words = words_of(connection, passages)
        elif layout.bm25:
            here = [segment for segment in remaining if segment.passage_ids[0] <= end]
            words = merge_words(connection, here, passages.passage_ids, passages.passage_ids == passages.doc_ids)
        while remaining and remaining[0].passage_ids[-1] <= end:  # what is read is dropped: its pages are used again
            drop_segment(connection, remaining.pop(0).segment_id)
        connection.execute("DELETE FROM document_words WHERE doc_id BETWEEN ? AND ?", (start, end))
        write_segment(connection, passages, words, end)
    for segment in remaining:
        drop_segment(connection, segment.segment_id)


def _segment_ranges(connection: apsw.Connection, layout: Layout, first: int, last: int) -> list[tuple[int, int, int]]:
    """Ranges of passage ids, with how many living passages each has: at most ``segment_size``, and whole documents."""
    ranges: list[tuple[int, int, int]] = []
    start, size = first, 0
    for doc_id, passages in connection.execute(
        "SELECT doc_id, passages FROM document WHERE doc_id BETWEEN ? AND ? ORDER BY doc_id", (first, last)
    ):
        if size + passages > layout.segment_size and size:
            ranges.append((start, doc_id - 1, size))
            start, size = doc_id, 0
        size += passages
    return [*ranges, (start, last, size)] if size else ranges


def write_segment(connection: apsw.Connection, passages: PassageVectors, words: SegmentWords | None, last: int) -> None:
    """Store one segment over ``passages``, with the words of their documents, and its posting rows."""
    size = len(passages)
    starts = passages.passage_ids == passages.doc_ids
    blobs = (
        passages.passage_ids.astype("<i8").tobytes(),
        passages.vectors.scales.astype("<f4").tobytes(),
        np.packbits(starts).tobytes(),
        _term_bits(passages.vectors.terms),
    )
    segment_id = next_id(connection, "segment")
    vectors = passages.vectors
    write_lists(connection, segment_id, size, invert(vectors.indptr, vectors.terms, vectors.impacts))
    lengths, buckets = b"", 0
    if words is not None:
        lengths = pack_lengths(words.lengths)
        buckets = write_words(connection, segment_id, size, words.lists)
    connection.execute(
        "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(segment_id, size, last, *blobs),
            segment_checksum(segment_id, size, last, *blobs, lengths, buckets),
            *(lengths, buckets),
        ),
    )


def pack_lengths(lengths: NDArray[np.int64]) -> bytes:
    """A segment's ``lengths``."""
    return lengths.astype("<u4").tobytes()


def _term_bits(terms: NDArray[np.int32]) -> bytes:
    present = np.zeros(int(terms.max(initial=-1)) + 1, bool)
    present[terms] = True
    return np.packbits(present).tobytes()


def drop_segment(connection: apsw.Connection, segment_id: int) -> None:
    """Remove a segment and its posting rows; the passages stay."""
    connection.execute("DELETE FROM posting WHERE segment_id = ?", (segment_id,))
    connection.execute("DELETE FROM tombstone WHERE segment_id = ?", (segment_id,))
    connection.execute("DELETE FROM segment WHERE segment_id = ?", (segment_id,))


def segment_checksum(
    segment_id: int,
    size: int,
    last: int,
    passage_ids: bytes,
    scales: bytes,
    document_starts: bytes,
    terms: bytes,
    lengths: bytes,
    buckets: int,
) -> int:
    """CRC-32 of a segment row; without words that of format 1."""
    value = crc32(struct.pack("<3q", segment_id, size, last))
    for blob in (passage_ids, scales, document_starts, terms, lengths, struct.pack("<q", buckets) if buckets else b""):
        value = crc32(blob, value)
    return value


def tombstone_checksum(segment_id: int, deleted: int, bitmap: bytes) -> int:
    """CRC-32 of a tombstone row."""
    return crc32(bitmap, crc32(struct.pack("<2q", segment_id, deleted)))


def read_segment(connection: apsw.Connection, segment_id: int) -> Segment:
    """Load and check one segment row."""
    return _segment(segment_id, connection.execute(f"{_SEGMENT}, lengths, buckets{_BY_ID}", (segment_id,)).get)


def read_old_segment(connection: apsw.Connection, segment_id: int) -> Segment:
    """:func:`read_segment` of a file of format 1, without words."""
    return _segment(segment_id, connection.execute(f"{_SEGMENT}, x'', 0{_BY_ID}", (segment_id,)).get)


_SEGMENT = "SELECT checksum, size, last_passage_id, passage_ids, scales, document_starts, terms"
_BY_ID = " FROM segment WHERE segment_id = ?"


def _segment(segment_id: int, row: Any) -> Segment:
    if row is None:
        raise CorruptIndex(f"segment {segment_id} cannot be found by its id; run check(repair=True)")
    checksum, size, last, *blobs, lengths, buckets = row
    if (
        not matches(checksum, segment_checksum, segment_id, size, last, *blobs, lengths, buckets)
        or not 1 <= size <= MAX_SEGMENT
        or [len(blob) for blob in blobs[:3]] != [8 * size, 4 * size, -(-size // 8)]
    ):
        raise CorruptIndex(f"segment {segment_id}: its checksum does not match; run check(repair=True)")
    passage_ids = np.frombuffer(blobs[0], "<i8").astype(np.int64, copy=False)
    scales = np.frombuffer(blobs[1], "<f4").astype(np.float32, copy=False)
    starts = np.unpackbits(np.frombuffer(blobs[2], np.uint8), count=size)
    ascending = bool((np.diff(passage_ids) > 0).all()) and passage_ids[0] > 0 and passage_ids[-1] <= last
    if not ascending or not ((scales > 0) & (scales <= LARGEST_WEIGHT)).all() or not starts[0]:
        raise CorruptIndex(f"segment {segment_id}: its passages are not in order; run check(repair=True)")
    of_passage = None
    if buckets:
        if len(lengths) != 4 * int(starts.sum()) or not 0 < buckets <= MAX_BUCKETS or buckets & (buckets - 1):
            raise CorruptIndex(f"segment {segment_id}: what it says of words makes no sense; run check(repair=True)")
        of_passage = np.zeros(size, np.float32)
        of_passage[starts > 0] = np.frombuffer(lengths, "<u4")
    document_of = None if starts.all() else (np.cumsum(starts, dtype=np.int32) - 1).astype(np.int32)
    terms = np.frombuffer(blobs[3], np.uint8)
    return Segment(segment_id, passage_ids, scales, document_of, terms, of_passage, buckets)


def checked_postings(segment_id: int, term_id: int, count: int, blob: bytes, checksum: int, size: int) -> bytes:
    """A posting row's list in the sparse layout, or :class:`CorruptIndex` that names the row."""
    if not matches(checksum, posting_checksum, segment_id, term_id, count, blob):
        raise CorruptIndex(
            f"posting row (segment {segment_id}, term {term_id}): its checksum does not match; run check(repair=True)"
        )
    try:
        return decode(blob, count, size)
    except ValueError as error:
        raise CorruptIndex(
            f"posting row (segment {segment_id}, term {term_id}): {error}; run check(repair=True)"
        ) from error


def checked_bucket(
    segment_id: int, term_id: int, count: int, blob: bytes, checksum: int, size: int, words: Sequence[int]
) -> list[bytes | None]:
    """The lists of some words from the row of their bucket: empty for one that is not there, None for a row of its own.

    Raises:
        CorruptIndex: names the row.
    """
    place = f"posting row (segment {segment_id}, bucket {term_id})"
    if not matches(checksum, posting_checksum, segment_id, term_id, count, blob):
        raise CorruptIndex(f"{place}: its checksum does not match; run check(repair=True)")
    try:
        return [find(blob, count, word, size) for word in words]
    except ValueError as error:
        raise CorruptIndex(f"{place}: {error}; run check(repair=True)") from error


def bury(connection: apsw.Connection, layout: Layout, passage_ids: NDArray[np.int64]) -> None:
    """Remove passages (ids ascending): their rows go, and sealed segments mark them in their tombstones.

    A segment whose passages are all gone is dropped, one that is half dead is rewritten.
    """
    if not len(passage_ids):
        return
    connection.execute(
        "DELETE FROM passage WHERE passage_id IN (SELECT value FROM carray(?))", (int_array(passage_ids),)
    )
    if layout.bm25:
        remove_words(connection, passage_ids)
    previous = 0
    for segment_id, last in fetch(
        connection, "SELECT segment_id, last_passage_id FROM segment ORDER BY last_passage_id"
    ):
        gone = passage_ids[slice(*np.searchsorted(passage_ids, (previous + 1, last + 1)))]
        if len(gone):
            _mark_deleted(connection, layout, segment_id, gone, previous + 1, last)
        previous = last
    record_size(connection)


def _mark_deleted(
    connection: apsw.Connection, layout: Layout, segment_id: int, gone: NDArray[np.int64], first: int, last: int
) -> None:
    segment = read_segment(connection, segment_id)
    dead = read_tombstones(connection, {segment_id: len(segment)}).get(segment_id, np.zeros(len(segment), np.uint8))
    dead[np.isin(segment.passage_ids, gone, assume_unique=True)] = 1
    deleted = int(dead.sum())
    if deleted == len(segment):
        drop_segment(connection, segment_id)
    elif deleted > len(segment) // 2:
        _rewrite(connection, layout, [segment_id], first, last)
    else:
        bitmap = np.packbits(dead).tobytes()
        connection.execute(
            "INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?, ?)",
            (segment_id, deleted, bitmap, tombstone_checksum(segment_id, deleted, bitmap)),
        )


def read_tombstones(connection: apsw.Connection, sizes: dict[int, int]) -> dict[int, NDArray[np.uint8]]:
    """For each segment of ``{segment_id: size}`` that has dead passages: uint8 ``(size,)``, 1 for dead."""
    found = {}
    for segment_id, deleted, bitmap, checksum in connection.execute("SELECT * FROM tombstone"):
        if segment_id not in sizes:
            continue
        size = sizes[segment_id]
        if not matches(checksum, tombstone_checksum, segment_id, deleted, bitmap) or len(bitmap) != -(-size // 8):
            raise CorruptIndex(
                f"tombstone of segment {segment_id}: its checksum does not match; run check(repair=True)"
            )
        found[segment_id] = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=size)
    return found
