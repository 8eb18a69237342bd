"""Verify every checksum, recompute the index from the stored vectors, and compare: what ``db.check()`` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.documents import feedback
from spladelite.documents.table import DOCUMENT_COLUMNS, read_document
from spladelite.errors import CorruptIndex
from spladelite.file.schema import own_objects
from spladelite.file.sqlite import fetch, quoted
from spladelite.index import dense_blocks as dense
from spladelite.index.buckets import BUCKET
from spladelite.index.passages import Layout, PassageVectors, passage_checksum, read_passages
from spladelite.index.postings import Lists, invert, split
from spladelite.index.scoring import Segment
from spladelite.index.segments import checked_postings, read_segment, read_tombstones, sealed_until
from spladelite.index.snapshot import LAST_ROWID, read_snapshot
from spladelite.index.unread import read_unread
from spladelite.index.word_rows import read_lists, read_words
from spladelite.index.words import WordCounts, analyzer
from spladelite.records import Finding

BATCH = 4096


# What reading a row may raise when it is not what the schema says.
_STRANGE = (CorruptIndex, apsw.Error, TypeError, ValueError, AttributeError, LookupError, ArithmeticError)


def check(connection: apsw.Connection, layout: Layout, slim: bool) -> list[Finding]:
    """Everything that is wrong with the file, each with its table and row; empty if all is well."""
    sections = [
        ("database", _file(connection)),
        ("term", _terms(connection, layout)),
        ("document", _documents(connection)),
        ("passage", _slim_passages(connection) if slim else _passages(connection, layout)),
        ("segment", _segments(connection, layout, slim)),
        ("segment", _whole(connection)),
    ]
    sections.append(("unread", _unread(connection)))
    sections.append(("feedback", _of_table("feedback", feedback.problems, connection)))
    if layout.bm25:
        sections.append(("document_words", _words(connection, layout)))
    if layout.dimension:
        sections.append(("dense_block", _of_table("dense_block", dense.problems, connection, layout.dimension)))
    return [finding for table, findings in sections for finding in _all(table, findings)]


def _all(table: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of a section, and what ended it too early."""
    try:
        yield from findings
    except _STRANGE as error:
        yield Finding(table, "", f"cannot be read to its end: {error}")


def _of_table(table: str, problems: Callable[..., Iterable[tuple[int, str]]], *args: object) -> Iterator[Finding]:
    for row, problem in problems(*args):
        yield Finding(table, str(row), problem)


def _file(connection: apsw.Connection) -> Iterator[Finding]:
    lines = dict.fromkeys(line for (line,) in fetch(connection, "PRAGMA integrity_check"))
    own = [name for kind, name, *_ in own_objects(connection) if kind == "table"]
    if own:  # what a user's own table holds against its own declaration is no damage, and SQLite stops at 100 lines
        lines = {line: None for line in lines if not any(_is_about(line, name) for name in own)}
        for (name,) in fetch(connection, "SELECT name FROM sqlite_schema WHERE type = 'table'"):
            if name not in own:
                lines |= dict.fromkeys(
                    line for (line,) in fetch(connection, "PRAGMA integrity_check(" + quoted(name) + ")")
                )
    for line in lines:
        if line != "ok":
            yield Finding("database", "file", line)


def _is_about(line: str, table: str) -> bool:
    return line == f"CHECK constraint failed in {table}" or f" value in {table}." in line


def _terms(connection: apsw.Connection, layout: Layout) -> Iterator[Finding]:
    ids = [term_id for (term_id,) in fetch(connection, "SELECT term_id FROM term ORDER BY term_id")]
    if ids != list(range(layout.vocabulary_size)):
        yield Finding("term", "", f"does not hold the {layout.vocabulary_size} terms of the vocabulary")


def _words(connection: apsw.Connection, layout: Layout) -> Iterator[Finding]:
    """Compare the words of the tail, and of each segment's living documents, with those of the stored texts."""
    sealed = sealed_until(connection)
    rows = fetch(connection, "SELECT segment_id, last_passage_id FROM segment ORDER BY last_passage_id")
    previous = 0
    for segment_id, last in rows:
        try:
            segment = read_segment(connection, segment_id)
            lists = read_lists(connection, segment)
            starts = np.arange(len(segment)) if segment.starts is None else segment.starts[:-1]
            assert segment.lengths is not None
            found = _by_document(lists, segment.passage_ids, segment.lengths.astype(np.int64), starts)
            yield from _compare_words(connection, layout, previous + 1, last, *found)
        except CorruptIndex as error:
            yield Finding("posting", f"segment {segment_id}", str(error))
        previous = last
    try:
        yield from _compare_words(connection, layout, sealed + 1, LAST_ROWID, *read_words(connection, 0, LAST_ROWID))
    except CorruptIndex as error:
        yield Finding("document_words", "", str(error))


def _by_document(
    lists: Lists, passage_ids: NDArray[np.int64], lengths: NDArray[np.int64], starts: NDArray[np.integer]
) -> tuple[NDArray[np.int64], WordCounts]:
    """Posting lists of words turned back into the words of each document."""
    terms = np.repeat(np.array(lists.terms, np.int64), np.diff(lists.indptr))
    order = np.lexsort((terms, lists.ordinals))
    indptr = np.append(np.searchsorted(lists.ordinals[order], starts), len(terms))
    return passage_ids[starts], WordCounts(indptr, terms[order], lists.impacts[order], lengths[starts])


