"""Verify every checksum, recompute the index from the stored vectors, and compare: what ``db.check()`` runs."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite import dense, lexical
from spladelite.connection import fetch
from spladelite.documents import DOCUMENT_COLUMNS, read_document
from spladelite.errors import CorruptIndex
from spladelite.index import (
    Layout,
    PassageVectors,
    checked_postings,
    passage_checksum,
    read_passages,
    read_segment,
    read_tombstones,
)
from spladelite.postings import encode, invert
from spladelite.records import Finding
from spladelite.search import Segment

BATCH = 4096


def check(connection: apsw.Connection, layout: Layout, slim: bool) -> list[Finding]:
    """Everything that is wrong with the file, each with its table and row; empty if all is well."""
    integrity = fetch(connection, "PRAGMA integrity_check")
    findings = [Finding("database", "file", line) for (line,) in integrity if line != "ok"]
    findings += _documents(connection)
    findings += _slim_passages(connection) if slim else _passages(connection, layout)
    findings += _segments(connection, layout, slim)
    if layout.bm25:
        findings += [Finding("document_text", str(row), text) for row, text in lexical.problems(connection)]
    if layout.dimension:
        findings += [
            Finding("dense_block", str(row), text) for row, text in dense.problems(connection, layout.dimension)
        ]
    return findings


def _documents(connection: apsw.Connection) -> Iterator[Finding]:
    for row in connection.execute(f"SELECT {DOCUMENT_COLUMNS} FROM document d"):
        try:
            read_document(row)
        except CorruptIndex as error:
            yield Finding("document", str(row[0]), str(error))
    for doc_id, passages, found in connection.execute(
        "SELECT d.doc_id, d.passages, count(p.passage_id) FROM document d LEFT JOIN passage p"
        " ON p.passage_id BETWEEN d.doc_id AND d.doc_id + d.passages - 1 AND p.doc_id = d.doc_id"
        " GROUP BY d.doc_id HAVING count(p.passage_id) <> d.passages"
    ):
        yield Finding("document", str(doc_id), f"has {found} of its {passages} passages")
    for (passage_id,) in connection.execute(
        "SELECT passage_id FROM passage WHERE doc_id NOT IN (SELECT doc_id FROM document)"
    ):
        yield Finding("passage", str(passage_id), "belongs to no document")


def _passages(connection: apsw.Connection, layout: Layout) -> Iterator[Finding]:
    first: int = connection.execute("SELECT coalesce(min(passage_id), 1) FROM passage").get
    last: int = connection.execute("SELECT coalesce(max(passage_id), 0) FROM passage").get
    for begin in range(first, last + 1, BATCH):
        try:
            read_passages(connection, layout, begin, begin + BATCH - 1)
        except CorruptIndex:
            yield from _single_passages(connection, layout, begin, begin + BATCH - 1)


def _slim_passages(connection: apsw.Connection) -> Iterator[Finding]:
    for passage_id, doc_id, start, end, scale, checksum in connection.execute(
        "SELECT passage_id, doc_id, start_char, end_char, scale, checksum FROM passage"
    ):
        if passage_checksum(passage_id, doc_id, start, end, scale, b"", b"") != checksum:
            yield Finding("passage", str(passage_id), "its checksum does not match")


def _single_passages(connection: apsw.Connection, layout: Layout, first: int, last: int) -> Iterator[Finding]:
    ids = fetch(connection, "SELECT passage_id FROM passage WHERE passage_id BETWEEN ? AND ?", (first, last))
    for (passage_id,) in ids:
        try:
            read_passages(connection, layout, passage_id, passage_id)
        except CorruptIndex as error:
            yield Finding("passage", str(passage_id), str(error))


def _segments(connection: apsw.Connection, layout: Layout, slim: bool) -> Iterator[Finding]:
    previous = 0
    sizes: dict[int, int] = {}
    for segment_id, last in fetch(
        connection, "SELECT segment_id, last_passage_id FROM segment ORDER BY last_passage_id"
    ):
        try:
            segment = read_segment(connection, segment_id)
            sizes[segment_id] = len(segment)
            if slim:
                yield from _slim_postings(connection, segment)
                continue
            dead = read_tombstones(connection, sizes).get(segment_id, np.zeros(len(segment), np.uint8))
            passages = read_passages(connection, layout, previous + 1, last)
            if passages.passage_ids.tolist() != segment.passage_ids[dead == 0].tolist():
                yield Finding("segment", str(segment_id), "its living passages are not those of the table passage")
            else:
                yield from _postings(connection, segment, dead, passages)
        except CorruptIndex as error:
            yield Finding("segment", str(segment_id), str(error))
        previous = last
    for table in ("posting", "tombstone"):
        for (segment_id,) in connection.execute(
            f"SELECT DISTINCT segment_id FROM {table} WHERE segment_id NOT IN (SELECT segment_id FROM segment)"
        ):
            yield Finding(table, str(segment_id), "belongs to no segment")


def _slim_postings(connection: apsw.Connection, segment: Segment) -> Iterator[Finding]:
    for term, count, blob, checksum in connection.execute(
        "SELECT term_id, count, postings, checksum FROM posting WHERE segment_id = ?", (segment.segment_id,)
    ):
        try:
            checked_postings(segment.segment_id, term, count, blob, checksum, len(segment))
        except CorruptIndex as error:
            yield Finding("posting", f"segment {segment.segment_id}, term {term}", str(error))


def _postings(
    connection: apsw.Connection, segment: Segment, dead: NDArray[np.uint8], passages: PassageVectors
) -> Iterator[Finding]:
    """Compare a segment's posting rows with those that its passages' vectors give. Dead passages cannot be compared."""
    ordinal_of = np.flatnonzero(dead == 0).astype(np.uint16)
    expected = {
        term: (ordinal_of[ordinals], impacts)
        for term, ordinals, impacts in invert(passages.vectors.indptr, passages.vectors.terms, passages.vectors.impacts)
    }
    size = len(segment)
    for term, count, blob, checksum in connection.execute(
        "SELECT term_id, count, postings, checksum FROM posting WHERE segment_id = ?", (segment.segment_id,)
    ):
        row = f"segment {segment.segment_id}, term {term}"
        try:
            postings = checked_postings(segment.segment_id, term, count, blob, checksum, size)
        except CorruptIndex as error:
            expected.pop(term, None)
            yield Finding("posting", row, str(error))
            continue
        ordinals = np.frombuffer(postings, "<u2", count)
        impacts = np.frombuffer(postings, np.uint8, count, 2 * count)
        living = dead[ordinals] == 0
        wanted = expected.pop(term, (np.empty(0, np.uint16), np.empty(0, np.uint8)))
        if encode(ordinals[living], impacts[living], size) != encode(*wanted, size):
            yield Finding("posting", row, "is not what the stored vectors give")
    for term in expected:
        yield Finding("posting", f"segment {segment.segment_id}, term {term}", "is missing")
