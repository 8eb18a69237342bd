"""The facade: one SQLite file, searched with SPLADE.

:class:`SpladeLite` checks what callers give and calls the rooms that do the work; it holds what outlives one call: the
connections, the model, the cached state of the index.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spladelite import check as checking
from spladelite import documents as store
from spladelite.connection import Connections, backup, replacing
from spladelite.errors import DocumentNotFound, InvalidInput, WrongType
from spladelite.explain import expansion, explain, highlight, read_terms
from spladelite.filters import Filter, compile_filter, matching_doc_ids
from spladelite.index import Layout, merge_all
from spladelite.ingest import encode_documents, ingest, split
from spladelite.meta import Settings, add_metadata_index, create_meta, metadata_indexes, read_meta
from spladelite.model import FileModel
from spladelite.progress import Progress, ticking
from spladelite.quantize import drop_small_weights
from spladelite.queries import QueryInput, Weigher, weigher, weighers
from spladelite.records import Document, Explanation, Finding, Hit, Row, Stats, Term
from spladelite.searcher import Searcher, explain_sql
from spladelite.stats import read_stats
from spladelite.validate import (
    NewDocument,
    check_count,
    check_id,
    check_metadata,
    check_min_score,
    check_text,
    check_vector,
    content_hash,
    id_list,
    new_documents,
)

Where = Mapping[str, Any] | str | None
WhereArgs = Sequence[Any] | Mapping[str, Any] | None


class SpladeLite:
    """Learned sparse search over one SQLite file.

    Open ``path``, or create it. A new file records its model, vocabulary and quantisation; opening it again needs no
    arguments. Many processes may read while one writes. One handle may be used by many threads. Close it, or use
    ``with``: the last writer's ``close()`` leaves one plain file that opens anywhere, read-only folders included.

    Args:
        path: a file, or ``":memory:"``.
        model: None for the bundled model (a new file) or the file's own (an existing one); else a model folder, or any
            :class:`~spladelite.encoders.base.Encoder`.
        read_only: never writes to the file, which must exist.
        min_weight: encoded document weights below it are not stored (vectors given by the caller are kept whole).
            None means 0.3 for a new file; 0 keeps everything.
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
        min_weight: float | None = None,
        tail_size: int | None = None,
        segment_size: int | None = None,
    ) -> None:
        self._path = os.fspath(path)
        if not isinstance(self._path, str) or not self._path:
            raise WrongType(f"path is {path!r}; give the path of a file, or ':memory:'")
        settings = Settings.given(min_weight, tail_size, segment_size)
        self._model = FileModel(model)
        self._searcher = Searcher()
        self._connections = Connections(
            self._path,
            read_only=read_only,
            prepare=self._searcher.prepare,
            create=lambda connection: create_meta(connection, self._model.load(), self._model.source, settings),
            indexes=metadata_indexes,
        )
        self._finalizer = weakref.finalize(self, self._connections.close)
        try:
            with self._connections.read() as connection:
                self._meta = read_meta(connection)
            settings.compare(self._meta, self._path)
            self._model.belongs_to(self._meta, self._path)
        except BaseException:
            self.close()
            raise

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
                raise _not_found(id)
            kept = check_metadata(current.metadata) if new_metadata is None else new_metadata
            checked = None if vector is None else check_vector(vector, self._layout.vocabulary_size)
            digest = content_hash(check_text(text, 0), checked)
            self._store([NewDocument(id, text, kept, checked, digest)], True, lambda _: None)
            return
        with self._connections.write() as connection:
            stored = store.look_up(connection, [check_id(id)]).get(id)
            if stored is None:
                raise _not_found(id)
            store.set_metadata(connection, stored, new_metadata or "{}")
        self._searcher.changed()

    def delete(self, ids: str | Iterable[str] | None = None, where: Where = None, where_args: WhereArgs = None) -> int:
        """Delete documents by id, or all that match a filter; returns how many. Unknown ids are ignored.

        One transaction: all of them or none.
        """
        if (ids is None) == (where is None):
            raise InvalidInput("delete() takes ids or where=, one of them")
        wanted = None if ids is None else id_list(ids)
        matching = compile_filter(where, where_args)
        with self._connections.write() as connection:
            if wanted is not None:
                found = [(s.doc_id, s.passages) for s in store.look_up(connection, wanted).values()]
            else:
                assert matching is not None
                found = store.passage_counts(connection, matching_doc_ids(connection, matching))
            store.remove(connection, self._layout, found)
        self._searcher.changed()
        return len(found)

    def create_metadata_index(self, field: str) -> None:
        """Make filters on a metadata field (dots lead into nested objects) fast. Idempotent."""
        with self._connections.write() as connection:
            add_metadata_index(connection, field)

    def optimize(self) -> None:
        """Rewrite the index into the fewest segments, without dead postings, and give free space back to the disk."""
        with self._connections.write() as connection:
            merge_all(connection, self._layout)
        self._searcher.changed()
        with self._connections.outside_transaction() as connection:
            connection.execute("VACUUM")

    # --- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        query: QueryInput,
        k: int = 10,
        where: Where = None,
        where_args: WhereArgs = None,
        min_score: float | None = None,
        encoder: str | None = None,
    ) -> list[Hit]:
        """The exact k best documents, best first.

        A document scores as its best passage: the inner product of the query's weights with the passage's stored
        weights. Ties go to the document that was stored first. Nothing scores 0: fewer than k may match.

        Args:
            query: a text, or a sparse vector ``{term_id: weight}``.
            k: how many, at least 1.
            where: only documents that match, decided before ranking: a dict such as
                ``{"year": {"$gte": 2020}, "lang": "en"}``, or a SQL condition over the columns ``id``, ``text``,
                ``metadata`` (JSON) and ``doc_id``.
            where_args: values for ``?`` or ``:name`` in a SQL ``where``.
            min_score: leave out documents that score less.
            encoder: ``"idf"`` weighs the query's own tokens by their rarity in this file instead of running the model.

        Returns:
            Hits; an empty list for an empty query, or one without a known term.

        Raises:
            InvalidInput, InvalidFilter, InvalidVector, WrongType: what is wrong with an argument.
            CorruptIndex: a row of the file contradicts itself.
        """
        count, least, matching = check_count(k), check_min_score(min_score), compile_filter(where, where_args)
        return self._search(weigher(query, encoder, self._model), count, matching, least)

    def search_many(
        self,
        queries: Iterable[QueryInput],
        k: int = 10,
        where: Where = None,
        where_args: WhereArgs = None,
        min_score: float | None = None,
        encoder: str | None = None,
    ) -> list[list[Hit]]:
        """:meth:`search` for many queries, on all cores; one list of hits a query, in order."""
        count, least, matching = check_count(k), check_min_score(min_score), compile_filter(where, where_args)
        todo = weighers(queries, encoder, self._model)

        def one(weigh: Weigher) -> list[Hit]:
            return self._search(weigh, count, matching, least)

        workers = min(os.cpu_count() or 1, len(todo))
        if workers < 2 or self._connections.memory:
            return [one(weigh) for weigh in todo]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, todo))

    def explain(self, query: QueryInput, id: str, encoder: str | None = None) -> Explanation:
        """Why the document has its score for the query, term by term; the contributions sum to the score.

        Raises:
            DocumentNotFound: no document has this id.
        """
        check_id(id)
        weigh = weigher(query, encoder, self._model)
        tokenize = self._model.load().tokenize
        literal = set(tokenize(query).term_ids.tolist()) if isinstance(query, str) else set(query)
        with self._connections.read() as connection:
            stored = store.look_up(connection, [id]).get(id)
            if stored is None:
                raise _not_found(id)
            weights = dict(weigh(self._searcher.view(connection, self._layout)))
            return explain(connection, self._layout, stored, weights, literal, tokenize)

    def expand(self, text: str, side: str = "document") -> list[Term]:
        """The weighted terms of a text as the index (``side="document"``) or a search (``"query"``) sees it.

        Strongest first; expansions, terms that the text does not contain, are marked. A text longer than the model's
        window is shown as the largest weight of each term over its passages.
        """
        if side not in ("document", "query"):
            raise InvalidInput(f"side is {side!r}; give 'document' or 'query'")
        check_text(text, 0)
        encoder = self._model.load()
        if side == "query":
            weights = encoder.encode_queries([text]).dicts()[0]
        else:
            passages = [text[start:end] for start, end in split(text, encoder)]
            weights = {}
            for row in drop_small_weights(encoder.encode_documents(passages), self._meta.min_weight).dicts():
                weights |= {term: max(weight, weights.get(term, 0.0)) for term, weight in row.items()}
        with self._connections.read() as connection:
            literal = set(encoder.tokenize(text).term_ids.tolist())
            return expansion(weights, read_terms(connection, weights), literal)

    def highlight(self, hit: Hit, before: str = "**", after: str = "**") -> str:
        """The hit's passage with ``before`` and ``after`` around the words that match the query's terms."""
        tokens = self._model.load().tokenize(hit.passage.text)
        return highlight(hit.passage.text, tokens, hit.query, before, after)

    # --- looking -----------------------------------------------------------------------------------------------------

    def get(self, id: str) -> Document | None:
        """The document with this id, or None."""
        with self._connections.read() as connection:
            return store.get(connection, check_id(id))

    def __contains__(self, id: object) -> bool:
        if not isinstance(id, str):
            return False
        with self._connections.read() as connection:
            return bool(store.look_up(connection, [id]))

    def __len__(self) -> int:
        with self._connections.read() as connection:
            return int(connection.execute("SELECT count(*) FROM document").get)

    def __iter__(self) -> Iterator[str]:
        """The ids, in the order in which the documents were stored."""
        after = 0
        while True:
            with self._connections.read() as connection:
                rows = list(store.all_ids(connection, after, 1000))
            if not rows:
                return
            yield from (id for _, id in rows)
            after = rows[-1][0]

    def stats(self) -> Stats:
        """Figures: documents, passages, postings, sizes by part, model, kernel."""
        with self._connections.read() as connection:
            return read_stats(connection, self._meta)

    def check(self) -> list[Finding]:
        """Verify every checksum, and compare the posting lists with the stored vectors; empty if all is well."""
        with self._connections.read() as connection:
            return checking.check(connection, self._layout)

    def sql(self, query: str, args: WhereArgs = None) -> list[Row]:
        """Run one SQL statement of yours that reads, and return its rows (tuples that also know column names).

        Besides the tables and views of the file it sees whatever you ``ATTACH`` (for this thread's connection).
        """
        with self._connections.querying() as connection:
            cursor = connection.execute(query, args)
            names = tuple(column[0] for column in cursor.description) if cursor.description else ()
            return [Row(values, names) for values in cursor]

    def explain_sql(self, query: QueryInput) -> str:
        """The SQL statement that a search for ``query`` runs, with its terms and SQLite's plan for it."""
        weigh = weigher(query, None, self._model)
        with self._connections.read() as connection:
            weights = weigh(self._searcher.view(connection, self._layout))
            return explain_sql(connection, weights, read_terms(connection, [term for term, _ in weights]))

    # --- files -------------------------------------------------------------------------------------------------------

    def backup(self, path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the database as it is now to another file, while others may write. ``progress(pages done, pages)``."""
        with replacing(self._target(path)) as temporary, self._connections.outside_transaction() as connection:
            backup(connection, temporary, progress)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write a compact copy for shipping: one plain file that also opens in read-only folders."""
        with replacing(self._target(path)) as temporary, self._connections.outside_transaction() as connection:
            connection.execute("VACUUM INTO ?", (temporary,))

    def close(self) -> None:
        """Close the file; idempotent. Without it, closing happens when the object goes, or at exit."""
        self._connections.close()

    def __enter__(self) -> SpladeLite:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SpladeLite({self._path!r}{', read_only=True' if self._connections.read_only else ''})"

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _layout(self) -> Layout:
        return self._meta.layout

    def _ingest(
        self, texts: Any, ids: Any, metadata: Any, vectors: Any, progress: Progress, *, replace: bool
    ) -> list[str]:
        documents = new_documents(texts, ids, metadata, vectors, self._layout.vocabulary_size)
        with ticking(progress, texts, "indexing") as advance:
            return self._store(documents, replace, advance)

    def _store(self, documents: Iterable[NewDocument], replace: bool, advance: Callable[[int], object]) -> list[str]:
        def encode(batch: Sequence[NewDocument]) -> store.EncodedDocuments:
            return encode_documents(batch, self._model.load, self._meta.min_weight)

        try:
            return ingest(self._connections, self._layout, encode, documents, replace=replace, advance=advance)
        finally:
            self._searcher.changed()

    def _search(self, weigh: Weigher, k: int, matching: Filter | None, min_score: float) -> list[Hit]:
        with self._connections.read() as connection:
            view = self._searcher.view(connection, self._layout)
            query = weigh(view)
            passage_ids, scores = self._searcher.top_k(view, query, k, min_score, matching)
            return store.read_hits(connection, passage_ids, scores, dict(query))

    def _target(self, path: str | os.PathLike[str]) -> str:
        target = os.fspath(path)
        if os.path.realpath(target) == os.path.realpath(self._path):
            raise InvalidInput(f"{target} is this database itself; give another path")
        if os.path.isdir(target) or not os.path.isdir(os.path.dirname(os.path.abspath(target))):
            raise InvalidInput(f"{target} is a directory, or lies in one that does not exist; give the path of a file")
        return target


def _not_found(id: str) -> DocumentNotFound:
    return DocumentNotFound(f"no document has the id {id!r}; `id in db` tells, and iterating over db lists all ids")
