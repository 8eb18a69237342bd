"""From format 1, which had its words in a table of FTS5, to format 2: the stored texts are divided into words again.

Segments are immutable, so the work is done segment by segment before anything is changed, into a file beside
(``kb.db.migration``): after an interruption, opening the database again goes on where it stopped. Then one transaction
takes over all of it. What cannot be read is left as it is, for ``check(repair=True)``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.arguments import content_hash
from spladelite.errors import CorruptIndex, SpladeLiteError
from spladelite.file.sqlite import fetch, open_file
from spladelite.file_models import FileModels
from spladelite.index import ascending
from spladelite.index.buckets import BUCKET
from spladelite.index.passages import matches
from spladelite.index.postings import Lists, encode, is_short
from spladelite.index.scoring import Segment
from spladelite.index.segments import pack_lengths, read_old_segment, record_size, sealed_until, segment_checksum
from spladelite.index.settings import read_meta, set_language
from spladelite.index.unread import add_unread
from spladelite.index.word_rows import SegmentWords, append_words, group_words, posting_checksum, write_words
from spladelite.index.words import DEFAULT_LANGUAGE, WordCounts, analyzer
from spladelite.progress import ticking

Reads = Callable[[str], bool]
Row = tuple[int, str, bytes]  # doc_id, text and content_hash

LAST = 1 << 62  # a doc_id that no document reaches
BATCH = 1024  # documents that are read at once
LONGEST_SHORT = 37  # postings of a list that may have two bytes for an ordinal: that of a whole segment


class Upgrade:
    """The rows of the second format, in three steps; SQL, ``migrations/0002_words.sql``, does the tables.

    Args:
        models: of the file. Where its model can be loaded, documents that it cannot read are marked.
    """

    format = 2

    def __init__(self, models: FileModels) -> None:
        self._models = models

    def prepare(self, connection: apsw.Connection, path: str) -> None:
        """Divide the texts of all segments into words, into the file beside. Changes nothing in the database."""
        if not _has_words(connection):
            return
        total = connection.execute("SELECT count(*) FROM document").get
        reads = self._reads(connection, path)
        with closing(_open_side(path)) as side, ticking(None, range(total), "new format") as advance:
            for (segment_id,) in fetch(connection, "SELECT segment_id FROM segment ORDER BY last_passage_id"):
                with suppress(CorruptIndex):
                    segment = read_old_segment(connection, segment_id)
                    if not side.execute("SELECT 1 FROM segment WHERE segment_id = ?", (segment_id,)).get:
                        words, unread = _words_of(connection, segment, reads, advance)
                        with side:
                            side.executemany("INSERT INTO unread VALUES (?)", ((doc_id,) for doc_id in unread))
                            buckets = write_words(side, segment_id, len(segment), words.lists)
                            side.execute(
                                "INSERT INTO segment VALUES (?, ?, ?)",
                                (segment_id, pack_lengths(words.lengths), buckets),
                            )

    def apply(self, connection: apsw.Connection, path: str) -> None:
        """Take over what was prepared, and prepare the rest; in a write transaction, with the tables of format 2."""
        for (segment_id,) in fetch(connection, "SELECT segment_id FROM segment"):
            with suppress(CorruptIndex):
                _shorten(connection, read_old_segment(connection, segment_id))
        set_language(connection, DEFAULT_LANGUAGE)
        record_size(connection)
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('unread', '0 0')")
        reads = self._reads(connection, path)
        if not _has_words(connection):
            for rows in _texts(connection, 0, LAST):
                add_unread(connection, _unread(rows, reads))
            return
        self.prepare(connection, path)  # nothing to do, unless somebody has sealed a segment since
        with closing(_open_side(path)) as side:
            for segment_id, lengths, buckets in fetch(side, "SELECT segment_id, lengths, buckets FROM segment"):
                row = connection.execute(
                    "SELECT size, last_passage_id, passage_ids, scales, document_starts, terms FROM segment"
                    " WHERE segment_id = ?",
                    (segment_id,),
                ).get
                if row is None:  # merged since into another
                    continue
                checksum: Any = segment_checksum(segment_id, *row, lengths, buckets)  # type: ignore[call-arg]
                connection.executemany(
                    "INSERT INTO posting VALUES (?, ?, ?, ?, ?)",
                    side.execute("SELECT * FROM posting WHERE segment_id = ? ORDER BY rowid", (segment_id,)),
                )
                connection.execute(
                    "UPDATE segment SET lengths = ?, buckets = ?, checksum = ? WHERE segment_id = ?",
                    (lengths, buckets, checksum, segment_id),
                )
            unread = {doc_id for (doc_id,) in fetch(side, "SELECT doc_id FROM unread")}
        unread.intersection_update(doc_id for (doc_id,) in fetch(connection, "SELECT doc_id FROM document"))
        after = sealed_until(connection)
        for rows in _texts(connection, after + 1, LAST):
            append_words(connection, [row[0] for row in rows], _count(rows))
            unread.update(_unread(rows, reads))
        add_unread(connection, sorted(unread))

    def _reads(self, connection: apsw.Connection, path: str) -> Reads:
        """Whether the model can read a text; without the model it is not known, and all are taken for readable."""
        try:
            self._models.sparse.belongs_to(read_meta(connection, {"language": DEFAULT_LANGUAGE}), path)
            self._models.sparse.load()
        except SpladeLiteError:
            return lambda _: True
        return self._models.sparse.reads

    def finish(self, path: str) -> None:
        """Remove the file beside."""
        if path != ":memory:":
            with suppress(FileNotFoundError):
                os.unlink(_side_path(path))


def _has_words(connection: apsw.Connection) -> bool:
    return bool(connection.execute("SELECT value FROM meta WHERE key = 'bm25'").get == "1")


def _side_path(path: str) -> str:
    return f"{path}.migration"


def _open_side(path: str) -> apsw.Connection:
    side = open_file(_side_path(path))
    try:
        side.execute("PRAGMA synchronous = NORMAL")
        side.execute(
            "CREATE TABLE IF NOT EXISTS segment (segment_id INTEGER PRIMARY KEY, lengths, buckets);"
            "CREATE TABLE IF NOT EXISTS unread (doc_id INTEGER PRIMARY KEY);"
            "CREATE TABLE IF NOT EXISTS posting (segment_id, term_id, count, postings, checksum);"
            "CREATE INDEX IF NOT EXISTS posting_segment ON posting (segment_id)"
        )
    except apsw.Error:  # of something else, or torn by a power cut: only work that can be done again
        side.close()
        os.unlink(_side_path(path))
        return _open_side(path)
    return side


def _texts(connection: apsw.Connection, first: int, last: int) -> Iterator[list[Row]]:
    """The documents from ``first`` to ``last``."""
    while True:
        rows = fetch(
            connection,
            "SELECT doc_id, text, content_hash FROM document WHERE doc_id BETWEEN ? AND ? ORDER BY doc_id LIMIT ?",
            (first, last, BATCH),
        )
        if not rows:
            return
        if rows[0][0] < first or any(not isinstance(text, str) for _, text, _ in rows):
            raise CorruptIndex(f"documents from {first} on cannot be read; run check(repair=True)")
        yield rows
        first = rows[-1][0] + 1


def _count(rows: Sequence[Row]) -> WordCounts:
    return analyzer(DEFAULT_LANGUAGE).count([text for _, text, _ in rows])


def _unread(rows: Sequence[Row], reads: Reads) -> list[int]:
    """Those that the model has encoded and cannot read; it has not where the content is more than the text."""
    return [doc_id for doc_id, text, digest in rows if not reads(text) and digest == content_hash(text, None)]


def _words_of(
    connection: apsw.Connection, segment: Segment, reads: Reads, advance: Callable[[int], object]
) -> tuple[SegmentWords, list[int]]:
    """The words of a segment's living documents, dead ones have none; and which of them the model cannot read."""
    first_ordinals = np.arange(len(segment)) if segment.starts is None else segment.starts[:-1]
    documents = segment.passage_ids[first_ordinals]
    doc_ids: list[int] = []
    counts, unread = [], []
    for rows in _texts(connection, int(documents[0]), int(documents[-1])):
        doc_ids += [row[0] for row in rows]
        counts.append(_count(rows))
        unread += _unread(rows, reads)
        advance(len(rows))
    every = WordCounts.concatenate(counts)
    is_first = np.zeros(len(segment), bool)
    is_first[first_ordinals] = np.isin(documents, doc_ids)
    words = group_words(np.array(doc_ids, np.int64), every, segment.passage_ids, is_first)
    lengths = np.zeros(len(documents), np.int64)
    lengths[is_first[first_ordinals]] = words.lengths
    return SegmentWords(words.lists, lengths), unread


