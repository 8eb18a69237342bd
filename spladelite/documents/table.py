"""Documents in their table: look up, insert, replace, delete, and read what a hit shows.

Functions take a connection that is inside a transaction. A document's ``doc_id`` is the id of its first passage, so a
text that changes gets a new one; its ``id``, the user's, stays.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any, Literal, NamedTuple
from zlib import crc32

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.arguments import NewDocument
from spladelite.errors import CorruptIndex, IdConflict
from spladelite.file.sqlite import fetch, int_array
from spladelite.index import dense_blocks as dense
from spladelite.index.passages import Layout, append, check_passage, next_passage_id
from spladelite.index.quantize import QuantizedVectors, take
from spladelite.index.segments import bury
from spladelite.index.unread import add_unread, remove_unread
from spladelite.index.word_rows import append_words
from spladelite.index.words import WordCounts
from spladelite.json_values import canonical_json
from spladelite.records import Document, Hit

_pack_numbers = struct.Struct("<6q").pack
_decode = json.JSONDecoder().raw_decode  # a third of the time of json.loads, which looks for white space around it

DocumentRow = tuple[int, str, str, str, int, bytes, int]
OnConflict = Literal["error", "skip", "replace"]


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of a stored document before its text is read."""

    doc_id: int
    passages: int
    content_hash: bytes
    metadata: str


