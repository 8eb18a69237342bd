"""A file seen as :mod:`~spladelite.transfer.move` sees an engine: batches of documents out, batches in."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from spladelite.arguments import NewDocument
from spladelite.documents.table import (
    EncodedDocuments,
    OnConflict,
    all_ids,
    insert,
    look_up,
    plan,
    remove,
    set_metadata,
)
from spladelite.errors import CorruptIndex, InvalidInput
from spladelite.file.sqlite import fetch
from spladelite.file_models import BUNDLED, FileModels
from spladelite.index.passages import Layout, read_passages
from spladelite.index.quantize import quantize
from spladelite.index.segments import maintain
from spladelite.index.settings import Meta, Settings, read_meta
from spladelite.index.words import analyzer
from spladelite.records import SparseVectors
from spladelite.renaming import rename
from spladelite.session import Session
from spladelite.transfer.engine import Batch, Engine
from spladelite.transfer.meta import check_meta


def with_words(encoded: EncodedDocuments, layout: Layout) -> EncodedDocuments:
    """With the words that a collection of this layout has of them, counted in the texts, as ``add`` does."""
    if not layout.bm25:
        return encoded
    return replace(encoded, words=analyzer(layout.language).count([document.text for document in encoded.documents]))


class Source(Protocol):
    """Where documents come from."""

    name: str

    def meta(self) -> Meta:
        """Model and sizes."""
        ...

    def count(self) -> int:
        """How many documents there are."""
        ...

    def batch(self, after: int, limit: int) -> Batch:
        """The next documents with a number above ``after``."""
        ...

    def has(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that exist."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class EngineSource:
    """An engine's collection, which must be complete."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name = engine, engine.server

    def meta(self) -> Meta:
        """See :class:`Source`."""
        return check_meta(self.engine.meta(), self.name)

    def count(self) -> int:
        """See :class:`Source`."""
        return self.engine.count()

    def batch(self, after: int, limit: int) -> Batch:
        """See :class:`Source`."""
        return self.engine.batch(after, limit)

    def has(self, ids: Sequence[str]) -> set[str]:
        """See :class:`Source`."""
        return set(self.engine.look_up(ids))

    def close(self) -> None:
        """See :class:`Source`."""
        self.engine.close()


class FileSource:
    """A file, opened for reading. What others write meanwhile comes along if it is stored in time."""

    def __init__(self, path: str) -> None:
        self.name = os.path.abspath(path)
        self._session = Session(path, FileModels(None, None), Settings.given(None, None, None, None), read_only=True)
        try:
            if self.meta().slim:
                raise InvalidInput(f"{path} is a slim export, without the vectors; move the full database")
        except BaseException:
            self._session.close()
            raise

    def meta(self) -> Meta:
        """See :class:`Source`."""
        with self._session.connections.read() as connection:
            return read_meta(connection)

    def count(self) -> int:
        """See :class:`Source`."""
        return _count(self._session)

    def has(self, ids: Sequence[str]) -> set[str]:
        """See :class:`Source`."""
        with self._session.connections.read() as connection:
            return set(look_up(connection, list(ids)))

    def batch(self, after: int, limit: int) -> Batch:
        """See :class:`Source`."""
        with self._session.connections.read() as connection:
            rows = fetch(
                connection,
                "SELECT doc_id, id, text, metadata, content_hash, passages FROM document WHERE doc_id > ?"
                " ORDER BY doc_id LIMIT ?",
                (after, limit),
            )
            if not rows:
                return Batch(np.empty(0, np.int64), EncodedDocuments([], [], quantize(SparseVectors.from_rows([]))))
            first, last = rows[0][0], rows[-1][0] + rows[-1][5] - 1
            stored = read_passages(connection, read_meta(connection).layout, first, last)
            spans = fetch(
                connection,
                "SELECT start_char, end_char FROM passage WHERE passage_id BETWEEN ? AND ? ORDER BY passage_id",
                (first, last),
            )
            unread = {
                doc_id
                for (doc_id,) in fetch(
                    connection, "SELECT doc_id FROM unread WHERE doc_id BETWEEN ? AND ?", (first, rows[-1][0])
                )
            }
        numbers = np.array([row[0] for row in rows], np.int64)
        counts = [row[5] for row in rows]
        if len(stored) != sum(counts) or (stored.doc_ids != np.repeat(numbers, counts)).any():
            raise CorruptIndex(f"{self.name}: passages {first} to {last} are not those of their documents; run check()")
        ends = np.cumsum(counts).tolist()
        documents = [NewDocument(id, text, metadata, None, digest) for _, id, text, metadata, digest, _ in rows]
        parts = [spans[end - count : end] for end, count in zip(ends, counts, strict=True)]
        flags = [row[0] in unread for row in rows]
        return Batch(numbers, EncodedDocuments(documents, parts, stored.vectors, unread=flags))

    def close(self) -> None:
        """See :class:`Source`."""
        self._session.close()


class FileTarget:
    """A new file that is filled beside its place, and put there when it is complete.

    What is there already is not touched: a file that exists gets the documents that it lacks, batch by batch.
    """

    def __init__(self, path: str, meta: Meta, model: object) -> None:
        self.path = os.path.abspath(path)
        self.name = path
        self._finished = os.path.exists(self.path)
        self._open_path = self.path if self._finished else self.path + ".moving"
        layout = meta.layout
        given = (
            Settings.given(None, None, None, None)
            if self._finished
            else Settings.given(meta.min_weight, None, None, layout.bm25, layout.language)
        )
        named = None if meta.source in ("", BUNDLED) else meta.source
        self._session = Session(self._open_path, FileModels(named if model is None else model, None), given)

    def meta(self) -> Meta:
        """The file's."""
        with self._session.connections.read() as connection:
            return read_meta(connection)

    @property
    def complete(self) -> bool:
        """Whether it was there before."""
        return self._finished

    def store(self, batch: Batch, on_conflict: OnConflict) -> int:
        """Store what is missing in one transaction; returns how many documents were new or different."""
        with self._session.connections.write() as connection:
            layout = read_meta(connection).layout
            now = plan(connection, batch.encoded.documents, on_conflict)
            remove(connection, layout, [(old.doc_id, old.passages) for old in now.remove])
            for old, document in now.metadata:
                set_metadata(connection, old, document.metadata or "{}")
            if now.insert:
                encoded = batch.encoded.only({document.id for document in now.insert})
                insert(connection, layout, with_words(encoded, layout))
                maintain(connection, layout)
        return len(now.insert) + len(now.metadata)

    def count(self) -> int:
        """How many documents it has."""
        return _count(self._session)

    def prune(self, has: Callable[[Sequence[str]], set[str]]) -> None:
        """Delete what the source does not have any more."""
        after = -1
        while rows := self._ids(after):
            after = rows[-1][0]
            ids = [id for _, id in rows]
            if gone := set(ids) - has(ids):
                with self._session.writing() as connection:
                    stored = look_up(connection, sorted(gone)).values()
                    remove(connection, read_meta(connection).layout, [(old.doc_id, old.passages) for old in stored])

    def _ids(self, after: int) -> list[tuple[int, str]]:
        with self._session.connections.read() as connection:
            return list(all_ids(connection, after, 500))

    def finish(self) -> None:
        """Put it in its place."""
        if not self._finished:
            self._session.close()
            rename(self._open_path, self.path)

    def close(self) -> None:
        """Idempotent."""
        self._session.close()


def _count(session: Session) -> int:
    with session.connections.read() as connection:
        return int(connection.execute("SELECT count(*) FROM document").get)
