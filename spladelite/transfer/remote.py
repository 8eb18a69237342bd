"""A collection in another engine, with the methods, arguments, checks, errors and hits of a file."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, NamedTuple, Self, get_args, overload

import numpy as np

from spladelite.arguments import (
    NewDocument,
    check_count,
    check_id,
    check_ids,
    check_text,
    check_vector,
    content_hash,
    id_list,
    metadata_change,
    new_documents,
)
from spladelite.documents.ingest import Unfound, batches, encode_documents
from spladelite.documents.listing import check_page
from spladelite.documents.table import EncodedDocuments, OnConflict, Plan, compare, read_metadata
from spladelite.errors import (
    Busy,
    DocumentNotFound,
    InvalidInput,
    NotADatabase,
    ReadOnly,
    Unfinished,
    Unsupported,
)
from spladelite.file_models import FileModels
from spladelite.index.quantize import dequantize
from spladelite.index.settings import Settings
from spladelite.progress import Progress, ticking
from spladelite.records import Added, Document, Explanation, Hit
from spladelite.search.explain import explanation, highlighted
from spladelite.search.hybrid import explained
from spladelite.search.query_weights import (
    EncodedQuery,
    Query,
    QueryInput,
    check_queries,
    encode_queries,
    resolve,
    weigh_by_idf,
)
from spladelite.search.request import Request, Rerank, Where, WhereArgs, check_request
from spladelite.search.run import reranked
from spladelite.transfer.conditions import ID_PATH, All, AnyOf, Condition, Test, parse
from spladelite.transfer.engine import Batch, Changed, Engine, Row
from spladelite.transfer.hits import read_hits
from spladelite.transfer.meta import FORMAT, check_meta, new_meta
from spladelite.transfer.ranking import Ranking

PAGE = 500
TRIES = 20
QUERIES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class RemoteStats:
    """Figures of a collection; sizes in bytes.

    Attributes:
        engine: where it is.
        state: ``"complete"``, or ``"incomplete"`` while a move fills it.
        documents, passages: how many are stored.
        postings: (passage, term) pairs; None where the engine does not tell.
        word_postings: (document, word) pairs; None where the engine does not tell.
        bm25: whether documents are indexed for BM25.
        language: of the words of BM25; None without stems, or without BM25.
        model, fingerprint, vocabulary_size, window, min_weight: what the collection was built with.
        format: version of what the engine stores.
        sizes: bytes on disk by part, as far as the engine tells.
    """

    engine: str
    state: str
    documents: int
    passages: int
    postings: int | None
    word_postings: int | None
    bm25: bool
    language: str | None
    model: str
    fingerprint: str
    vocabulary_size: int
    window: int
    min_weight: float
    format: int
    sizes: dict[str, int]


class Remote:
    """A collection in another engine, from :func:`~spladelite.transfer.connect.connect`.

    Its methods are those of :class:`~spladelite.database.SpladeLite` with the same arguments and errors; what the
    engine cannot do raises :class:`~spladelite.errors.Unsupported`. Scores are sums in the engine (float64 where
    ``docs/scale.md`` says so), of the same 8-bit impacts and frequencies, ranked by score and then by the order of
    storing; without a mode all that the collection has is asked: SPLADE, and BM25 where the engine has it.

    One object may be used by many threads, which take turns; give each thread its own for parallel queries.
    """

    def __init__(
        self,
        engine: Engine,
        model: object = None,
        *,
        bm25: bool | None = None,
        language: str | EllipsisType | None = ...,
        read_only: bool = False,
        unfinished: bool = False,
    ) -> None:
        given = Settings.given(None, None, None, bm25, language)
        if given.bm25 and not engine.can_count_terms:
            raise Unsupported(f"bm25=True: {_NO_WORDS.format(engine.server)}")
        self.engine = engine
        self.read_only = read_only
        self._lock = threading.RLock()
        self._models = FileModels(model, None)
        self._allow_unfinished = unfinished
        found = engine.meta()
        if not found:
            if read_only:
                raise NotADatabase(f"{engine.server} holds no SpladeLite collection; the first writer creates it")
            sparse = self._models.sparse
            found = new_meta(sparse.load(), sparse.source, given)
            engine.create(found)
        self.meta = check_meta(found, engine.server, engine.can_count_terms)
        given.compare(self.meta, engine.server)
        self._state = found.get("state", "")
        self._models.belongs_to(self.meta, engine.server)

    # --- writing -----------------------------------------------------------------------------------------------------

    def add(
        self,
        texts: str | Iterable[str],
        ids: str | Iterable[str | None] | None = None,
        metadata: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Mapping[int, float]] | Mapping[int, float] | None = None,
        progress: Progress = None,
        *,
        on_conflict: OnConflict = "error",
    ) -> Added:
        """Add documents; returns their ids in order, and what became of each. As in a file, batch by batch."""
        return self._ingest(texts, ids, metadata, vectors, progress, on_conflict)

    def upsert(
        self,
        texts: str | Iterable[str],
        ids: str | Iterable[str | None] | None = None,
        metadata: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Mapping[int, float]] | Mapping[int, float] | None = None,
        progress: Progress = None,
    ) -> Added:
        """Like :meth:`add`, but a document whose id exists is replaced, metadata included."""
        return self._ingest(texts, ids, metadata, vectors, progress, "replace")

    def update(
        self,
        id: str | None = None,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        vector: Mapping[int, float] | None = None,
        *,
        where: Where = None,
        where_args: WhereArgs = None,
        where_sql: str | None = None,
        merge: bool = False,
    ) -> int:
        """Change a document's text, its metadata, or both; or the metadata of all that match. What is None stays.

        Returns:
            How many documents matched.

        Raises:
            DocumentNotFound: no document has this id.
        """
        condition = parse(where, where_args, where_sql)
        if (id is None) == (condition is None):
            raise InvalidInput("update() takes an id or where=, one of them")
        name = "where" if id is None else check_id(id)
        if text is None and metadata is None:
            raise InvalidInput(f"update({name!r}) changes nothing; give text, metadata or both")
        if text is None and vector is not None:
            raise InvalidInput(f"update({name!r}) has a vector without its text; give both")
        if text is not None and id is None:
            raise InvalidInput("update(where=...) changes metadata; a text belongs to one document, so give its id")
        change = None if metadata is None else metadata_change(metadata, merge=merge)
        with self._lock:
            self._writable()
            if id is not None:
                stored = self.engine.look_up([id]).get(id)
                if stored is None:
                    raise self._not_found(id)
                if text is None:
                    assert change is not None
                    self.engine.set_metadata([(stored, id, change(stored.metadata))])
                    return 1
                checked = None if vector is None else check_vector(vector, self.meta.layout.vocabulary_size)
                digest = content_hash(check_text(text, "text"), checked)
                kept = stored.metadata if change is None else change(stored.metadata)
                self._store_batch([NewDocument(id, text, kept, checked, digest)], "replace")
                return 1
            assert condition is not None
            assert change is not None
            found = self.engine.matching(condition)
            rows = self.engine.read([stored.doc_id for stored in found], text=False)
            changes = [
                (stored, rows[stored.doc_id].id, change(stored.metadata)) for stored in found if stored.doc_id in rows
            ]
            self.engine.set_metadata(changes)
            return len(changes)

    def delete(
        self,
        ids: str | Iterable[str] | None = None,
        where: Where = None,
        where_args: WhereArgs = None,
        *,
        where_sql: str | None = None,
    ) -> int:
        """Delete documents by id, or all that match a filter; returns how many. Unknown ids are ignored."""
        condition = parse(where, where_args, where_sql)
        if (ids is None) == (condition is None):
            raise InvalidInput("delete() takes ids or where=, one of them")
        wanted = None if ids is None else id_list(ids)
        with self._lock:
            self._writable()
            if wanted is not None:
                found = list(self.engine.look_up(wanted).values())
            else:
                assert condition is not None
                found = self.engine.matching(condition)
            self.engine.remove(found)
        return len(found)

    def optimize(self) -> None:
        """Give back the space of deleted documents, where the engine does not do it by itself."""
        with self._lock:
            self._writable()
            self.engine.optimize()

    # --- reading -----------------------------------------------------------------------------------------------------

    @overload
    def get(self, id: str) -> Document | None: ...  # type: ignore[overload-overlap]  # a str is an Iterable[str] too

    @overload
    def get(self, id: Iterable[str]) -> list[Document | None]: ...

    def get(self, id: str | Iterable[str]) -> Document | list[Document | None] | None:
        """The document with this id, or None; of several ids a list in their order."""
        wanted = [check_id(id)] if isinstance(id, str) else check_ids(id)
        with self._lock:
            self._readable()
            stored = self.engine.look_up(list(dict.fromkeys(wanted)))
            rows = self.engine.read([one.doc_id for one in stored.values()])
        found = {row.id: _document(row) for row in rows.values()}
        return found.get(id) if isinstance(id, str) else [found.get(one) for one in wanted]

    def documents(
        self,
        where: Where = None,
        where_args: WhereArgs = None,
        *,
        where_sql: str | None = None,
        ids: Iterable[str] | None = None,
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        text: bool = True,
    ) -> list[Document]:
        """The documents that match a filter, or all of them, in the order in which they were stored.

        Args:
            where, where_args, where_sql: as for :meth:`search`.
            ids: only documents with one of these ids; unknown ones are ignored.
            order_by: for files.
            limit: how many at most.
            offset: how many are passed over first.
            text: False leaves the texts empty and reads none.
        """
        if order_by is not None:
            raise Unsupported(f"documents(order_by=) works in a file only; {self.engine.server} lists as stored")
        condition = parse(where, where_args, where_sql)
        most, passed_over = check_page(limit, offset)
        if ids is not None:
            named = AnyOf(tuple(Test(ID_PATH, "eq", id) for id in id_list(ids)))
            condition = named if condition is None else All((named, condition))
        return list(self._pages(condition, most, passed_over, text))

    def _pages(self, condition: Condition | None, most: int | None, offset: int, text: bool) -> Iterator[Document]:
        after, left = -1, most
        while left is None or left > 0:
            with self._lock:
                self._readable()
                size = PAGE if left is None else min(PAGE, left)
                rows = self.engine.page(after, size, condition, offset, text)
            yield from map(_document, rows)
            if len(rows) < size:
                return
            after, offset, left = rows[-1].number, 0, None if left is None else left - len(rows)

    def count(self, where: Where = None, where_args: WhereArgs = None, *, where_sql: str | None = None) -> int:
        """How many documents match a filter; without one, how many there are."""
        condition = parse(where, where_args, where_sql)
        with self._lock:
            self._readable()
            return self.engine.count(condition)

    def vector(self, id: str) -> dict[int, float]:
        """A document's stored vector, ``{term_id: weight}``: of several passages the largest weight of each term.

        Raises:
            DocumentNotFound: no document has this id.
        """
        vectors = self._one(check_id(id)).encoded.vectors
        weights: dict[int, float] = {}
        for row in dequantize(vectors).dicts():
            weights |= {term: max(weight, weights.get(term, 0.0)) for term, weight in row.items()}
        return weights

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and bool(id) and "\0" not in id and self.get(id) is not None

    def __iter__(self) -> Iterator[str]:
        """The ids, in the order in which the documents were stored."""
        return (document.id for document in self._pages(None, None, 0, False))

    def search(
        self,
        query: QueryInput,
        k: int = 10,
        where: Where = None,
        where_args: WhereArgs = None,
        min_score: float | None = None,
        encoder: str | None = None,
        mode: str | None = None,
        weights: Mapping[str, float] | None = None,
        fusion: str = "convex",
        rerank: Rerank | None = None,
        rerank_top: int = 50,
        timeout: float | None = None,
        *,
        where_sql: str | None = None,
        offset: int = 0,
        text: bool = True,
        diversity: float = 0.0,
    ) -> list[Hit]:
        """The exact k best documents, best first; see :meth:`SpladeLite.search`.

        Args:
            query: a text, or a sparse vector ``{term_id: weight}``.
            k: how many, at least 1.
            where: only documents that match: a dict.
            where_args, where_sql: for files.
            min_score: leave out documents that score less.
            encoder: ``"idf"``: weights from this collection's frequencies, where the engine can count them.
            mode: ``"splade"``, ``"bm25"``, ``"hybrid"``, or None for all that the collection has; dense vectors are not
                moved, and Qdrant has no BM25.
            weights, fusion: of the hybrid, as in a file.
            rerank, rerank_top, offset, text: as in a file.
            timeout: seconds after which the engine's part is ended.
            diversity: for files.

        Raises:
            Interrupted: the timeout has passed.
            ServerError: the server, or one of its shards, does not answer: never a shortened list.
            Unfinished: a ``move`` into the collection is not complete.
        """
        top = 0 if rerank is None else check_count(rerank_top, "rerank_top")
        asked = self._request(
            k=k, where=where, where_args=where_args, min_score=min_score, encoder=encoder, mode=mode, weights=weights,
            fusion=fusion, timeout=timeout, where_sql=where_sql, offset=offset, text=text, diversity=diversity,
        )  # fmt: skip
        condition = parse(where, where_args, where_sql)
        if rerank is None:
            return self._search([query], asked, condition)[0]
        found = replace(asked, k=max(asked.k, top), offset=0)
        return reranked(rerank, query, self._search([query], found, condition)[0], asked.k)[asked.offset :]

    def search_many(
        self,
        queries: Iterable[QueryInput],
        k: int = 10,
        where: Where = None,
        where_args: WhereArgs = None,
        min_score: float | None = None,
        encoder: str | None = None,
        mode: str | None = None,
        weights: Mapping[str, float] | None = None,
        fusion: str = "convex",
        timeout: float | None = None,
        *,
        where_sql: str | None = None,
        offset: int = 0,
        text: bool = True,
        diversity: float = 0.0,
    ) -> list[list[Hit]]:
        """:meth:`search` for many queries; one list of hits a query, in order."""
        asked = self._request(
            k=k, where=where, where_args=where_args, min_score=min_score, encoder=encoder, mode=mode, weights=weights,
            fusion=fusion, timeout=timeout, where_sql=where_sql, offset=offset, text=text, diversity=diversity,
        )  # fmt: skip
        return self._search(queries, asked, parse(where, where_args, where_sql))

    def more_like(
        self,
        id: str,
        k: int = 10,
        where: Where = None,
        where_args: WhereArgs = None,
        min_score: float | None = None,
        *,
        where_sql: str | None = None,
        offset: int = 0,
        text: bool = True,
        diversity: float = 0.0,
    ) -> list[Hit]:
        """The documents that are most like one of the collection, by its stored vector; without that document.

        Raises:
            DocumentNotFound: no document has this id.
        """
        asked = self._request(
            k=k, where=where, where_args=where_args, min_score=min_score, mode=None, where_sql=where_sql,
            offset=offset, text=text, diversity=diversity,
        )  # fmt: skip
        wanted = replace(asked, k=asked.k + 1, offset=0)
        hits = self._search([self.vector(id)], wanted, parse(where, where_args, where_sql))[0]
        return [hit for hit in hits if hit.id != id][: asked.k][asked.offset :]

    def _request(self, *, mode: str | None, **arguments: Any) -> Request:
        """The arguments, checked as for a file."""
        request = check_request(mode=mode, **arguments)
        server = self.engine.server
        if mode == "dense" or "dense" in (request.weights or ()):
            raise Unsupported(f"mode='dense': {server} holds no dense vectors; a file has them")
        if not self.engine.can_count_terms:
            if mode in ("bm25", "hybrid") or request.weights is not None:
                what = "weights=" if mode is None else f"mode={mode!r}"
                raise Unsupported(f"{what}: {_NO_WORDS.format(server)}; mode='splade' works")
            if request.encoder == "idf":
                raise Unsupported(f"encoder='idf': {server} cannot count how many passages have a term")
        if request.diversity:
            raise Unsupported(f"diversity= works in a file only; {self.engine.server} ranks by score")
        return request

    def _search(self, queries: Iterable[QueryInput], request: Request, condition: Condition | None) -> list[list[Hit]]:
        with self._lock:
            self._readable()
            results: list[list[Hit]] = []
            encoded = self._encode(check_queries(queries), request)
            for start in range(0, len(encoded.queries), QUERIES_AT_ONCE):
                with self.engine.one_state():
                    asked = self._resolve(encoded.queries[start : start + QUERIES_AT_ONCE], request, encoded.parts)
                    ranking = Ranking.of(self.engine, request, encoded.parts, condition, asked)
                    found = ranking.search(asked)
                    results += read_hits(self.engine, self.meta.layout.language, request, encoded.parts, asked, found)
        return results

    def _encode(self, queries: list[QueryInput], request: Request) -> _Encoded:
        """What the queries ask of which parts."""
        vectors = all(isinstance(query, Mapping) for query in queries)
        parts = request.parts(self.meta.layout, encodes=False, vectors=vectors)
        return _Encoded(parts, encode_queries(queries, parts, request.encoder, self._models))

    def _resolve(self, encoded: Sequence[EncodedQuery], request: Request, parts: Sequence[str]) -> list[Query]:
        def by_idf(tokens: Sequence[int]) -> Sequence[tuple[int, float]]:
            if not tokens:
                return ()
            found = self.engine.frequencies(tokens)
            return weigh_by_idf(tokens, np.array(found.counts, np.int64), found.passages)

        language = self.meta.layout.language
        return [resolve(query, parts, request.weights is None, language, by_idf) for query in encoded]

    def explain(
        self,
        query: QueryInput,
        id: str,
        encoder: str | None = None,
        mode: str | None = None,
        weights: Mapping[str, float] | None = None,
        fusion: str = "convex",
    ) -> Explanation:
        """Why the document has its score for the query, term by term; the contributions sum to the score.

        Raises:
            DocumentNotFound: no document has this id.
        """
        check_id(id)
        request = self._request(encoder=encoder, mode=mode, weights=weights, fusion=fusion)
        loaded = self._models.sparse.load()
        vocabulary = loaded.vocabulary
        with self._lock:
            self._readable()
            parts, (encoded,) = self._encode([query], request)
            literal = set(loaded.tokenize(query).term_ids.tolist()) if isinstance(query, str) else set(query)
            batch = self._one(id)
            document = batch.encoded
            with self.engine.one_state():
                (asked,) = self._resolve([encoded], request, parts)
                ranking = Ranking.of(self.engine, request, parts, None, [asked])
                found = None if parts == ("splade",) else ranking.candidates(asked, int(batch.numbers[0]))
        result = explanation(
            id,
            document.documents[0].text,
            document.spans[0],
            document.vectors,
            dict(asked.weights),
            literal,
            loaded.tokenize,
            lambda term_ids: {term_id: vocabulary[term_id] for term_id in term_ids},
        )
        if "splade" in parts:
            unread = [name for name, on in (("query", encoded.unread), ("document", document.unread[0])) if on]
            result = replace(result, unread=tuple(unread))
        return result if found is None else explained(result, request, parts, asked, found, int(batch.numbers[0]))

    def highlight(self, hit: Hit, before: str = "**", after: str = "**") -> str:
        """The hit's passage with ``before`` and ``after`` around the words that match the query's terms."""
        return highlighted(hit, self.meta.layout, lambda text: self._models.sparse.load().tokenize(text), before, after)

    def stats(self) -> RemoteStats:
        """Figures: documents, passages, postings, bytes by part, model, engine."""
        with self._lock:
            figures = self.engine.figures()
            return RemoteStats(
                engine=self.engine.server,
                state=self._state,
                documents=self.engine.count(),
                passages=figures.passages,
                postings=figures.postings,
                word_postings=figures.word_postings,
                bm25=self.meta.layout.bm25,
                language=self.meta.layout.language if self.meta.layout.bm25 else None,
                model=self.meta.model,
                fingerprint=self.meta.fingerprint,
                vocabulary_size=self.meta.layout.vocabulary_size,
                window=self.meta.window,
                min_weight=self.meta.min_weight,
                format=FORMAT,
                sizes=figures.sizes,
            )

    def close(self) -> None:
        """Close the connection; idempotent."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Remote({self.engine.server!r}{', read_only=True' if self.read_only else ''})"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        """Once a collection is complete it stays so; until then every call looks."""
        if self._state == "complete" or self._allow_unfinished:
            return
        self._state = self.engine.meta().get("state", "")
        if self._state != "complete":
            raise Unfinished(
                f"{self.engine.server} is not complete: a move into it is running or was interrupted; "
                f"repeat the same `spladelite move` to finish it"
            )

    def _writable(self) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.engine.server} was opened with read_only=True")
        self._readable()

    def _not_found(self, id: str) -> DocumentNotFound:
        return DocumentNotFound(f"no document in {self.engine.server} has the id {id!r}")

    def _one(self, id: str) -> Batch:
        with self._lock:
            self._readable()
            stored = self.engine.look_up([id]).get(id)
            if stored is None:
                raise self._not_found(id)
            return self.engine.one(stored)

    def _ingest(
        self, texts: object, ids: object, metadata: object, vectors: object, progress: Progress, on_conflict: OnConflict
    ) -> Added:
        if on_conflict not in get_args(OnConflict):
            raise InvalidInput(f"on_conflict is {on_conflict!r}; give 'error', 'skip' or 'replace'")
        documents = new_documents(texts, ids, metadata, vectors, self.meta.layout.vocabulary_size)
        self._writable()
        added = Added()
        told = Unfound()
        with ticking(progress, texts, "adding") as advance:
            for batch in batches(documents):
                with self._lock:
                    plan, encoded = self._store_batch(batch, on_conflict)
                added += [document.id for document in batch]
                added.new += plan.new
                added.replaced += plan.replaced
                added.unchanged += plan.unchanged
                told.see(encoded)
                advance(len(batch), len(encoded.vectors))
        told.warn(self._models, stacklevel=4)
        return added

    def _store_batch(self, batch: Sequence[NewDocument], on_conflict: OnConflict) -> tuple[Plan, EncodedDocuments]:
        ids = list({document.id for document in batch})
        for _ in range(TRIES):
            plan = compare(self.engine.look_up(ids), batch, on_conflict)
            try:
                return plan, self._apply(plan)
            except Changed:
                continue
        raise Busy(f"{self.engine.server}: others change the same documents all the time; try again")

    def _apply(self, plan: Plan) -> EncodedDocuments:
        encoded = encode_documents(plan.insert, self._models)
        if plan.insert:
            counts = [len(spans) for spans in encoded.spans]
            first = self.engine.numbers(sum(counts))
            numbers = first + np.concatenate(([0], np.cumsum(counts)))[:-1].astype(np.int64)
            self.engine.write(Batch(numbers, encoded), plan.remove)
        if plan.metadata:
            self.engine.set_metadata([(old, document.id, document.metadata or "{}") for old, document in plan.metadata])
        return encoded


class _Encoded(NamedTuple):
    """Queries encoded for the parts that they are asked of."""

    parts: tuple[str, ...]
    queries: list[EncodedQuery]


_NO_WORDS = (
    "{} cannot tell how common words are, which BM25 depends on; move to PostgreSQL or ClickHouse, or stay with a file"
)


def _document(row: Row) -> Document:
    return Document(row.id, row.text, read_metadata(row.id, row.metadata))
