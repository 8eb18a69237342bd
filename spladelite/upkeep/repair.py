"""``check(repair=True)``: what can still be read goes into a new database, which then takes the old one's place.

The new database is built in a temporary file and copied over the damaged one in one transaction; before that, the
damaged file is copied to ``kb.db.damaged``. Document texts are kept as they are found, even where their
checksum says that they changed. The index is built anew from the stored vectors; a document whose vector is damaged is
encoded again.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Container, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.arguments import NewDocument, content_hash
from spladelite.documents import feedback
from spladelite.documents.ingest import encode_documents
from spladelite.documents.metadata_index import metadata_index_fields, metadata_index_sql
from spladelite.documents.table import DOCUMENT_COLUMNS, EncodedDocuments, insert, read_document
from spladelite.errors import Busy, CorruptIndex
from spladelite.file import schema
from spladelite.file.paths import replacing
from spladelite.file.sqlite import backup, fetch, open_file
from spladelite.file_models import FileModels
from spladelite.index import dense_blocks as dense
from spladelite.index.passages import Layout, read_passages
from spladelite.index.segments import merge_all
from spladelite.index.settings import read_meta
from spladelite.index.unread import read_unread
from spladelite.index.words import analyzer
from spladelite.records import Finding
from spladelite.session import Session
from spladelite.upkeep.exchange import ATTEMPTS, carry_over, exchange, number_from, state

IsUnread = Callable[[int, NewDocument], bool]

_UNREADABLE = (apsw.Error, UnicodeDecodeError, TypeError, ValueError, CorruptIndex)


def repair(session: Session) -> list[Finding]:
    """Rebuild the database; returns what could not be kept as it was.

    Raises:
        Busy: others changed the database at every one of 20 attempts.
        ReadOnly: the database is open read-only, or a slim export, which has no vectors to rebuild from.
    """
    live = session.connections
    live.require_writable()
    if not live.memory:
        with live.read() as connection, replacing(_unused(f"{live.path}.damaged")) as copy:
            backup(connection, copy)
    with live.locked_in_memory():
        for _ in range(ATTEMPTS):
            with live.read() as connection:
                version = state(connection)
                target = open_file(":memory:" if live.memory else "")  # "": a temporary file without a name
                findings = list(_salvage(connection, target, session.models))
            if exchange(live, target, version):
                session.changed()
                return findings
    raise Busy(f"{live.path}: others write without a pause; try again")


def _unused(path: str) -> str:
    """The path, with a number where an earlier repair has left its copy."""
    numbered = (f"{path}.{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if not os.path.exists(name))


def _salvage(damaged: apsw.Connection, target: apsw.Connection, models: FileModels) -> Iterator[Finding]:
    meta = read_meta(damaged)
    target.execute("BEGIN")
    schema.create(target, lambda new: _copy_settings(damaged, new))
    for table in ("passage", "segment"):
        number_from(target, table, _last_id(damaged, table))
    taken: set[str] = set()
    unread = _unread(damaged, models)
    for doc_id in _doc_ids(damaged):
        document = yield from _document(damaged, doc_id, taken)
        if document is not None:
            taken.add(document.id)
            yield from _store(damaged, target, meta.layout, doc_id, document, models, unread)
    merge_all(target, meta.layout)
    try:
        carry_over(damaged, target)
    except _UNREADABLE as error:
        yield Finding(
            "database", "file", f"a table of your own cannot be read to its end, look for it in the copy: {error}"
        )
    target.execute("COMMIT")


def _copy_settings(damaged: apsw.Connection, target: apsw.Connection) -> None:
    target.executemany("INSERT INTO meta VALUES (?, ?)", fetch(damaged, "SELECT key, value FROM meta"))
    target.execute("INSERT OR REPLACE INTO meta VALUES ('unread', '0 0')")
    target.executemany("INSERT INTO term VALUES (?, ?)", fetch(damaged, "SELECT term_id, term FROM term"))
    with suppress(*_UNREADABLE):
        feedback.copy(damaged, target)
    for field in metadata_index_fields(damaged):
        target.execute(metadata_index_sql(field))


def _unread(damaged: apsw.Connection, models: FileModels) -> IsUnread:
    """What tells whether the model cannot read a document: the file, or, where that is damaged, the model."""
    with suppress(*_UNREADABLE):
        stored = read_unread(damaged)
        return lambda doc_id, _: doc_id in stored

    def judged(_: int, document: NewDocument) -> bool:
        of_model = content_hash(document.text, None) == document.content_hash  # its vector was not the caller's
        return of_model and not models.sparse.reads(document.text)

    return judged


def _last_id(damaged: apsw.Connection, table: str) -> int:
    last = 0
    for sql in (
        f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'",
        f"SELECT max({table}_id) FROM {table}",
        "SELECT max(last_passage_id) FROM segment",
    ):
        with suppress(*_UNREADABLE):
            value = damaged.execute(sql).get
            if isinstance(value, int) and value < 1 << 60:
                last = max(last, value)
    return last


def _doc_ids(damaged: apsw.Connection) -> list[int]:
    """Every doc_id that the table, its index or the passages know, as far as each can be read."""
    found: set[int] = set()
    for sql in (
        "SELECT doc_id FROM document NOT INDEXED ORDER BY doc_id",
        "SELECT doc_id FROM document NOT INDEXED ORDER BY doc_id DESC",
        "SELECT doc_id FROM document INDEXED BY sqlite_autoindex_document_1 ORDER BY id",
        "SELECT doc_id FROM document INDEXED BY sqlite_autoindex_document_1 ORDER BY id DESC",
        "SELECT doc_id FROM passage ORDER BY passage_id",
        "SELECT doc_id FROM passage ORDER BY passage_id DESC",
    ):
        with suppress(*_UNREADABLE):
            for (doc_id,) in damaged.execute(sql):
                if isinstance(doc_id, int):
                    found.add(doc_id)
    return sorted(found)


def _document(
    damaged: apsw.Connection, doc_id: int, taken: Container[str]
) -> Generator[Finding, None, NewDocument | None]:
    """The document as it can be stored again; None if nothing of it can be read."""
    try:
        row = damaged.execute(f"SELECT {DOCUMENT_COLUMNS} FROM document d WHERE doc_id = ?", (doc_id,)).get
    except _UNREADABLE as error:
        yield Finding("document", str(doc_id), f"is lost, its row cannot be read: {error}")
        return None
    if row is None:
        yield Finding("document", str(doc_id), "is lost, there is no row of it")
        return None
    with suppress(*_UNREADABLE):
        stored = read_document(row)
        if stored.id not in taken:
            return NewDocument(stored.id, stored.text, row[3], None, row[5])
    id, text, metadata = _as_text(row[1]), _as_text(row[2]), row[3]
    try:
        kept: Any = json.loads(metadata)
    except (ValueError, TypeError):
        kept = None
    if not isinstance(kept, dict):
        kept = {"damaged": _as_text(metadata)}
    id = id if id and id not in taken else f"damaged-{doc_id}"
    yield Finding("document", str(doc_id), f"is damaged; what could be read is kept under the id {id!r}: compare it")
    return NewDocument(id, text, json.dumps(kept, ensure_ascii=False), None, content_hash(text, None))


def _as_text(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.encode("utf-8", "replace").decode()


def _store(
    damaged: apsw.Connection,
    target: apsw.Connection,
    layout: Layout,
    doc_id: int,
    document: NewDocument,
    models: FileModels,
    unread: IsUnread,
) -> Iterator[Finding]:
    """Copy a document with its vectors, or, where they are damaged, encode it anew."""
    encoded = _stored_vectors(damaged, layout, doc_id, document, unread)
    if encoded is None:
        yield Finding("document", str(doc_id), f"its vectors were damaged: {document.id!r} was encoded again")
        given = None
        if layout.dimension and not models.dense.encodes:
            given = _given_vector(damaged, layout, doc_id)
            if not given.any():
                yield Finding("document", str(doc_id), f"the dense vector of {document.id!r} is lost: give it again")
        digest = content_hash(document.text, None, given)
        encoded = encode_documents([replace(document, content_hash=digest, dense=given)], models)
    insert(target, layout, encoded)


def _given_vector(damaged: apsw.Connection, layout: Layout, doc_id: int) -> NDArray[np.float32]:
    """The dense vector that a caller has given to a document, 0 where it cannot be read."""
    vector = np.zeros(layout.dimension, np.float32)
    with suppress(*_UNREADABLE):
        vector[:] = np.nan_to_num(dense.read_vectors(damaged, np.array([doc_id], np.int64), layout.dimension)[0])
    return vector


def _stored_vectors(
    damaged: apsw.Connection, layout: Layout, doc_id: int, document: NewDocument, unread: IsUnread
) -> EncodedDocuments | None:
    try:
        count = damaged.execute("SELECT passages FROM document WHERE doc_id = ?", (doc_id,)).get
        rows = fetch(
            damaged,
            "SELECT start_char, end_char FROM passage WHERE passage_id BETWEEN ? AND ? ORDER BY passage_id",
            (doc_id, doc_id + count - 1),
        )
        found = read_passages(damaged, layout, doc_id, doc_id + count - 1)
        if len(found) != count or not count or (found.doc_ids != doc_id).any():
            return None
        if not all(0 <= start <= end <= len(document.text) for start, end in rows):
            return None
        vectors = dense.read_vectors(damaged, found.passage_ids, layout.dimension) if layout.dimension else None
        if vectors is not None and vectors.shape[0] and bool((vectors != vectors).any()):
            return None
        words = analyzer(layout.language).count([document.text]) if layout.bm25 else None
        spans = [[(start, end) for start, end in rows]]
        return EncodedDocuments([document], spans, found.vectors, vectors, words, [unread(doc_id, document)])
    except _UNREADABLE:
        return None
