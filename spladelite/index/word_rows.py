"""Words in the file: of the tail's documents by document, of sealed ones in posting lists.

What a document has in the tail is one row of ``document_words``; sealing turns it into postings at the document's first
passage. A merge puts the old segments' lists together, so that a text is divided into words only once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.errors import CorruptIndex
from spladelite.file.sqlite import int_array
from spladelite.index.buckets import BUCKET, ID_BYTES, BucketRow, decode_all, pack_ids, unpack_ids
from spladelite.index.buckets import encode as encode_buckets
from spladelite.index.passages import matches
from spladelite.index.postings import Lists, concatenate, decode_many, encode, group
from spladelite.index.scoring import WORD, Segment
from spladelite.index.words import WordCounts


class SegmentWords(NamedTuple):
    """The words of one segment's documents.

    Attributes:
        lists: their posting lists; ordinals of first passages, frequencies as impacts.
        lengths: int64 ``(documents,)``, how many words each document has.
    """

    lists: Lists
    lengths: NDArray[np.int64]


def append_words(connection: apsw.Connection, doc_ids: Sequence[int], words: WordCounts) -> None:
    """Store the words of new documents, as part of the tail."""
    terms, frequencies = pack_ids(words.terms), words.frequencies.tobytes()
    bounds = words.indptr.tolist()
    rows = zip(doc_ids, words.lengths.tolist(), bounds[:-1], bounds[1:], strict=True)
    connection.executemany(
        "INSERT INTO document_words VALUES (?, ?, ?, ?, ?)",
        (
            (*row, words_checksum(*row))
            for row in (
                (doc_id, length, terms[ID_BYTES * a : ID_BYTES * b], frequencies[a:b]) for doc_id, length, a, b in rows
            )
        ),
    )


def words_checksum(doc_id: int, length: int, terms: bytes, frequencies: bytes) -> int:
    """CRC-32 of a row of ``document_words``."""
    return crc32(frequencies, crc32(terms, crc32(struct.pack("<2q", doc_id, length))))


def remove_words(connection: apsw.Connection, doc_ids: NDArray[np.int64]) -> None:
    """Take documents out of the tail; those that are not in it are passed over."""
    connection.execute(
        "DELETE FROM document_words WHERE doc_id IN (SELECT value FROM carray(?))", (int_array(doc_ids),)
    )


def read_words(connection: apsw.Connection, first: int, last: int) -> tuple[NDArray[np.int64], WordCounts]:
    """Doc_ids and words of the tail's documents with ``first <= doc_id <= last``; checked, :class:`CorruptIndex`."""
    doc_ids, lengths, terms, frequencies = [], [], [], []
    for doc_id, length, row_terms, row_frequencies, checksum in connection.execute(
        "SELECT doc_id, length, words, frequencies, checksum FROM document_words WHERE doc_id BETWEEN ? AND ?"
        " ORDER BY doc_id",
        (first, last),
    ):
        if not (
            matches(checksum, words_checksum, doc_id, length, row_terms, row_frequencies)
            and len(row_terms) == ID_BYTES * len(row_frequencies)
            and 0 not in row_frequencies
            and 0 <= length < 1 << 40
        ):
            raise CorruptIndex(f"words of document {doc_id}: their checksum does not match; run check(repair=True)")
        doc_ids.append(doc_id)
        lengths.append(length)
        terms.append(row_terms)
        frequencies.append(row_frequencies)
    indptr = np.zeros(len(doc_ids) + 1, np.int64)
    np.cumsum([len(row) for row in frequencies], out=indptr[1:])
    try:
        ids = unpack_ids(b"".join(terms), indptr)
    except ValueError as error:
        raise CorruptIndex(f"words of documents {first} to {last}: {error}; run check(repair=True)") from None
    counts = WordCounts(indptr, ids, np.frombuffer(b"".join(frequencies), np.uint8), np.array(lengths, np.int64))
    return np.array(doc_ids, np.int64), counts


def group_words(
    doc_ids: NDArray[np.int64], counts: WordCounts, passage_ids: NDArray[np.int64], starts: NDArray[np.bool_]
) -> SegmentWords:
    """The words of documents as those of a segment with the given passages, ``starts`` being the first of documents.

    Raises:
        CorruptIndex: they are not the segment's documents, all of them.
    """
    if not np.array_equal(doc_ids, passage_ids[starts]):
        raise CorruptIndex("words of documents are missing, or there are too many; run check(repair=True)")
    ordinals = np.flatnonzero(starts).astype(np.uint16).repeat(np.diff(counts.indptr))
    return SegmentWords(group(counts.terms, ordinals, counts.frequencies), counts.lengths)