def _shorten(connection: apsw.Connection, segment: Segment) -> None:
    """Write the ordinals of short posting lists in two bytes each, where format 1 had another form."""
    size = len(segment)
    rows = fetch(
        connection,
        "SELECT term_id, count, postings, checksum FROM posting WHERE segment_id = ? AND count <= ? AND term_id < ?",
        (segment.segment_id, LONGEST_SHORT, BUCKET),
    )
    changed = []
    for term_id, count, blob, checksum in rows:
        if not is_short(count, size) or not matches(
            checksum, posting_checksum, segment.segment_id, term_id, count, blob
        ):
            continue
        with suppress(ascending.Misfit, ValueError):
            ordinals = ascending.decode([blob[:-count]], np.array([0, count]), ascending.blocks_of(size))
            impacts: NDArray[np.uint8] = np.frombuffer(blob, np.uint8, count, len(blob) - count)
            lists = Lists([term_id], np.array([0, count]), ordinals.astype(np.uint16), impacts)
            (short,) = encode(lists, size)
            changed.append(
                (short, posting_checksum(segment.segment_id, term_id, count, short), segment.segment_id, term_id)
            )
    connection.executemany(
        "UPDATE posting SET postings = ?, checksum = ? WHERE segment_id = ? AND term_id = ?", changed
    )
