"""Copying a collection from a file to an engine, back, or between engines: resumable, idempotent, in bounded memory.

A move *adds* the source's documents, vectors as they are, in their order; words are counted in the texts, as ``add``
does, which gives those of the source. Documents that the target has already are
skipped, so the same command goes on after an interruption, and running it twice changes nothing. A target that the
move creates is marked ``incomplete`` until the last document has arrived, and nobody can search it until then; a file
is filled under another name and renamed. Into a target that is complete, a later move adds what is missing; an id that
has other content there is an error, and what only the target has stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spladelite.documents.table import OnConflict, compare
from spladelite.errors import InvalidInput, ServerError, Unfinished
from spladelite.index.settings import Meta
from spladelite.progress import Progress, ticking
from spladelite.transfer import bulk
from spladelite.transfer.collections import EngineSource, FileSource, FileTarget, Source, with_words
from spladelite.transfer.connect import is_url, open_engine
from spladelite.transfer.engine import Batch, Changed, Engine
from spladelite.transfer.meta import check_meta, meta_of, same_model

BATCH = 500
WIDEST = 1_000_000  # numbers that a batch spans
TRIES = 20


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move did.

    Attributes:
        documents: of the source.
        new: those of them that the target did not have.
        left: what the source has and the target cannot take: ``"bm25"``, ``"dense"``.
    """

    documents: int
    new: int
    left: tuple[str, ...]


class Target(Protocol):
    """Where documents go."""

    name: str

    @property
    def complete(self) -> bool:
        """Whether it may be searched already."""
        ...

    def store(self, batch: Batch, on_conflict: OnConflict) -> int:
        """Store what is missing; returns how many documents were new or different."""
        ...

    def count(self) -> int:
        """How many documents it has."""
        ...

    def prune(self, has: Callable[[Sequence[str]], set[str]]) -> None:
        """Delete what the source does not have any more."""
        ...

    def finish(self) -> None:
        """Mark it complete."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class EngineTarget:
    """An engine's collection, created if need be and then marked incomplete."""

    def __init__(self, engine: Engine, meta: Meta, source: str) -> None:
        self.engine, self.name = engine, engine.server
        found = engine.meta()
        if not found:
            engine.create(meta_of(meta) | {"from": source})
            found = engine.meta()
        own = check_meta(found, self.name, engine.can_count_terms)
        same_model(meta, own, self.name)
        self.layout = own.layout
        self.complete = found["state"] == "complete"
        if not self.complete:
            if found.get("from") != source:
                raise InvalidInput(
                    f"{self.name} is being filled from {found.get('from')!r}, not from {source!r}; finish that move "
                    f"first, or drop the collection"
                )
            engine.recover()
        self._highest = engine.highest()

    def store(self, batch: Batch, on_conflict: OnConflict) -> int:
        """See :class:`Target`."""
        ids = [document.id for document in batch.encoded.documents]
        for _ in range(TRIES):
            now = compare(self.engine.look_up(ids), batch.encoded.documents, on_conflict)
            try:
                if now.insert:
                    wanted = {document.id for document in now.insert}
                    kept = np.array([id in wanted for id in ids])
                    part = Batch(batch.numbers[kept], with_words(batch.encoded.only(wanted), self.layout))
                    self.engine.write(self._numbered(part), now.remove)
                if now.metadata:
                    self.engine.set_metadata([(old, one.id, one.metadata or "{}") for old, one in now.metadata])
            except Changed:
                continue
            return len(now.insert) + len(now.metadata)
        raise ServerError(f"{self.name}: others change the same documents all the time; try again")

    def _numbered(self, batch: Batch) -> Batch:
        """The batch under numbers that were never used: its own, where it comes after everything that is there."""
        counts = [len(spans) for spans in batch.encoded.spans]
        numbers = batch.numbers
        if numbers[0] <= self._highest:
            first = self.engine.numbers(sum(counts))
            numbers = first + np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)
        self._highest = int(numbers[-1]) + counts[-1] - 1
        return Batch(numbers, batch.encoded)

    def count(self) -> int:
        """See :class:`Target`."""
        return self.engine.count()

    def prune(self, has: Callable[[Sequence[str]], set[str]]) -> None:
        """See :class:`Target`."""
        after = -1
        while rows := self.engine.page(after, BATCH, text=False):
            ids = [row.id for row in rows]
            if gone := set(ids) - has(ids):
                self.engine.remove(list(self.engine.look_up(sorted(gone)).values()))
            after = rows[-1].number

    def finish(self) -> None:
        """See :class:`Target`."""
        if not self.complete:
            self.engine.settle()
            self.engine.set_meta({"state": "complete"})

    def close(self) -> None:
        """See :class:`Target`."""
        self.engine.close()