def merge_words(
    connection: apsw.Connection,
    segments: Iterable[Segment],
    passage_ids: NDArray[np.int64],
    starts: NDArray[np.bool_],
) -> SegmentWords:
    """The words of the living documents among ``passage_ids``: from the segments that hold them, and from the tail."""
    lengths = np.full(len(passage_ids), -1, np.int64)
    parts = []
    for segment in segments:
        if segment.lengths is None:
            raise CorruptIndex(f"segment {segment.segment_id} has no words; run check(repair=True)")
        place = np.searchsorted(passage_ids, segment.passage_ids).clip(max=len(passage_ids) - 1)
        kept = passage_ids[place] == segment.passage_ids
        lengths[place[kept]] = segment.lengths[kept].astype(np.int64)
        lists = read_lists(connection, segment)
        stays = kept[lists.ordinals]
        terms = np.repeat(np.array(lists.terms, np.int64), np.diff(lists.indptr))[stays]
        first = np.flatnonzero(np.diff(terms, prepend=-1))
        ordinals = place[lists.ordinals[stays]].astype(np.uint16)
        parts.append(Lists(terms[first].tolist(), np.append(first, len(terms)), ordinals, lists.impacts[stays]))
    doc_ids, counts = read_words(connection, int(passage_ids[0]), int(passage_ids[-1]))
    ordinals = np.searchsorted(passage_ids, doc_ids)
    if (ordinals >= len(passage_ids)).any() or (passage_ids[ordinals] != doc_ids).any():
        raise CorruptIndex("there are words of documents that are not there; run check(repair=True)")
    lengths[ordinals] = counts.lengths
    parts.append(group(counts.terms, ordinals.astype(np.uint16).repeat(np.diff(counts.indptr)), counts.frequencies))
    lengths = lengths[starts]
    if (lengths < 0).any():
        raise CorruptIndex("words of documents are missing; run check(repair=True)")
    return SegmentWords(concatenate(parts), lengths)


def write_words(connection: apsw.Connection, segment_id: int, size: int, lists: Lists) -> int:
    """Store the posting lists of the words of a segment of ``size`` passages; returns how many buckets it has."""
    buckets, rows, long = encode_buckets(lists)
    write_rows(connection, segment_id, rows)
    write_lists(connection, segment_id, size, long)
    return buckets


def write_lists(connection: apsw.Connection, segment_id: int, size: int, lists: Lists) -> None:
    """Store posting lists of a segment of ``size`` passages, a row each."""
    counts = np.diff(lists.indptr).tolist()
    write_rows(connection, segment_id, zip(lists.terms, counts, encode(lists, size), strict=True))


def write_rows(connection: apsw.Connection, segment_id: int, rows: Iterable[tuple[int, int, bytes]]) -> None:
    """Store rows of ``posting``: term_id, count, blob."""
    connection.executemany(
        "INSERT INTO posting VALUES (?, ?, ?, ?, ?)",
        ((segment_id, *row, posting_checksum(segment_id, *row)) for row in rows),
    )


def read_lists(connection: apsw.Connection, segment: Segment) -> Lists:
    """All posting lists of a segment's words; checked, :class:`CorruptIndex`."""
    rows = []
    for term, count, blob, checksum in connection.execute(
        "SELECT term_id, count, postings, checksum FROM posting WHERE segment_id = ? AND term_id >= ? ORDER BY term_id",
        (segment.segment_id, BUCKET),
    ):
        if not matches(checksum, posting_checksum, segment.segment_id, term, count, blob):
            raise CorruptIndex(
                f"posting row (segment {segment.segment_id}, term {term}): its checksum does not match;"
                f" run check(repair=True)"
            )
        rows.append(BucketRow(term, count, blob))
    own = [row for row in rows if row.term_id >= WORD]
    try:
        small, long = decode_all(rows[: len(rows) - len(own)], segment.buckets, len(segment))
        if long.tolist() != [row.term_id for row in own]:
            raise ValueError("words whose rows are missing, or rows of words that are not there")
        big = decode_many(long.tolist(), [row.postings for row in own], [row.blob for row in own], len(segment))
    except ValueError as error:
        raise CorruptIndex(f"posting rows of segment {segment.segment_id}: {error}; run check(repair=True)") from error
    return concatenate([small, big])


def posting_checksum(segment_id: int, term_id: int, count: int, blob: bytes) -> int:
    """CRC-32 of a posting row."""
    return crc32(blob, crc32(struct.pack("<3q", segment_id, term_id, count)))