def _compare_words(
    connection: apsw.Connection, layout: Layout, first: int, last: int, doc_ids: NDArray[np.int64], stored: WordCounts
) -> Iterator[Finding]:
    """Findings where the stored words of documents are not those of their texts; dead documents have no text."""
    place = {doc_id: i for i, doc_id in enumerate(doc_ids.tolist())}
    while rows := fetch(
        connection,
        "SELECT doc_id, text FROM document WHERE doc_id BETWEEN ? AND ? ORDER BY doc_id LIMIT ?",
        (first, last, BATCH),
    ):
        counts = analyzer(layout.language).count([text for _, text in rows])
        for i, (doc_id, _) in enumerate(rows):
            row = np.array([place[doc_id]] if doc_id in place else [], np.intp)
            if not len(row) or not stored.take(row).equals(counts.take(np.array([i]))):
                yield Finding("document_words", str(doc_id), "its words are not those of its text")
        if rows[-1][0] < first:
            return
        first = rows[-1][0] + 1


def _whole(connection: apsw.Connection) -> Iterator[Finding]:
    """What only shows when a search puts all together: missing rows, an order that is broken."""
    try:
        read_snapshot(connection, {})
    except CorruptIndex as error:
        yield Finding("segment", "", str(error))


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


def _unread(connection: apsw.Connection) -> Iterator[Finding]:
    read_unread(connection)
    for (doc_id,) in connection.execute("SELECT doc_id FROM unread WHERE doc_id NOT IN (SELECT doc_id FROM document)"):
        yield Finding("unread", str(doc_id), "is no document")


def _passages(connection: apsw.Connection, layout: Layout) -> Iterator[Finding]:
    ids = [passage_id for (passage_id,) in fetch(connection, "SELECT passage_id FROM passage ORDER BY passage_id")]
    for begin in range(0, len(ids), BATCH):
        some = ids[begin : begin + BATCH]
        try:
            if read_passages(connection, layout, some[0], some[-1]).passage_ids.tolist() == some:
                continue
        except _STRANGE:
            pass
        for passage_id in some:
            try:
                if not len(read_passages(connection, layout, passage_id, passage_id)):
                    yield Finding("passage", str(passage_id), "cannot be found by its id")
            except _STRANGE as error:
                yield Finding("passage", str(passage_id), str(error))


def _slim_passages(connection: apsw.Connection) -> Iterator[Finding]:
    for passage_id, doc_id, start, end, scale, checksum in connection.execute(
        "SELECT passage_id, doc_id, start_char, end_char, scale, checksum FROM passage"
    ):
        if passage_checksum(passage_id, doc_id, start, end, scale, b"", b"") != checksum:
            yield Finding("passage", str(passage_id), "its checksum does not match")


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
        except _STRANGE as error:
            yield Finding("segment", str(segment_id), str(error))
        previous = last
    for table in ("posting", "tombstone"):
        for (segment_id,) in connection.execute(
            f"SELECT DISTINCT segment_id FROM {table} WHERE segment_id NOT IN (SELECT segment_id FROM segment)"
        ):
            yield Finding(table, str(segment_id), "belongs to no segment")


def _slim_postings(connection: apsw.Connection, segment: Segment) -> Iterator[Finding]:
    missing = set() if segment.terms is None else set(np.flatnonzero(np.unpackbits(segment.terms)).tolist())
    for term, count, blob, checksum in connection.execute(
        "SELECT term_id, count, postings, checksum FROM posting WHERE segment_id = ? AND term_id < ?",
        (segment.segment_id, BUCKET),
    ):
        missing.discard(term)
        try:
            checked_postings(segment.segment_id, term, count, blob, checksum, len(segment))
        except CorruptIndex as error:
            yield Finding("posting", f"segment {segment.segment_id}, term {term}", str(error))
    for term in missing:
        yield Finding("posting", f"segment {segment.segment_id}, term {term}", "is missing")


def _postings(
    connection: apsw.Connection, segment: Segment, dead: NDArray[np.uint8], passages: PassageVectors
) -> Iterator[Finding]:
    """Compare a segment's posting rows with those that its passages' vectors give. Dead passages cannot be compared."""
    ordinal_of = np.flatnonzero(dead == 0).astype(np.uint16)
    lists = invert(passages.vectors.indptr, passages.vectors.terms, passages.vectors.impacts)
    expected = dict(zip(lists.terms, range(len(lists.terms)), strict=True))
    size = len(segment)
    for term, count, blob, checksum in connection.execute(
        "SELECT term_id, count, postings, checksum FROM posting WHERE segment_id = ? AND term_id < ?",
        (segment.segment_id, BUCKET),
    ):
        row = f"segment {segment.segment_id}, term {term}"
        try:
            postings = checked_postings(segment.segment_id, term, count, blob, checksum, size)
        except CorruptIndex as error:
            expected.pop(term, None)
            yield Finding("posting", row, str(error))
            continue
        ordinals, impacts = split(postings, size)
        living = dead[ordinals] == 0
        i = expected.pop(term, None)
        wanted, wanted_impacts = lists.of(i) if i is not None else (lists.ordinals[:0], lists.impacts[:0])
        if not (
            np.array_equal(ordinals[living], ordinal_of[wanted]) and np.array_equal(impacts[living], wanted_impacts)
        ):
            yield Finding("posting", row, "is not what the stored vectors give")
    for term in expected:
        yield Finding("posting", f"segment {segment.segment_id}, term {term}", "is missing")
