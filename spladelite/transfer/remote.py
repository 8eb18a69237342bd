"""A collection in another engine, with the methods, arguments, checks, errors and hits of a file."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from spladelite.arguments import (
    NewDocument,
    check_count,
    check_id,
    check_metadata,
    check_min_score,
    check_text,
    check_timeout,
    check_vector,
    content_hash,
    id_list,
    new_documents,
)
from spladelite.documents.ingest import batches, encode_documents
from spladelite.documents.table import Plan, compare
from spladelite.encoders.base import Encoder
from spladelite.errors import (
    CorruptIndex,
    DocumentNotFound,
    InvalidInput,
    ModelMismatch,
    NotADatabase,
    ReadOnly,
    Unfinished,
    Unsupported,
    UnsupportedFormat,
)
from spladelite.file_models import FileModels
from spladelite.index.passages import Layout
from spladelite.index.settings import DEFAULT_MIN_WEIGHT, Meta
from spladelite.progress import Progress, ticking
from spladelite.records import Document, Explanation, Hit
from spladelite.search.explain import explanation, highlight
from spladelite.search.query_weights import EncodedQuery, QueryInput, check_queries, encode_queries, idf_weights
from spladelite.search.request import Where
from spladelite.transfer.conditions import Condition, parse
from spladelite.transfer.engine import Batch, Changed, Engine, Query

FORMAT = 1  # of what the engines store; meta has it under "format"
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
        model, fingerprint, vocabulary_size, window, min_weight: what the collection was built with.
        format: version of what the engine stores.
        sizes: bytes on disk by part, as far as the engine tells.
    """

    engine: str
    state: str
    documents: int
    passages: int
    postings: int | None
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
    ``docs/scale.md`` says so), of the same 8-bit impacts, ranked by score and then by the order of storing.

    One object may be used by many threads, which take turns; give each thread its own for parallel queries.
    """

    def __init__(self, engine: Engine, model: object = None, *, read_only: bool = False, unfinished: bool = False):
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
            found = new_meta(sparse.load(), sparse.source, DEFAULT_MIN_WEIGHT)
            engine.create(found)
        self.meta = check_meta(found, engine.server)
        self._state = found.get("state", "")
        self._models.belongs_to(self.meta, engine.server)

    # --- writing -----------------------------------------------------------------------------------------------------

    def add(
        self,
        texts: str | Iterable[str],
        ids: str | Iterable[str] | None = None,
        metadata: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Mapping[int, float]] | Mapping[int, float] | None = None,
        progress: Progress = None,
    ) -> list[str]:
        """Add documents; returns their ids in order. As in a file, batch by batch."""
        return self._ingest(texts, ids, metadata, vectors, progress, replace=False)

    def upsert(
        self,
        texts: str | Iterable[str],
        ids: str | Iterable[str] | None = None,
        metadata: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Mapping[int, float]] | Mapping[int, float] | None = None,
        progress: Progress = None,
    ) -> list[str]:
        """Like :meth:`add`, but a document whose id exists is replaced, metadata included."""
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
        check_id(id)
        given = None if metadata is None else check_metadata(metadata)
        with self._lock:
            self._writable()
            stored = self.engine.look_up([id]).get(id)
            if stored is None:
                raise self._not_found(id)
            kept = stored.metadata if given is None else given
            if text is None:
                self.engine.set_metadata([(stored, kept)])
                return
            checked = None if vector is None else check_vector(vector, self.meta.layout.vocabulary_size)
            digest = content_hash(check_text(text, "text"), checked)
            self._store([NewDocument(id, text, kept, checked, digest)], True)

    def delete(self, ids: str | Iterable[str] | None = None, where: Where = None, where_args: object = None) -> int:
        """Delete documents by id, or all that match a filter; returns how many. Unknown ids are ignored."""
        if (ids is None) == (where is None):
            raise InvalidInput("delete() takes ids or where=, one of them")
        wanted = None if ids is None else id_list(ids)
        condition = parse(where, where_args)
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

    def get(self, id: str) -> Document | None:
        """The document with this id, or None."""
        check_id(id)
        with self._lock:
            self._readable()
            stored = self.engine.look_up([id]).get(id)
            if stored is None:
                return None
            row = self.engine.read([stored.doc_id]).get(stored.doc_id)
        return None if row is None else Document(row.id, row.text, read_metadata(row.id, row.metadata))

    def documents(
        self,
        where: Where = None,
        *,
        ids: Iterable[str] | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        text: bool = True,
    ) -> Iterator[Document]:
        """The documents that match, in the order in which they were stored; read in pages as they are asked for.

        Args:
            where: a dict, as for :meth:`search`.
            ids: only these.
            order_by: only in a file.
            limit, offset: which of them.
            text: False leaves ``Document.text`` empty.
        """
        if order_by is not None:
            raise Unsupported(f"documents(order_by=) works in a file only; {self.engine.server} lists as stored")
        condition = parse(where)
        most = None if limit is None else check_count(limit, "limit")
        if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            raise InvalidInput(f"offset is {offset!r}; give an int of at least 0")
        if ids is not None:
            if condition is not None:
                raise Unsupported("documents() with both ids= and where= works in a file only")
            wanted = id_list(ids)[offset : None if most is None else offset + most]
            found = (self.get(id) for id in wanted)
            return iter([document for document in found if document is not None])
        return self._pages(condition, most, offset, text)

    def _pages(self, condition: Condition | None, most: int | None, offset: int, text: bool) -> Iterator[Document]:
        after, left = -1, most
        while left is None or left > 0:
            with self._lock:
                self._readable()
                size = PAGE if left is None else min(PAGE, left)
                rows = self.engine.page(after, size, condition, offset, text)
            yield from (Document(row.id, row.text, read_metadata(row.id, row.metadata)) for row in rows)
            if len(rows) < size:
                return
            after, offset, left = rows[-1].number, 0, None if left is None else left - len(rows)

    def count(self, where: Where = None) -> int:
        """How many documents match."""
        condition = parse(where)
        with self._lock:
            self._readable()
            return self.engine.count(condition)

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
        where_args: object = None,
        min_score: float | None = None,
        encoder: str | None = None,
        mode: str | None = None,
        timeout: float | None = None,
    ) -> list[Hit]:
        """The exact k best documents, best first; see :meth:`SpladeLite.search`.

        Args:
            query: a text, or a sparse vector ``{term_id: weight}``.
            k: how many, at least 1.
            where: only documents that match: a dict. SQL is for files.
            where_args: for files.
            min_score: leave out documents that score less.
            encoder: ``"idf"``: weights from this collection's frequencies, where the engine can count them.
            mode: ``"splade"`` or None; other indexes are not moved.
            timeout: seconds after which the engine's part is ended.

        Raises:
            Interrupted: the timeout has passed.
            ServerError: the server, or one of its shards, does not answer: never a shortened list.
            Unfinished: a ``move`` into the collection is not complete.
        """
        return self.search_many([query], k, where, where_args, min_score, encoder, mode, timeout)[0]

    def search_many(
        self,
        queries: Iterable[QueryInput],
        k: int = 10,
        where: Where = None,
        where_args: object = None,
        min_score: float | None = None,
        encoder: str | None = None,
        mode: str | None = None,
        timeout: float | None = None,
    ) -> list[list[Hit]]:
        """:meth:`search` for many queries; one list of hits a query, in order."""
        seconds, count = check_timeout(timeout), check_count(k)
        condition, least = parse(where, where_args), check_min_score(min_score)
        if mode not in (None, "splade"):
            raise Unsupported(f"mode={mode!r}: {self.engine.server} holds SPLADE vectors only; a file has the others")
        with self._lock:
            self._readable()
            weighted = self._weigh(queries, encoder)
            results: list[list[Hit]] = []
            for start in range(0, len(weighted), QUERIES_AT_ONCE):
                part = weighted[start : start + QUERIES_AT_ONCE]
                results += self._search(part, count, least, condition, seconds)
        return results

    def _search(
        self, queries: Sequence[Query], k: int, least: float, condition: Condition | None, timeout: float | None
    ) -> list[list[Hit]]:
        asked = [query for query in queries if query]
        ranked = iter(self.engine.rank(asked, k, least, condition, timeout) if asked else [])
        found = [next(ranked) if query else [] for query in queries]
        rows = self.engine.read(list(dict.fromkeys(entry.number for entries in found for entry in entries)))
        parts = {
            (entry.number, entry.ordinal)
            for entries in found
            for entry in entries
            if entry.number in rows and rows[entry.number].passages > 1
        }
        spans = self.engine.spans(sorted(parts)) if parts else {}
        results = []
        for query, entries in zip(queries, found, strict=True):
            weights = dict(query)
            hits = []
            for entry in entries:
                row = rows.get(entry.number)
                if row is not None:  # deleted since it was ranked
                    metadata = read_metadata(row.id, row.metadata)
                    start, end = spans.get((entry.number, entry.ordinal), (0, len(row.text)))
                    hits.append(Hit(row.id, entry.score, row.text, metadata, start, end, weights))
            results.append(hits)
        return results

    def explain(self, query: QueryInput, id: str, encoder: str | None = None, mode: str | None = None) -> Explanation:
        """Why the document has its score for the query, term by term; the contributions sum to the score.

        Raises:
            DocumentNotFound: no document has this id.
        """
        check_id(id)
        if mode not in (None, "splade"):
            raise Unsupported(f"mode={mode!r}: {self.engine.server} holds SPLADE vectors only; a file has the others")
        loaded = self._models.sparse.load()
        literal = set(loaded.tokenize(query).term_ids.tolist()) if isinstance(query, str) else set(query)
        with self._lock:
            self._readable()
            (weights,) = self._weigh([query], encoder)
            stored = self.engine.look_up([id]).get(id)
            if stored is None:
                raise self._not_found(id)
            encoded = self.engine.one(stored).encoded
        vocabulary = loaded.vocabulary
        return explanation(
            id,
            encoded.documents[0].text,
            encoded.spans[0],
            encoded.vectors,
            dict(weights),
            literal,
            loaded.tokenize,
            lambda term_ids: {term_id: vocabulary[term_id] for term_id in term_ids},
        )

    def highlight(self, hit: Hit, before: str = "**", after: str = "**") -> str:
        """The hit's passage with ``before`` and ``after`` around the words that match the query's terms."""
        tokens = self._models.sparse.load().tokenize(hit.passage.text)
        return highlight(hit.passage.text, tokens, hit.query, before, after)

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

    def _ingest(
        self, texts: object, ids: object, metadata: object, vectors: object, progress: Progress, replace: bool
    ) -> list[str]:
        documents = new_documents(texts, ids, metadata, vectors, self.meta.layout.vocabulary_size)
        self._writable()
        with ticking(progress, texts, "adding") as advance:
            return self._store(documents, replace, advance)

    def _store(
        self, documents: Iterable[NewDocument], replace: bool, advance: Callable[..., object] = lambda *_: None
    ) -> list[str]:
        stored: list[str] = []
        for batch in batches(documents):
            with self._lock:
                encoded = self._store_batch(batch, replace)
            stored += [document.id for document in batch]
            advance(len(batch), encoded)
        return stored

    def _store_batch(self, batch: Sequence[NewDocument], replace: bool) -> int:
        ids = list({document.id for document in batch})
        for _ in range(TRIES):
            plan = compare(self.engine.look_up(ids), batch, replace)
            try:
                return self._apply(plan)
            except Changed:
                continue
        raise CorruptIndex(f"{self.engine.server}: others change the same documents all the time; try again")

    def _apply(self, plan: Plan) -> int:
        passages = 0
        if plan.insert:
            encoded = encode_documents(plan.insert, self._models)
            counts = [len(spans) for spans in encoded.spans]
            passages = sum(counts)
            first = self.engine.numbers(passages)
            numbers = first + np.concatenate(([0], np.cumsum(counts)))[:-1].astype(np.int64)
            self.engine.write(Batch(numbers, encoded), plan.remove)
        if plan.metadata:
            self.engine.set_metadata([(old, document.metadata or "{}") for old, document in plan.metadata])
        return passages

    def _weigh(self, queries: Iterable[QueryInput], encoder: str | None) -> list[Query]:
        if encoder not in (None, "idf"):
            raise InvalidInput(f"encoder is {encoder!r}; give 'idf', or None for the model")
        if encoder == "idf" and not self.engine.can_count_terms:
            raise Unsupported(f"encoder='idf': {self.engine.server} cannot count how many passages have a term")
        encoded = encode_queries(check_queries(queries), ("splade",), encoder, self._models)
        return [self._by_idf(query) if query.weights is None else query.weights for query in encoded]

    def _by_idf(self, query: EncodedQuery) -> Query:
        if not query.tokens:
            return ()
        frequencies, passages = self.engine.frequencies(query.tokens)
        weights = idf_weights(np.array(frequencies, np.int64), passages).tolist()
        return [(term, weight) for term, weight in zip(query.tokens, weights, strict=True) if weight > 0]


def read_metadata(id: str, metadata: str) -> dict[str, Any]:
    """Stored JSON text as the object that it is."""
    try:
        value = json.loads(metadata)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CorruptIndex(f"document {id!r}: its metadata is not a JSON object")
    return value


def new_meta(encoder: Encoder, source: str, min_weight: float) -> dict[str, str]:
    """What a new collection knows of itself."""
    return {
        "format": str(FORMAT),
        "state": "complete",
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "source": source,
        "vocabulary_size": str(len(encoder.vocabulary)),
        "window": str(encoder.window),
        "min_weight": repr(min_weight),
    }


def meta_of(meta: Meta) -> dict[str, str]:
    """The same for a collection that gets the contents of another."""
    return {
        "format": str(FORMAT),
        "state": "incomplete",
        "model": meta.model,
        "fingerprint": meta.fingerprint,
        "source": meta.source,
        "vocabulary_size": str(meta.layout.vocabulary_size),
        "window": str(meta.window),
        "min_weight": repr(meta.min_weight),
    }


def check_meta(found: Mapping[str, str], server: str) -> Meta:
    """A collection's record of itself.

    Raises:
        UnsupportedFormat: a newer release wrote it.
        CorruptIndex: it makes no sense.
    """
    try:
        if int(found["format"]) > FORMAT:
            raise UnsupportedFormat(f"{server} was written by a newer SpladeLite (format {found['format']}); update it")
        return Meta(
            found["model"],
            found["fingerprint"],
            found["source"],
            int(found["window"]),
            float(found["min_weight"]),
            Layout(int(found["vocabulary_size"])),
            False,
            None,
        )
    except (KeyError, ValueError) as error:
        raise CorruptIndex(f"{server}: its record of itself lacks something ({error!r})") from None


def same_model(one: Meta, other: Meta, server: str) -> None:
    """:class:`ModelMismatch` if two collections have different models."""
    if one.fingerprint != other.fingerprint or one.layout.vocabulary_size != other.layout.vocabulary_size:
        raise ModelMismatch(
            f"{server} was built with the model {other.model} (fingerprint {other.fingerprint[:12]}), not with "
            f"{one.model} ({one.fingerprint[:12]}); vectors of two models cannot be mixed: give an empty collection"
        )
