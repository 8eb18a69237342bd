"""Move a database to another model: build the new index beside the file, then exchange the content in one transaction.

The file beside, ``kb.db.reencode``, is an ordinary database with the new model, filled by ``upsert``: after an
interruption the same call goes on where it stopped, since what is there already is not encoded again. Meanwhile the old
model serves every reader, and others may write.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from types import EllipsisType

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.arguments import new_documents
from spladelite.documents import table
from spladelite.documents.ingest import BATCH_CHARACTERS, Target, ingest
from spladelite.documents.metadata_index import add_metadata_index, metadata_index_fields
from spladelite.errors import Busy, CorruptIndex, InvalidInput, ModelMismatch, SpladeLiteError
from spladelite.file.connection import Connections
from spladelite.file.sqlite import fetch
from spladelite.file_models import FileModel, FileModels
from spladelite.index.dense_blocks import read_vectors
from spladelite.index.passages import PassageVectors
from spladelite.index.segments import merge_all
from spladelite.index.settings import Settings, read_meta, set_language
from spladelite.index.word_rows import SegmentWords, group_words
from spladelite.index.words import WordCounts, analyzer
from spladelite.session import Session
from spladelite.upkeep.exchange import ATTEMPTS, State, carry_over, exchange, number_from, state

BATCH = 512


def change_language(session: Session, language: str | None, advance: Callable[[int], object]) -> None:
    """Divide all texts into words again, by the rules of ``language``; one transaction."""
    if not session.meta.layout.bm25:
        raise InvalidInput(f"{session.path} was created with bm25=False, and so has no words of a language")
    with session.writing() as connection:
        layout = read_meta(connection).layout

        def words_of(connection: apsw.Connection, passages: PassageVectors) -> SegmentWords:
            starts = passages.passage_ids == passages.doc_ids
            doc_ids, counts = [], []
            for first in range(0, int(starts.sum()), BATCH):
                some = passages.passage_ids[starts][first : first + BATCH]
                rows = fetch(
                    connection,
                    "SELECT doc_id, text FROM document WHERE doc_id BETWEEN ? AND ? ORDER BY doc_id",
                    (int(some[0]), int(some[-1])),
                )
                doc_ids += [doc_id for doc_id, _ in rows]
                counts.append(analyzer(language).count([text for _, text in rows]))
                advance(len(rows))
            every = WordCounts.concatenate(counts)
            return group_words(np.array(doc_ids, np.int64), every, passages.passage_ids, starts)

        set_language(connection, language)
        merge_all(connection, layout, words_of)


def reencode(
    session: Session, model: object, language: str | EllipsisType | None, advance: Callable[[int], object]
) -> None:
    """Encode all documents of a session's file again with ``model``, and let the session go on with it.

    Raises:
        Busy: others changed the database at every one of 20 attempts to exchange.
        ModelError: the model cannot be loaded.
    """
    new_model = FileModel(model)
    live = session.connections
    side_path = ":memory:" if live.memory else f"{live.path}.reencode"
    with live.outside_transaction(), closing(_open_side(session, side_path, model, new_model, language)) as side:
        _renumber(live, side.connections)
        for attempt in range(ATTEMPTS):
            version = _catch_up(live, side, advance if attempt == 0 else lambda _: None)
            with side.connections.outside_transaction() as source:
                done = exchange(live, source, version)
            if done:
                break
        else:
            raise Busy(
                f"{session.path}: others write without a pause; call reencode again, it goes on where it stopped"
            )
    if not live.memory:
        os.unlink(side_path)
    session.changed()
    with live.read() as connection:
        session.models.use(new_model, read_meta(connection))


def _open_side(
    session: Session, side_path: str, model: object, new_model: FileModel, language: str | EllipsisType | None
) -> Session:
    meta = session.meta
    layout = meta.layout
    language = layout.language if isinstance(language, EllipsisType) else language
    settings = Settings(meta.min_weight, layout.tail_size, layout.segment_size, layout.bm25, language)

    def create() -> Session:
        side = Session(side_path, FileModels(model, session.models.dense.given(meta)), settings)
        if side.meta.fingerprint != new_model.load().fingerprint:
            side.close()
            raise ModelMismatch(f"{side_path} is being built with {side.meta.model}")
        return side

    try:
        return create()
    except SpladeLiteError:
        if side_path == ":memory:" or not os.path.exists(side_path):
            raise
    # Left behind by a call with another model or other settings.
    os.unlink(side_path)
    return create()


def _renumber(live: Connections, side: Connections) -> None:
    with live.read() as connection:
        used = dict(fetch(connection, "SELECT name, seq FROM sqlite_sequence"))
    with side.write() as connection:
        for name in ("passage", "segment"):
            number_from(connection, name, used.get(name, 0))


def _catch_up(live: Connections, side: Session, advance: Callable[[int], object]) -> State:
    """Bring the new index up to the live documents; returns the state of ``live`` that it now has."""
    with live.read() as connection:
        version = state(connection)
        known = {id for (id,) in fetch(connection, "SELECT id FROM document")}
        fields = metadata_index_fields(connection)
    with side.connections.write() as connection:
        for field in fields:
            add_metadata_index(connection, field)
    target = Target(side.connections, side.models, on_conflict="replace")
    vocabulary_size = side.meta.layout.vocabulary_size
    dimension = 0 if side.models.dense.encodes else side.meta.layout.dimension  # a caller's vectors are carried over
    for batch, dense in _documents(live, dimension):
        texts, ids, metadata = zip(*batch, strict=True)
        parsed = [json.loads(text) for text in metadata]
        documents = new_documents(texts, ids, parsed, None, vocabulary_size, dense, dimension)
        ingest(target, documents, lambda *_: None)
        advance(len(batch))
    with live.read() as reading, side.connections.write() as connection:
        rows = fetch(reading, "SELECT * FROM feedback")
        connection.execute("DELETE FROM feedback")
        connection.executemany("INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?)", rows)
        gone = [id for (id,) in fetch(connection, "SELECT id FROM document") if id not in known]
        table.remove(connection, side.meta.layout, table.places(connection, gone))
    with live.read() as source, side.connections.write() as connection:
        carry_over(source, connection)
    return version


def _documents(
    live: Connections, dimension: int
) -> Iterator[tuple[list[tuple[str, str, str]], NDArray[np.float32] | None]]:
    """Texts, ids and metadata in batches; with a ``dimension`` also the dense vectors of their first passages."""
    after = 0
    while True:
        rows: list[tuple[int, str, str, str]] = []
        characters = 0
        with live.read() as connection:
            for row in connection.execute(
                "SELECT doc_id, id, text, metadata FROM document WHERE doc_id > ? ORDER BY doc_id LIMIT ?",
                (after, BATCH),
            ):
                rows.append(row)
                characters += len(row[2])
                if characters >= BATCH_CHARACTERS:
                    break
            doc_ids = np.array([row[0] for row in rows], np.int64)
            dense = np.nan_to_num(read_vectors(connection, doc_ids, dimension)) if dimension else None
        if not rows:
            return
        if any(following <= doc_id for doc_id, following in pairwise([after, *(row[0] for row in rows)])):
            raise CorruptIndex(f"documents after {after} are out of order; run check(repair=True)")
        after = rows[-1][0]
        yield [(text, id, metadata) for _, id, text, metadata in rows], dense
