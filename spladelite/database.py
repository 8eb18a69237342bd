"""The facade: one SQLite file, searched with SPLADE. Opening is in :mod:`spladelite.handle`, reading in
:mod:`spladelite.reader`, writing here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from spladelite.arguments import (
    NewDocument,
    check_id,
    check_metadata,
    check_text,
    check_vector,
    content_hash,
    id_list,
    new_documents,
)
from spladelite.documents import table as store
from spladelite.documents.filters import compile_filter, matching_doc_ids
from spladelite.documents.ingest import Target, encode_documents, ingest
from spladelite.documents.metadata_index import add_metadata_index
from spladelite.errors import InvalidInput, ModelMismatch
from spladelite.file.connection import Durability
from spladelite.file_models import FileModel
from spladelite.handle import Where, WhereArgs, not_found
from spladelite.index import words as lexical
from spladelite.index.segments import merge_all
from spladelite.index.settings import Settings, read_meta
from spladelite.progress import Progress, ticking
from spladelite.reader import Reader
from spladelite.records import Finding
from spladelite.upkeep.reencode import reencode
from spladelite.upkeep.repair import repair as repair_database


class SpladeLite(Reader):
    """Learned sparse search over one SQLite file.

    Open ``path``, or create it. A new file records its model, vocabulary and quantisation; opening it again needs no
    arguments. Many processes may read while one writes. One handle may be used by many threads. Close it, or use
    ``with``: the last writer's ``close()`` leaves one plain file that opens anywhere, read-only folders included.

    Args:
        path: a file, or ``":memory:"``.
        model: None for the bundled model (a new file) or the file's own (an existing one); else a model folder, or any
            :class:`~spladelite.encoders.base.Encoder`.
        read_only: never writes to the file, which must exist.
        immutable: nobody writes to the file while it is open: no locks are taken. Opens what was not closed and lies
            in a folder that cannot be written. Implies ``read_only``.
        durability: ``"full"``: what a call has stored survives a power cut when the call returns. ``"fast"``: a power
            cut may take back the latest calls, each as a whole, and never damages the file; a crash of the process
            alone loses nothing. Small writes are several times as fast.
        min_weight: encoded document weights below it are not stored (vectors given by the caller are kept whole).
            None means 0.3 for a new file; 0 keeps everything.
        bm25: of a new file: whether BM25 is indexed too, for ``mode="bm25"`` and ``"hybrid"``. None means True.
        dense: of a new file: also store a dense vector of each passage, made by a function from a list of texts to
            ``(N, D)`` numbers, or by the model in a folder (ONNX or sentence-transformers). A file that was made with a
            folder finds it again; one that was made with a function needs it again to encode.
        tail_size: of a new file: how many new passages are kept in the tail before they are sealed into a segment.
        segment_size: of a new file: passages a segment, at most 65,536.

    Raises:
        NotADatabase: the path is a directory, not a SpladeLite file, or missing with ``read_only``.
        UnsupportedFormat: a newer release wrote the file.
        ModelMismatch: ``model`` is not the one the file was built with.
        InvalidInput: a setting that differs from the file's.

    The scores are those of Formal et al., "SPLADE: Sparse Lexical and Expansion Model for First Stage Ranking", SIGIR
    2021: the inner product of two vectors with ``w_j = max_i log(1 + ReLU(logit_ij))``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: object = None,
        *,
        read_only: bool = False,
        immutable: bool = False,
        durability: Durability = "full",
        min_weight: float | None = None,
        bm25: bool | None = None,
        dense: object = None,
        tail_size: int | None = None,
        segment_size: int | None = None,
    ) -> None:
        settings = Settings.given(min_weight, tail_size, segment_size, bm25)
        super().__init__(
            path, model, dense, read_only=read_only, immutable=immutable, durability=durability, settings=settings
        )

    # --- writing -----------------------------------------------------------------------------------------------------

    def add(
        self,
        texts: str | Iterable[str],
        ids: str | Iterable[str] | None = None,
        metadata: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Mapping[int, float]] | Mapping[int, float] | None = None,
        progress: Progress = None,
    ) -> list[str]:
        """Add documents; returns their ids in order.

        An id that exists with the same content is left alone and not encoded again; metadata that is not given is not
        compared. A text longer than the model's window becomes several overlapping passages.

        What is atomic: documents are stored in batches of 512 (16,384 with ``vectors``), each of them all or nothing
        and durable when it is done. A list is checked as a whole before anything is stored; what an iterator yields is
        checked batch by batch. After an error or Ctrl-C, earlier batches stay, and the same call may be repeated: what
        is there already is skipped.

        Args:
            texts: one text, or an iterable of them (a generator is read as needed).
            ids: one a text; by default a hash of the content, so that adding the same text twice is one document.
            metadata: one JSON object (or None) a text.
            vectors: one sparse vector a text, ``{term_id: weight}`` or ``(term_ids, weights)``; the model is not run.
            progress: None shows a bar on a terminal; True, False, or a function of ``(done, total)``.

        Raises:
            IdConflict: an id exists with other content; :meth:`upsert` replaces.
            InvalidText, InvalidVector, InvalidMetadata, InvalidInput, WrongType: by position.
        """
        return self._ingest(texts, ids, metadata, vectors, progress, replace=False)

    def upsert(
        self,
        texts: str | Iterable[str],
        ids: str | Iterable[str] | None = None,
        metadata: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Mapping[int, float]] | Mapping[int, float] | None = None,
        progress: Progress = None,
    ) -> list[str]:
        """Like :meth:`add`, but a document whose id exists is replaced, metadata included (``{}`` if not given).

        A document whose text is the same is not encoded again.
        """
        return self._ingest(texts, ids, metadata, vectors, progress, replace=True)

    def update(
        self,
        id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        vector: Mapping[int, float] | None = None,
    ) -> None:
        """Change a document's text, its metadata, or both; what is None stays.

        Raises:
            DocumentNotFound: no document has this id.
        """
        if text is None and metadata is None:
            raise InvalidInput(f"update({id!r}) changes nothing; give text, metadata or both")
        if text is None and vector is not None:
            raise InvalidInput(f"update({id!r}) has a vector without its text; give both")
        new_metadata = None if metadata is None else check_metadata(metadata)
        if text is not None:
            current = self.get(id)
            if current is None:
                raise not_found(id)
            kept = check_metadata(current.metadata) if new_metadata is None else new_metadata
            checked = None if vector is None else check_vector(vector, self._meta.layout.vocabulary_size)
            digest = content_hash(check_text(text, "text"), checked)
            self._store([NewDocument(id, text, kept, checked, digest)], True, lambda *_: None)
            return
        with self._writing() as connection:
            stored = store.look_up(connection, [check_id(id)]).get(id)
            if stored is None:
                raise not_found(id)
            store.set_metadata(connection, stored, new_metadata or "{}")

    def delete(self, ids: str | Iterable[str] | None = None, where: Where = None, where_args: WhereArgs = None) -> int:
        """Delete documents by id, or all that match a filter; returns how many. Unknown ids are ignored.

        ``where={}`` matches, and deletes, every document.

        One transaction: all of them or none.
        """
        if (ids is None) == (where is None):
            raise InvalidInput("delete() takes ids or where=, one of them")
        wanted = None if ids is None else id_list(ids)
        matching = compile_filter(where, where_args)
        with self._writing() as connection:
            if wanted is not None:
                found = [(s.doc_id, s.passages) for s in store.look_up(connection, wanted).values()]
            else:
                assert matching is not None
                found = store.passage_counts(connection, matching_doc_ids(connection, matching))
            store.remove(connection, self._meta.layout, found)
        return len(found)

    def create_metadata_index(self, field: str) -> None:
        """Make filters on a metadata field (dots lead into nested objects) fast. Idempotent."""
        with self._connections.write() as connection:
            add_metadata_index(connection, field)

    def optimize(self) -> None:
        """Rewrite the index into the fewest segments, without dead postings, and give free space back to the disk."""
        with self._writing() as connection:
            merge_all(connection, self._meta.layout)
            if self._meta.layout.bm25:
                lexical.optimize(connection)
        with self._connections.outside_transaction() as connection:
            connection.execute("VACUUM")

    def reencode(self, model: object = None, progress: Progress = None) -> None:
        """Move the database to another model, from the stored texts.

        The new index is built in a file beside this one (``kb.db.reencode``: room for a second copy is needed) and
        takes the old one's place in one transaction. Until then the old model serves every reader, and others may
        write. After an interruption the same call goes on where it stopped. Other open handles follow at their next
        call, unless they were opened with ``model=``. Vectors that were given to :meth:`add` are replaced by the
        model's.

        Args:
            model: None for the bundled model, else what ``SpladeLite(model=...)`` takes.
            progress: as for :meth:`add`.

        Raises:
            ModelError: the model cannot be loaded.
            Busy: others write without a pause.
        """
        meta, new_model, dense = self._meta, FileModel(model), self._dense.given(self._meta)

        def create(path: str) -> SpladeLite:
            layout = meta.layout
            side = SpladeLite(
                path,
                model,
                min_weight=meta.min_weight,
                bm25=layout.bm25,
                dense=dense,
                tail_size=layout.tail_size,
                segment_size=layout.segment_size,
            )
            if side._meta.fingerprint != new_model.load().fingerprint:
                side.close()
                raise ModelMismatch(f"{path} is being built with {side._meta.model}")
            return side

        with ticking(progress, self, "encoding") as advance:
            reencode(self._connections, self._path, create, advance)
        self._model = new_model
        self._searcher.changed()
        with self._connections.read() as connection:
            self._is_current(read_meta(connection))

    def check(self, repair: bool = False) -> list[Finding]:
        """Verify every checksum, and compare the index with the stored vectors; an empty list if all is well.

        Args:
            repair: if something was found, rebuild the database from what can be read, in one transaction: the index
                from the stored vectors; documents whose vectors are damaged are encoded again, for which the model is
                needed. A document's text is never dropped. The file as it was is first copied to ``kb.db.damaged``.
                The returned list then also tells what could not be kept as it was.

        Raises:
            ReadOnly: ``repair`` of a file that is open read-only, or of a slim export.
        """
        findings = super().check()
        if repair and findings:
            findings += repair_database(self._connections, self._encode)
            self._searcher.changed()
        return findings

    # --- inside ------------------------------------------------------------------------------------------------------

    def _ingest(
        self, texts: Any, ids: Any, metadata: Any, vectors: Any, progress: Progress, *, replace: bool
    ) -> list[str]:
        documents = new_documents(texts, ids, metadata, vectors, self._meta.layout.vocabulary_size)
        with ticking(progress, texts, "indexing") as advance:
            return self._store(documents, replace, advance)

    def _store(self, documents: Iterable[NewDocument], replace: bool, advance: Callable[..., object]) -> list[str]:
        try:
            return ingest(Target(self._connections, self._is_current, self._encode, replace), documents, advance)
        finally:
            self._searcher.changed()

    def _encode(self, batch: Sequence[NewDocument]) -> store.EncodedDocuments:
        encode_dense = self._dense.documents if self._meta.dense else None
        return encode_documents(batch, self._model.load, self._meta.min_weight, encode_dense)

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        """A write transaction on the file as it is now: another process may have moved it to another model."""
        with self._connections.write() as connection:
            self._is_current(read_meta(connection))
            yield connection
        self._searcher.changed()