def move(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: object = None,
    progress: Progress = None,
) -> Moved:
    """Copy a collection: documents, metadata, passages, SPLADE vectors, to the last bit, and BM25 words.

    Args:
        source, target: paths or URLs, as for :func:`~spladelite.transfer.connect.connect`; one of them at least a URL.
        model: for a new file, where the source's model was given as an object.
        progress: None shows a bar on a terminal; True, False, or a function of ``(done, total)``.

    Raises:
        InvalidInput: two files; a target that is being filled from elsewhere; a slim export.
        ModelMismatch: the target was built with another model.
        IdConflict: the target is complete and has a document with other content; names the id.
        Unfinished: the source is itself the target of a move that was not completed.
        ServerError: a server is down, refuses, or is full. What has arrived stays; the same call goes on.
    """
    source, target = os.fspath(source), os.fspath(target)
    if not is_url(source) and not is_url(target):
        raise InvalidInput("move copies between a file and another engine; copy a file with `spladelite backup`")
    origin = open_source(source)
    try:
        meta = origin.meta()
        dense: tuple[str, ...] = ("dense",) if meta.dense else ()
        bm25: tuple[str, ...] = ("bm25",) if meta.layout.bm25 else ()
        scheme, _, folder = target.partition("://")
        if scheme in bulk.FLAVOURS and folder.startswith("/"):
            with ticking(progress, range(origin.count()), "writing") as advance:
                written = bulk.export(origin, folder, scheme, advance)
            return Moved(written, written, bm25 + dense)
        goal: Target
        left = dense
        if is_url(target):
            engine = open_engine(target)
            try:
                goal = there = EngineTarget(engine, meta, origin.name)
                left = dense if there.layout.bm25 else bm25 + dense
            except BaseException:
                engine.close()
                raise
        else:
            goal = FileTarget(target, meta, model)
            same_model(meta, goal.meta(), target)
        try:
            new = _copy(origin, goal, progress)
        finally:
            goal.close()
        return Moved(origin.count(), new, left)
    finally:
        origin.close()


def open_source(url: str) -> Source:
    """A collection to read from; :class:`Unfinished` if it is not complete."""
    if not is_url(url):
        return FileSource(url)
    engine = open_engine(url)
    try:
        found = engine.meta()
        if not found:
            raise InvalidInput(f"{engine.server} holds no SpladeLite collection")
        if found.get("state") != "complete":
            raise Unfinished(f"{engine.server} is not complete; finish the move into it first")
        return EngineSource(engine)
    except BaseException:
        engine.close()
        raise


def _copy(origin: Source, goal: Target, progress: Progress) -> int:
    new, after = 0, -1
    on_conflict: OnConflict = "error" if goal.complete else "replace"
    with ticking(progress, range(origin.count()), "moving") as advance:
        while len(batch := origin.batch(after, BATCH)):
            for part in _narrow(batch):
                new += goal.store(part, on_conflict)
            after = int(batch.numbers[-1])
            advance(len(batch))
    if not goal.complete:
        if goal.count() != origin.count():  # the source lost documents since the move began
            goal.prune(origin.has)
        goal.finish()
    return new


def _narrow(batch: Batch) -> Sequence[Batch]:
    """A batch in parts that do not span too many numbers."""
    parts, documents = [], batch.encoded.documents
    start = 0
    while start < len(batch):
        end = int(np.searchsorted(batch.numbers, batch.numbers[start] + WIDEST))
        ids = {document.id for document in documents[start:end]}
        parts.append(batch if len(ids) == len(batch) else Batch(batch.numbers[start:end], batch.encoded.only(ids)))
        start = end
    return parts