@dataclass(frozen=True, slots=True, eq=False)
class EncodedDocuments:
    """New documents with their passages: character spans, and one quantised vector a span, in order.

    ``dense`` holds the passages' dense vectors too, float32 ``(P, D)``, in a file that has them; ``words`` the
    documents' words, in a file with BM25; ``unread`` says for each document whether the model cannot read most of it.
    """

    documents: Sequence[NewDocument]
    spans: Sequence[Sequence[tuple[int, int]]]
    vectors: QuantizedVectors
    dense: NDArray[np.float32] | None = None
    words: WordCounts | None = None
    unread: Sequence[bool] = ()

    def only(self, ids: set[str]) -> EncodedDocuments:
        """Those with an id among ``ids``."""
        kept = [document.id in ids for document in self.documents]
        if all(kept):
            return self
        rows = np.flatnonzero(np.repeat(kept, [len(spans) for spans in self.spans]))
        return EncodedDocuments(
            list(compress(self.documents, kept)),
            list(compress(self.spans, kept)),
            take(self.vectors, rows),
            None if self.dense is None else self.dense[rows],
            None if self.words is None else self.words.take(np.flatnonzero(kept)),
            list(compress(self.unread, kept)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What has to happen so that a batch of documents is stored.

    Attributes:
        insert: new documents, and those that replace one.
        remove: what is replaced.
        metadata: documents whose text stays and whose metadata changes.
        new, replaced, unchanged: the ids, as in :class:`~spladelite.records.Added`.
    """

    insert: list[NewDocument]
    remove: list[Stored]
    metadata: list[tuple[Stored, NewDocument]]
    new: list[str]
    replaced: list[str]
    unchanged: list[str]


def look_up(connection: apsw.Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """The stored documents among ``ids``."""
    if not ids:
        return {}
    rows = connection.execute(
        "SELECT id, doc_id, passages, content_hash, metadata FROM carray(?) c CROSS JOIN document d ON d.id = c.value",
        (apsw.carray(tuple(ids)),),
    )
    return {id: Stored(*row) for id, *row in rows}


def plan(connection: apsw.Connection, batch: Sequence[NewDocument], on_conflict: OnConflict) -> Plan:
    """Compare a batch with what the file has; see :func:`compare`."""
    return compare(look_up(connection, list({document.id for document in batch})), batch, on_conflict)


def compare(stored: Mapping[str, Stored], batch: Sequence[NewDocument], on_conflict: OnConflict) -> Plan:
    """Compare a batch with the stored documents of the same ids.

    Same id and same content: nothing to do. Same id and other content: ``on_conflict`` decides, :class:`IdConflict` for
    ``"error"``. Metadata that was not given is not compared when adding, and becomes ``{}`` when replacing.
    """
    result = Plan([], [], [], [], [], [])
    seen: dict[str, NewDocument] = {}
    for document in batch:
        earlier = seen.setdefault(document.id, document)
        if earlier is not document:
            same = canonical_json(earlier.metadata or "{}") == canonical_json(document.metadata or "{}")
            if earlier.content_hash != document.content_hash or not same:
                raise IdConflict(f"id {document.id!r} occurs twice in this call, with different content; give it once")
            continue
        old = stored.get(document.id)
        same_metadata = (
            old is None
            or (document.metadata is None and on_conflict != "replace")
            or canonical_json(old.metadata) == canonical_json(document.metadata or "{}")
        )
        if old is None:
            result.insert.append(document)
            result.new.append(document.id)
        elif on_conflict == "skip" or (old.content_hash == document.content_hash and same_metadata):
            result.unchanged.append(document.id)
        elif on_conflict == "error":
            what = "other metadata" if old.content_hash == document.content_hash else "another text"
            raise IdConflict(
                f"id {document.id!r} exists already, with {what}; use upsert(), or on_conflict='replace' "
                f"or 'skip'. Nothing of this batch was stored"
            )
        elif old.content_hash == document.content_hash:
            result.metadata.append((old, document))
            result.replaced.append(document.id)
        else:
            result.replaced.append(document.id)
            result.remove.append(old)
            result.insert.append(document)
    return result


def insert(connection: apsw.Connection, layout: Layout, encoded: EncodedDocuments) -> None:
    """Store new documents and their passages."""
    counts = [len(spans) for spans in encoded.spans]
    first = next_passage_id(connection)
    doc_ids = [first, *(np.cumsum(counts) + first).tolist()][:-1]
    connection.executemany(
        "INSERT INTO document (doc_id, id, text, metadata, passages, content_hash, checksum)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (*row, document_checksum(*row))
            for row in (
                (doc_id, document.id, document.text, document.metadata or "{}", count, document.content_hash)
                for doc_id, document, count in zip(doc_ids, encoded.documents, counts, strict=True)
            )
        ),
    )
    append(
        connection,
        layout,
        range(first, first + sum(counts)),
        np.repeat(doc_ids, counts).tolist(),
        list(chain.from_iterable(encoded.spans)),
        encoded.vectors,
    )
    if layout.bm25:
        assert encoded.words is not None
        append_words(connection, doc_ids, encoded.words)
    add_unread(connection, list(compress(doc_ids, encoded.unread)))
    if layout.dimension:
        assert encoded.dense is not None
        dense.insert(
            connection, dense.quantize(np.arange(first, first + sum(counts)), np.repeat(doc_ids, counts), encoded.dense)
        )


def set_metadata(connection: apsw.Connection, stored: Stored, metadata: str) -> None:
    """Replace a document's metadata; its text and index stay as they are."""
    id, text = connection.execute("SELECT id, text FROM document WHERE doc_id = ?", (stored.doc_id,)).get
    checksum = document_checksum(stored.doc_id, id, text, metadata, stored.passages, stored.content_hash)
    connection.execute(
        "UPDATE document SET metadata = ?, checksum = ? WHERE doc_id = ?", (metadata, checksum, stored.doc_id)
    )


def remove(connection: apsw.Connection, layout: Layout, documents: Sequence[tuple[int, int]]) -> None:
    """Delete documents, given as (doc_id, passages), with all that belongs to them."""
    if not documents:
        return
    ordered = sorted(documents)
    doc_ids = [doc_id for doc_id, _ in ordered]
    connection.execute("DELETE FROM document WHERE doc_id IN (SELECT value FROM carray(?))", (int_array(doc_ids),))
    remove_unread(connection, doc_ids)
    passages = [np.arange(doc_id, doc_id + count, dtype=np.int64) for doc_id, count in ordered]
    bury(connection, layout, np.concatenate(passages))
    if layout.dimension:
        dense.delete(connection, np.concatenate(passages), layout.dimension)


def document_checksum(doc_id: int, id: str, text: str, metadata: str, passages: int, content_hash: bytes) -> int:
    """CRC-32 of a document row: its numbers and lengths, then its contents."""
    a, b, c = id.encode(), text.encode(), metadata.encode()
    numbers = _pack_numbers(doc_id, passages, len(a), len(b), len(c), len(content_hash))
    return crc32(b"".join((numbers, a, b, c, content_hash)))


def read_document(row: DocumentRow) -> Document:
    """A row of ``document`` as a record; :class:`CorruptIndex` if its checksum does not match."""
    _check_document(*row)
    return Document(row[1], row[2], read_metadata(row[1], row[3]))


def _check_document(
    doc_id: int, id: str, text: str, metadata: str, passages: int, content_hash: bytes, checksum: int
) -> None:
    try:
        valid = document_checksum(doc_id, id, text, metadata, passages, content_hash) == checksum
    except (TypeError, AttributeError, struct.error):  # a column of a type that the schema does not allow
        valid = False
    if not valid:
        raise CorruptIndex(f"document {doc_id} (id {id!r}): its checksum does not match; run check()")


def read_metadata(id: str, metadata: str) -> dict[str, Any]:
    """A document's metadata; :class:`CorruptIndex` if it is no JSON object."""
    if metadata == "{}":
        return {}
    try:
        value, end = _decode(metadata)
    except ValueError:
        value, end = None, 0
    if not isinstance(value, dict) or end < len(metadata):
        raise CorruptIndex(f"document {id!r}: its metadata is not a JSON object; run check()")
    return value


DOCUMENT_COLUMNS = "d.doc_id, d.id, d.text, d.metadata, d.passages, d.content_hash, d.checksum"


def get(connection: apsw.Connection, id: str) -> Document | None:
    """The document with this id, or None."""
    row = connection.execute(f"SELECT {DOCUMENT_COLUMNS} FROM document d WHERE id = ?", (id,)).get
    return None if row is None else read_document(row)  # whose id is the index's, not the table's: both are verified


_DOCUMENTS = f"SELECT {DOCUMENT_COLUMNS} FROM carray(?) c CROSS JOIN document d ON d.doc_id = c.value"
_WITHOUT_TEXT = (
    "SELECT p.passage_id, d.id, '', d.metadata, p.start_char, p.end_char FROM carray(?) c"
    " CROSS JOIN passage p ON p.passage_id = c.value CROSS JOIN document d ON d.doc_id = p.doc_id"
)
_PASSAGES = (
    "SELECT p.passage_id, p.doc_id, p.start_char, p.end_char, p.scale, coalesce(p.terms, x''),"
    " coalesce(p.impacts, x''), p.checksum FROM carray(?) c CROSS JOIN passage p ON p.passage_id = c.value"
)


class Ranked(NamedTuple):
    """What a search has found for one query, best first.

    Attributes:
        passage_ids: int64 ``(m,)``.
        scores: float32 ``(m,)``.
        relevance: float64 ``(m,)``, see :attr:`spladelite.records.Hit.relevance`.
        query: the query's weights by term id.
    """

    passage_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    relevance: NDArray[np.float64]
    query: Mapping[int, float]


PassageText = tuple[str, str, str, int, int]  # its document's id, text and metadata, where it starts and ends


def read_hits(connection: apsw.Connection, ranked: Sequence[Ranked], text: bool = True) -> list[list[Hit]]:
    """The documents behind ranked passages, in the same order; for several queries at once.

    The only passage of a document has the document's id and all of its text, so the document is enough.

    Args:
        connection: inside a transaction.
        ranked: for each query what was found.
        text: whether the hits have their texts; without, no text is read, and no checksum of a document compared.
    """
    wanted = sorted({id for found in ranked for id in found.passage_ids.tolist()})  # ascending: neighbours in pages
    if not wanted:
        return [[] for _ in ranked]
    if text:
        documents = _read_documents(connection, wanted)
        found = {
            doc_id: (id, whole, metadata, 0, len(whole))
            for doc_id, (id, whole, metadata, passages) in documents.items()
            if passages == 1
        }
        if len(found) < len(wanted):
            found |= _read_parts(connection, [id for id in wanted if id not in found], documents)
    else:
        found = {columns[0]: columns[1:] for columns in connection.execute(_WITHOUT_TEXT, (int_array(wanted),))}
    if len(found) < len(wanted):
        raise CorruptIndex("the index names passages that are not in the database; run check(repair=True)")
    result = []
    for one in ranked:
        hits = []
        for passage_id, score, relevance in zip(
            one.passage_ids.tolist(), one.scores.tolist(), one.relevance.tolist(), strict=True
        ):
            id, whole, metadata, start, end = found[passage_id]
            hits.append(Hit(id, score, whole, read_metadata(id, metadata), start, end, one.query, relevance))
        result.append(hits)
    return result


def _read_documents(connection: apsw.Connection, doc_ids: Any) -> dict[int, tuple[str, str, str, int]]:
    """Id, text, metadata and number of passages of those documents that there are."""
    found = {}
    for row in connection.execute(_DOCUMENTS, (int_array(doc_ids),)):
        _check_document(*row)
        doc_id, id, text, metadata, passages, *_ = row
        found[doc_id] = id, text, metadata, passages
    return found


def _read_parts(
    connection: apsw.Connection, passage_ids: list[int], documents: dict[int, tuple[str, str, str, int]]
) -> dict[int, PassageText]:
    """Passages that are parts of documents, each document read once however many of its passages are asked for."""
    rows = fetch(connection, _PASSAGES, (int_array(passage_ids),))
    for columns in rows:
        check_passage(columns)
    missing = sorted({columns[1] for columns in rows}.difference(documents))
    if missing:
        documents = documents | _read_documents(connection, missing)
    found = {}
    for passage_id, doc_id, start, end, *_ in rows:
        if doc_id not in documents:
            continue
        id, text, metadata, _ = documents[doc_id]
        if not 0 <= start <= end <= len(text):
            raise CorruptIndex(f"passage {passage_id}: characters {start} to {end} are not in its document")
        found[passage_id] = id, text, metadata, start, end
    return found


def document_ids(connection: apsw.Connection, passage_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The doc_id of each passage, int64 ``(n,)``."""
    if not len(passage_ids):
        return passage_ids
    rows = fetch(
        connection,
        "SELECT p.doc_id FROM carray(?) c CROSS JOIN passage p ON p.passage_id = c.value",
        (int_array(passage_ids),),
    )
    if len(rows) != len(passage_ids):
        raise CorruptIndex("the index names passages that are not in the database; run check(repair=True)")
    return np.array([doc_id for (doc_id,) in rows], np.int64)


def places(connection: apsw.Connection, ids: Sequence[str]) -> list[tuple[int, int]]:
    """(doc_id, passages) of the documents among ``ids``, as :func:`remove` takes them."""
    return [(stored.doc_id, stored.passages) for stored in look_up(connection, ids).values()]


def passage_counts(connection: apsw.Connection, doc_ids: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(doc_id, passages) of documents."""
    if not len(doc_ids):
        return []
    return fetch(
        connection,
        "SELECT doc_id, passages FROM carray(?) c CROSS JOIN document d ON d.doc_id = c.value",
        (int_array(doc_ids),),
    )


def stored(connection: apsw.Connection, doc_ids: NDArray[np.int64]) -> list[tuple[str, Stored]]:
    """(id, what is known before the text is read) of documents."""
    if not len(doc_ids):
        return []
    rows = connection.execute(
        "SELECT id, doc_id, passages, content_hash, metadata FROM carray(?) c"
        " CROSS JOIN document d ON d.doc_id = c.value",
        (int_array(doc_ids),),
    )
    return [(id, Stored(*row)) for id, *row in rows]


def rename(connection: apsw.Connection, stored: Stored, id: str, metadata: str) -> None:
    """Give a document another id and other metadata; its text and index stay as they are."""
    text = connection.execute("SELECT text FROM document WHERE doc_id = ?", (stored.doc_id,)).get
    checksum = document_checksum(stored.doc_id, id, text, metadata, stored.passages, stored.content_hash)
    connection.execute(
        "UPDATE document SET id = ?, metadata = ?, checksum = ? WHERE doc_id = ?",
        (id, metadata, checksum, stored.doc_id),
    )


def last_doc_id(connection: apsw.Connection) -> int:
    """The doc_id of the latest document; 0 if there is none."""
    last: int | None = connection.execute("SELECT max(doc_id) FROM document").get
    return last or 0


def all_ids(connection: apsw.Connection, after: int, limit: int) -> Iterator[tuple[int, str]]:
    """(doc_id, id) of the next documents in the order they were stored."""
    for doc_id, id in connection.execute(
        "SELECT doc_id, id FROM document WHERE doc_id > ? ORDER BY doc_id LIMIT ?", (after, limit)
    ):
        if doc_id <= after or not isinstance(id, str):
            raise CorruptIndex(f"document {doc_id}: out of order, or its id is not text; run check(repair=True)")
        after = doc_id
        yield doc_id, id
