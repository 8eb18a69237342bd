"""A file seen as :mod:`~spladelite.transfer.move` sees an engine: batches of documents out, batches in."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from spladelite.arguments import NewDocument
from spladelite.database import SpladeLite
from spladelite.documents.table import EncodedDocuments, insert, look_up, plan, remove, set_metadata
from spladelite.errors import CorruptIndex, InvalidInput
from spladelite.index.passages import read_passages
from spladelite.index.segments import maintain
from spladelite.index.settings import Meta, read_meta
from spladelite.transfer.engine import Batch, Engine
from spladelite.transfer.remote import check_meta


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
        self._db = SpladeLite(path, read_only=True)
        try:
            if self.meta().slim:
                raise InvalidInput(f"{path} is a slim export, without the vectors; move the full database")
        except BaseException:
            self._db.close()
            raise

    def meta(self) -> Meta:
        """See :class:`Source`."""
        with self._db._connections.read() as connection:
            return read_meta(connection)

    def count(self) -> int:
        """See :class:`Source`."""
        return len(self._db)

    def has(self, ids: Sequence[str]) -> set[str]:
        """See :class:`Source`."""
        with self._db._connections.read() as connection:
            return set(look_up(connection, list(ids)))

    def batch(self, after: int, limit: int) -> Batch:
        """See :class:`Source`."""
        with self._db._connections.read() as connection:
            rows = connection.execute(
                "SELECT doc_id, id, text, metadata, content_hash, passages FROM document WHERE doc_id > ?"
                " ORDER BY doc_id LIMIT ?",
                (after, limit),
            ).fetchall()
            if not rows:
                return Batch(np.empty(0, np.int64), EncodedDocuments([], [], _no_vectors()))
            first, last = rows[0][0], rows[-1][0] + rows[-1][5] - 1
            stored = read_passages(connection, read_meta(connection).layout, first, last)
            spans = connection.execute(
                "SELECT start_char, end_char FROM passage WHERE passage_id BETWEEN ? AND ? ORDER BY passage_id",
                (first, last),
            ).fetchall()
        numbers = np.array([row[0] for row in rows], np.int64)
        counts = [row[5] for row in rows]
        if len(stored) != sum(counts) or (stored.doc_ids != np.repeat(numbers, counts)).any():
            raise CorruptIndex(f"{self.name}: passages {first} to {last} are not those of their documents; run check()")
        ends = np.cumsum(counts).tolist()
        documents = [NewDocument(id, text, metadata, None, digest) for _, id, text, metadata, digest, _ in rows]
        parts = [spans[end - count : end] for end, count in zip(ends, counts, strict=True)]
        return Batch(numbers, EncodedDocuments(documents, parts, stored.vectors))

    def close(self) -> None:
        """See :class:`Source`."""
        self._db.close()


def _no_vectors():  # type: ignore[no-untyped-def]
    from spladelite.index.quantize import quantize
    from spladelite.records import SparseVectors

    return quantize(SparseVectors.from_rows([]))


class FileTarget:
    """A new file that is filled beside its place, and put there when it is complete.

    What is there already is not touched: a file that exists gets the documents that it lacks, batch by batch.
    """

    def __init__(self, path: str, meta: Meta, model: object) -> None:
        self.path = os.path.abspath(path)
        self.name = path
        self._finished = os.path.exists(self.path)
        self._open_path = self.path if self._finished else self.path + ".moving"
        source = model if model is not None else _source(meta)
        self._db = (
            SpladeLite(self._open_path, source)
            if self._finished
            else SpladeLite(self._open_path, source, min_weight=meta.min_weight)
        )

    def meta(self) -> Meta:
        """The file's."""
        with self._db._connections.read() as connection:
            return read_meta(connection)

    @property
    def complete(self) -> bool:
        """Whether it was there before."""
        return self._finished

    def store(self, batch: Batch, replace: bool) -> int:
        """Store what is missing in one transaction; returns how many documents were new or different."""
        with self._db._connections.write() as connection:
            layout = read_meta(connection).layout
            now = plan(connection, batch.encoded.documents, replace)
            remove(connection, layout, [(old.doc_id, old.passages) for old in now.remove])
            for old, document in now.metadata:
                set_metadata(connection, old, document.metadata or "{}")
            if now.insert:
                insert(connection, layout, batch.encoded.only({document.id for document in now.insert}))
                maintain(connection, layout)
        return len(now.insert) + len(now.metadata)

    def count(self) -> int:
        """How many documents it has."""
        return len(self._db)

    def prune(self, has: Callable[[Sequence[str]], set[str]]) -> None:
        """Delete what the source does not have any more."""
        ids = list(self._db)
        for start in range(0, len(ids), 500):
            chunk = ids[start : start + 500]
            if gone := set(chunk) - has(chunk):
                self._db.delete(sorted(gone))

    def finish(self) -> None:
        """Put it in its place."""
        if not self._finished:
            self._db.optimize()
            self._db.close()
            os.replace(self._open_path, self.path)

    def close(self) -> None:
        """Idempotent."""
        self._db.close()


def _source(meta: Meta) -> object:
    return None if meta.source in ("", "bundled") else meta.source
