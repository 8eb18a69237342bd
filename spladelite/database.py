"""The facade: one SQLite file, searched with SPLADE. Every public method is here, and does no work of its own."""

from __future__ import annotations

import dataclasses
import errno
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, Self, overload

from numpy.typing import ArrayLike

from spladelite.arguments import (
    NewDocument,
    check_count,
    check_dense,
    check_id,
    check_ids,
    check_path,
    check_statement,
    check_text,
    check_timeout,
    check_vector,
    content_hash,
    file_metadata,
    id_list,
    metadata_change,
    new_documents,
)
from spladelite.documents import table
from spladelite.documents.feedback import check_value
from spladelite.documents.feedback import read as read_feedback
from spladelite.documents.feedback import store as store_feedback
from spladelite.documents.files import Choice, find_files, readable
from spladelite.documents.filter_sql import sql_args
from spladelite.documents.filters import compile_filter, matching_doc_ids
from spladelite.documents.ingest import Target, change_text, ingest, passage_spans
from spladelite.documents.listing import check_page, count_documents, get_documents, list_documents
from spladelite.documents.metadata_index import add_metadata_index
from spladelite.documents.sources import Columns, check_encoding, check_types
from spladelite.documents.table import OnConflict
from spladelite.errors import InvalidInput, UnfindableText
from spladelite.file.connection import Durability
from spladelite.file.paths import replacing
from spladelite.file.sqlite import backup
from spladelite.file.user_sql import run_user_sql
from spladelite.file_models import FileModels
from spladelite.index.quantize import drop_small_weights
from spladelite.index.segments import merge_all
from spladelite.index.settings import Settings, read_meta
from spladelite.index.words import check_language
from spladelite.progress import Progress, ticking, ticking_files
from spladelite.records import (
    Added,
    Document,
    Explanation,
    Feedback,
    FilesReport,
    Finding,
    Hit,
    Listed,
    Row,
    Stats,
    Term,
    WebExport,
)
from spladelite.search import run
from spladelite.search.explain import expansion, highlighted, read_terms
from spladelite.search.query_weights import QueryInput, check_queries, encode_queries, look_up_query
from spladelite.search.request import Rerank, Where, WhereArgs, check_request
from spladelite.search.searcher import explain_sql
from spladelite.session import Session
from spladelite.upkeep.check import check as check_file
from spladelite.upkeep.files import Reading, take_files
from spladelite.upkeep.reencode import change_language, reencode
from spladelite.upkeep.repair import repair as repair_file
from spladelite.upkeep.slim import make_slim
from spladelite.upkeep.stats import find_unfindable, read_stats


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
        immutable: nobody writes to the file while it is open: no locks are taken. Opens what was not closed and lies
            in a folder that cannot be written. Implies ``read_only``.
        durability: ``"full"``: what a call has stored survives a power cut when the call returns. ``"fast"``: a power
            cut may take back the latest calls, each as a whole, and never damages the file; a crash of the process
            alone loses nothing. Small writes are several times as fast.
        min_weight: encoded document weights below it are not stored (vectors given by the caller are kept whole).
            None means 0.3 for a new file; 0 keeps everything.
        bm25: of a new file: whether words are indexed too, for BM25 and the hybrid of both. None means True.
        language: of a new file: whose stems and stop words BM25 uses, such as ``"german"``; None for words as they are
            written. By default English, or what the file has. Texts in any language are found in any case.
        dense: of a new file: also store a dense vector of each passage, made by a function from a list of texts to
            ``(N, D)`` numbers, or by the model in a folder (ONNX or sentence-transformers). A file that was made with a
            folder finds it again; one that was made with a function needs it again to encode. A number D: the caller
            gives vectors of D dimensions, with each text and each query.
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
        language: str | EllipsisType | None = ...,
        dense: object = None,
        tail_size: int | None = None,
        segment_size: int | None = None,
    ) -> None:
        settings = Settings.given(min_weight, tail_size, segment_size, bm25, language)
        self._session = Session(
            path,
            FileModels(model, dense),
            settings,
            read_only=read_only,
            immutable=immutable,
            durability=durability,
        )
        self._connections = self._session.connections

    __init__.__doc__ = __doc__  # help() of the constructor shows the arguments too

    # --- searching ----------------------------------------------------------------------------------------------------

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
        dense: ArrayLike | None = None,
    ) -> list[Hit]:
        """The k best documents, best first.

        Without ``mode`` everything that the file has is asked, and fused: SPLADE, BM25, and dense vectors where there
        are some. SPLADE scores a document as its best passage: the inner product of the query's weights with the
        passage's stored weights; BM25 scores the document as a whole. Ties go to the document that was stored first.
        What has nothing in common with the query is not found: fewer than k may match.

        Args:
            query: a text, or a sparse vector ``{term_id: weight}``.
            k: how many, at least 1.
            where: only documents that match, decided before ranking: a dict such as
                ``{"year": {"$gte": 2020}, "lang": "en"}``, or a SQL condition over the columns ``id``, ``text``,
                ``metadata`` (JSON) and ``doc_id``. docs/filters.md has every operator.
            where_args: values for ``?`` or ``:name`` in a SQL ``where``.
            min_score: leave out documents that score less.
            encoder: ``"idf"`` weighs the query's own tokens by their rarity in this file instead of running the model.
            mode: ``"splade"``, ``"bm25"`` or ``"dense"`` for the exact k best by one part; None or ``"hybrid"`` for
                all that the file has, fused: the exact k best by the weighted sum of the scores that every part gives.
            weights: of a hybrid: ``{"splade": 0.6, "bm25": 0.4}``; parts that are not named are not asked. None chooses
                by the query's length, see :func:`spladelite.search.fusion.default_weights`.
            fusion: of a hybrid: ``"convex"`` adds up weighted scores, each as a share of its part's best; ``"rrf"``
                weighted reciprocal ranks among the best 200 documents of each part, or k if that is more.
            rerank: a function of the query and a list of passages that returns a score for each, such as a
                cross-encoder's; the hits are ordered by it and show it as their score.
            rerank_top: how many hits are found for it, or k if that is more.
            timeout: seconds after which SQLite's part of the search (filter, posting lists, documents) is ended.
            where_sql: a SQL condition that must hold as well as the dict ``where``.
            offset: how many of the best are passed over: the second page of 10 is ``k=10, offset=10``.
            text: whether hits have their texts; False leaves ``text`` empty and reads none.
            diversity: from 0, the plain ranking, to 1: how much a hit is to differ from those above it (maximal
                marginal relevance among the best ``5 k``, at least 50, by their stored vectors).
            dense: the query's dense vector, ``(D,)`` numbers, instead of the encoder's. A file that was made with
                ``dense=D`` has no encoder: there, without it, the other indexes are asked.

        Returns:
            Hits; an empty list for an empty query, or one without a known term.

        Raises:
            InvalidInput, InvalidFilter, InvalidVector, WrongType: what is wrong with an argument.
            Interrupted: the timeout has passed.
            CorruptIndex: a row of the file contradicts itself.
        """
        request = check_request(
            k=k,
            where=where,
            where_args=where_args,
            min_score=min_score,
            encoder=encoder,
            mode=mode,
            weights=weights,
            fusion=fusion,
            timeout=timeout,
            where_sql=where_sql,
            offset=offset,
            text=text,
            diversity=diversity,
            dense=None if dense is None else [dense],
        )
        return Listed(run.search(self._session.index, request, query, rerank, check_count(rerank_top, "rerank_top")))

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
        dense: ArrayLike | None = None,
    ) -> list[list[Hit]]:
        """:meth:`search` for many queries in one state of the file, on all cores; a list of hits for each, in order.

        ``dense`` is one vector a query, ``(N, D)``.
        """
        request = check_request(
            k=k,
            where=where,
            where_args=where_args,
            min_score=min_score,
            encoder=encoder,
            mode=mode,
            weights=weights,
            fusion=fusion,
            timeout=timeout,
            where_sql=where_sql,
            offset=offset,
            text=text,
            diversity=diversity,
            dense=dense,
        )
        return run.search_many(self._session.index, request, check_queries(queries))

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
        """The documents that are most like one of the database, by its stored vector; without that document.

        Args: as for :meth:`search`.

        Raises:
            DocumentNotFound: no document has this id.
        """
        request = check_request(
            k=k,
            where=where,
            where_args=where_args,
            min_score=min_score,
            where_sql=where_sql,
            offset=offset,
            text=text,
            diversity=diversity,
        )
        return Listed(run.more_like(self._session.index, request, check_id(id)))

    def explain(
        self,
        query: QueryInput,
        id: str,
        encoder: str | None = None,
        mode: str | None = None,
        weights: Mapping[str, float] | None = None,
        fusion: str = "convex",
        *,
        dense: ArrayLike | None = None,
    ) -> Explanation:
        """Why the document has its score for the query: what each part adds to it, and SPLADE's terms one by one.

        The contributions of the parts sum to the score, which is that of a search with k up to 200; in the mode
        ``"splade"`` those of the terms do. ``dense`` is the query's dense vector, as for :meth:`search`.

        Raises:
            DocumentNotFound: no document has this id.
        """
        given = None if dense is None else [dense]
        request = check_request(encoder=encoder, mode=mode, weights=weights, fusion=fusion, dense=given)
        return run.explain(self._session.index, request, query, check_id(id))

    def expand(self, text: str, side: str = "document") -> list[Term]:
        """The weighted terms of a text as the index (``side="document"``) or a search (``"query"``) sees it.

        Strongest first; expansions, terms that the text does not contain, are marked. A text longer than the model's
        window is shown as the largest weight of each term over its passages.
        """
        if side not in ("document", "query"):
            raise InvalidInput(f"side is {side!r}; give 'document' or 'query'")
        check_text(text, "text")
        encoder = self._session.models.sparse.load()
        if side == "query":
            weights = encoder.encode_queries([text]).dicts()[0]
        else:
            passages = [text[start:end] for start, end in passage_spans(text, encoder)]
            weights = {}
            for row in drop_small_weights(encoder.encode_documents(passages), self._session.meta.min_weight).dicts():
                weights |= {term: max(weight, weights.get(term, 0.0)) for term, weight in row.items()}
        with self._connections.read() as connection:
            literal = set(encoder.tokenize(text).term_ids.tolist())
            return expansion(weights, read_terms(connection, weights), literal)

    def highlight(self, hit: Hit, before: str = "**", after: str = "**") -> str:
        """The hit's passage with ``before`` and ``after`` around the words that match the query's terms."""
        models = self._session.models
        return highlighted(
            hit, self._session.meta.layout, lambda text: models.sparse.load().tokenize(text), before, after
        )

    def explain_sql(self, query: QueryInput) -> str:
        """The SQL statement that a search for ``query`` runs, with its terms and SQLite's plan for it."""
        (encoded,) = encode_queries([query], ("splade",), None, self._session.models)
        with self._session.index.view() as view:
            weights = look_up_query(view, encoded, ("splade",)).weights
            return explain_sql(view.connection, weights, read_terms(view.connection, [term for term, _ in weights]))

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The file, as it was given."""
        return self._session.path

    @overload
    def get(self, id: str) -> Document | None: ...  # type: ignore[overload-overlap]  # a str is an Iterable[str] too

    @overload
    def get(self, id: Iterable[str]) -> list[Document | None]: ...

    def get(self, id: str | Iterable[str]) -> Document | list[Document | None] | None:
        """The document with this id, or None; of several ids a list in their order, in one transaction."""
        if isinstance(id, str):
            with self._connections.read() as connection:
                return table.get(connection, check_id(id))
        wanted = check_ids(id)
        with self._connections.read() as connection:
            return get_documents(connection, wanted)

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
        """The documents that match a filter, or all of them, without any ranking.

        Args:
            where, where_args, where_sql: as for :meth:`search`.
            ids: only documents with one of these ids; unknown ones are ignored.
            order_by: metadata fields, ``"$id"`` or ``"$text"``, ``-`` before one for descending: ``["-year", "$id"]``.
                Numbers come before texts, missing values last. None: the order in which they were stored.
            limit: how many at most.
            offset: how many are passed over first.
            text: False leaves the texts empty and reads none.

        Raises:
            InvalidFilter, InvalidInput, WrongType: what is wrong with an argument.
        """
        matching = compile_filter(where, where_args, where_sql)
        wanted = None if ids is None else id_list(ids)
        page = check_page(limit, offset)
        with self._connections.read() as connection:
            return list_documents(connection, matching, wanted, order_by, *page, text)

    def count(self, where: Where = None, where_args: WhereArgs = None, *, where_sql: str | None = None) -> int:
        """How many documents match a filter; without one, how many there are."""
        matching = compile_filter(where, where_args, where_sql)
        with self._connections.read() as connection:
            return count_documents(connection, matching)

    def vector(self, id: str) -> dict[int, float]:
        """A document's stored vector, ``{term_id: weight}``: of several passages the largest weight of each term.

        Raises:
            DocumentNotFound: no document has this id.
        """
        return run.vector(self._session.index, check_id(id))

    def __contains__(self, id: object) -> bool:
        if not isinstance(id, str) or "\0" in id:
            return False
        with self._connections.read() as connection:
            return bool(table.look_up(connection, [id]))

    def __len__(self) -> int:
        with self._connections.read() as connection:
            return count_documents(connection, None)

    def __iter__(self) -> Iterator[str]:
        """The ids, in the order in which the documents were stored; what is stored meanwhile is not among them."""
        after, last = 0, None
        while True:
            with self._connections.read() as connection:
                last = table.last_doc_id(connection) if last is None else last
                rows = [row for row in table.all_ids(connection, after, 1000) if row[0] <= last]
            if not rows:
                return
            yield from (id for _, id in rows)
            after = rows[-1][0]

    def stats(self) -> Stats:
        """Figures: documents, passages, postings, sizes by part, model, kernel."""
        with self._connections.read() as connection:
            return read_stats(connection, read_meta(connection))

    def sql(self, query: str, args: WhereArgs = None, timeout: float | None = None) -> list[Row]:
        """Run one SQL statement of yours that reads, and return its rows (tuples that also know column names).

        Besides the tables and views of the file it sees whatever you ``ATTACH`` (for this thread's connection).

        Args:
            query: the statement, with ``?`` or ``:name`` for values.
            args: a sequence for ``?``, a dict for ``:name``; strings, numbers (NumPy's too), booleans, None and bytes.
            timeout: seconds after which the statement is ended.

        Raises:
            Interrupted: the timeout has passed.
            InvalidInput: it does not compile, would change something, or is more than one statement; a value is of a
                kind that SQL does not have.
        """
        names, values = sql_args(args, "args", InvalidInput)
        bindings = values if names is None else dict(zip(names, values, strict=True))
        return run_user_sql(self._connections, check_statement(query), bindings, check_timeout(timeout))

    # --- writing ------------------------------------------------------------------------------------------------------

    def add(
        self,
        texts: str | Iterable[str],
        ids: str | Iterable[str | None] | None = None,
        metadata: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Mapping[int, float]] | Mapping[int, float] | None = None,
        progress: Progress = None,
        *,
        dense: ArrayLike | Iterable[ArrayLike] | None = None,
        on_conflict: OnConflict = "error",
    ) -> Added:
        """Add documents; returns their ids in order, with the attributes ``new``, ``replaced`` and ``unchanged``.

        An id that exists with the same content is left alone and not encoded again; metadata that is not given is not
        compared. A text longer than the model's window becomes several overlapping passages.

        What is atomic: documents are stored in batches of 512 (16,384 with ``vectors``), each of them all or nothing
        and durable when it is done. A list is checked as a whole before anything is stored; what an iterator yields is
        checked batch by batch. After an error or Ctrl-C, earlier batches stay, and the same call may be repeated: what
        is there already is skipped.

        Args:
            texts: one text, or an iterable of them (a generator is read as needed).
            ids: one a text, None for one that is to be made: a hash of the text, and of the metadata where there is
                any. So the same text twice is one document, and a paragraph that two sources share is two.
            metadata: one JSON object (or None) a text; dates, UUID, Decimal and NumPy scalars are stored as
                docs/filters.md says.
            vectors: one sparse vector a text, ``{term_id: weight}`` or ``(term_ids, weights)``; the model is not run.
            dense: one dense vector a text, ``(N, D)`` numbers; the dense encoder is not run. A text of several passages
                has it for each. A file that was made with ``dense=D`` needs them.
            progress: None shows a bar on a terminal; True, False, or a function of ``(done, total)``.
            on_conflict: what happens where an id exists with other content: ``"error"``, ``"skip"`` leaves the stored
                document, ``"replace"`` is :meth:`upsert`. Decided in the transaction that stores the batch.

        Raises:
            IdConflict: an id exists with other content, and ``on_conflict`` is ``"error"``.
            InvalidText, InvalidVector, InvalidMetadata, InvalidInput, WrongType: by position.

        Warns:
            UnfindableText: documents have no term that the model knows, so that ``mode="splade"`` never finds them.
        """
        if on_conflict not in ("error", "skip", "replace"):
            raise InvalidInput(f"on_conflict is {on_conflict!r}; give 'error', 'skip' or 'replace'")
        return self._ingest(texts, ids, metadata, vectors, dense, progress, on_conflict)

    def upsert(
        self,
        texts: str | Iterable[str],
        ids: str | Iterable[str | None] | None = None,
        metadata: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Mapping[int, float]] | Mapping[int, float] | None = None,
        progress: Progress = None,
        *,
        dense: ArrayLike | Iterable[ArrayLike] | None = None,
    ) -> Added:
        """Like :meth:`add`, but a document whose id exists is replaced, metadata included (``{}`` if not given).

        A document whose text is the same is not encoded again.
        """
        return self._ingest(texts, ids, metadata, vectors, dense, progress, "replace")

    def update(
        self,
        id: str | None = None,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        vector: Mapping[int, float] | None = None,
        *,
        dense: ArrayLike | None = None,
        where: Where = None,
        where_args: WhereArgs = None,
        where_sql: str | None = None,
        merge: bool = False,
    ) -> int:
        """Change a document's text, its metadata, or both; or the metadata of all that match. What is None stays.

        Args:
            id: the document; or None, and ``where``.
            text: the new text.
            metadata: the new metadata; with ``merge``, a JSON merge patch (RFC 7396) of the old: keys are set, those
                that are None are taken away, objects are merged, lists are replaced.
            vector: the new text's sparse vector; the model is not run.
            dense: the new text's dense vector, ``(D,)`` numbers.
            where, where_args, where_sql: as for :meth:`search`; ``where={}`` for all documents.
            merge: whether ``metadata`` changes the old metadata or takes its place.

        Returns:
            How many documents matched.

        One transaction: all of them or none.

        Metadata is replaced as a whole unless ``merge`` is given. What others change meanwhile is kept: a new text
        never brings older metadata or a deleted document back.

        Raises:
            DocumentNotFound: no document has this id.
        """
        matching = compile_filter(where, where_args, where_sql)
        if (id is None) == (matching is None):
            raise InvalidInput("update() takes an id or where=, one of them")
        name = "where" if id is None else check_id(id)
        if text is None and metadata is None:
            raise InvalidInput(f"update({name!r}) changes nothing; give text, metadata or both")
        if text is None and not (vector is None and dense is None):
            raise InvalidInput(f"update({name!r}) has a vector without its text; give both")
        if text is not None and id is None:
            raise InvalidInput("update(where=...) changes metadata; a text belongs to one document, so give its id")
        change = None if metadata is None else metadata_change(metadata, merge=merge)
        if text is not None and id is not None:
            self._update_text(id, text, change, vector, dense)
            return 1
        assert change is not None
        with self._session.writing() as connection:
            if id is not None:
                found = list(table.look_up(connection, [id]).values())
                if not found:
                    raise run.not_found(id)
            else:
                assert matching is not None
                found = [one for _, one in table.stored(connection, matching_doc_ids(connection, matching))]
            for one in found:
                new = change(one.metadata)
                if new != one.metadata:
                    table.set_metadata(connection, one, new)
        return len(found)

    def delete(
        self,
        ids: str | Iterable[str] | None = None,
        where: Where = None,
        where_args: WhereArgs = None,
        *,
        where_sql: str | None = None,
    ) -> int:
        """Delete documents by id, or all that match a filter; returns how many. Unknown ids are ignored.

        ``where={}`` matches, and deletes, every document.

        One transaction: all of them or none.
        """
        matching = compile_filter(where, where_args, where_sql)
        if (ids is None) == (matching is None):
            raise InvalidInput("delete() takes ids or where=, one of them")
        wanted = None if ids is None else id_list(ids)
        with self._session.writing() as connection:
            if wanted is not None:
                found = table.places(connection, wanted)
            else:
                assert matching is not None
                found = table.passage_counts(connection, matching_doc_ids(connection, matching))
            table.remove(connection, self._session.meta.layout, found)
        return len(found)

    def create_metadata_index(self, field: str) -> None:
        """Make filters on a metadata field (dots lead into nested objects) fast. Idempotent."""
        with self._connections.write() as connection:
            add_metadata_index(connection, field)

    def feedback(self, query: str, id: str, value: float = 1.0) -> None:
        """Remember in the file whether a document was useful for a query.

        ``spladelite train kb.db`` and ``adapt`` learn from it, ``spladelite eval --database kb.db --feedback`` measures
        on it. What is said last of a query and a document holds. :meth:`export` takes it along, slim exports do not.

        Args:
            query: a text, as it was searched.
            id: a document's.
            value: above 0: useful, the more the better; 0 or below: not. True and False do as well.

        Raises:
            DocumentNotFound: no document has this id.
            InvalidText, InvalidInput, WrongType: what is wrong with an argument.
        """
        given = (check_text(query, "query"), check_id(id), check_value(value))
        with self._connections.write() as connection:
            if not table.look_up(connection, [id]):
                raise run.not_found(id)
            store_feedback(connection, *given)

    def read_feedback(self) -> list[Feedback]:
        """What was last said of each query and document, oldest first.

        Raises:
            CorruptIndex: a row has changed since it was written.
        """
        with self._connections.read() as connection:
            return read_feedback(connection)

    # --- files --------------------------------------------------------------------------------------------------------

    def sync(
        self,
        folder: str | os.PathLike[str],
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        encoding: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        strict: bool = False,
        progress: Progress = None,
    ) -> FilesReport:
        """Make the database equal to a folder: what is new or changed there is stored, what is gone is deleted.

        A file that was only renamed is not encoded again. Documents that were added otherwise are left alone. The
        metadata of each has an object ``file`` with ``folder``, ``path`` and, where the file is one document,
        ``modified``, ``size`` and ``hash``. docs/files.md tells what is read, and how ids are made.

        Args:
            folder: read recursively; hidden files are passed over.
            include, exclude: shell patterns for names or paths inside of the folder, such as ``["*.md", "src/*"]``.
            encoding: of texts that are not UTF-8 and have no byte order mark.
            metadata: what the metadata of every document of these files gets. What a file of one document had stays.
            dry_run: change nothing, and report what would be done; files of one document are not opened for it unless
                their time says that they may have changed.
            strict: end at the first file that cannot be used, instead of naming it in ``problems``.
            progress: as for :meth:`add`, in bytes.

        Raises:
            InvalidInput: the folder has none of its files left; or a file cannot be used, and ``strict``.
            OSError: the folder does not exist.
        """
        root = os.fspath(folder)
        if not os.path.isdir(root):
            raise NotADirectoryError(errno.ENOTDIR, "is no folder", root)
        reading = Reading(Columns(), check_encoding(encoding), strict, metadata=file_metadata(metadata))
        return self._take(
            [root], None, Choice(include, exclude), reading, progress, readable(os.path.abspath(root)), dry_run
        )

    def add_files(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        format: str | None = None,
        text_column: str | None = None,
        id_column: str | None = None,
        types: Mapping[str, str] | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        encoding: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_conflict: OnConflict = "error",
        strict: bool = False,
        progress: Progress = None,
    ) -> FilesReport:
        """Add what files and folders hold; a file that was added before and has changed is replaced.

        Args: as for :meth:`sync`, and

            paths: files and folders.
            format: of the files that are named one by one; by default their names say it.
            text_column, id_column: of files with rows (jsonl, json, csv).
            types: of CSV columns, ``"text"``, ``"int"`` or ``"float"``, such as ``{"zip": "text"}``. By default a
                column whose values all print back as they are written is one of numbers, and every other one text.
            on_conflict: of rows whose id exists with other content, as for :meth:`add`.
        """
        given = [os.fspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
        columns = Columns(text_column, id_column, check_types(types))
        reading = Reading(columns, check_encoding(encoding), strict, on_conflict, file_metadata(metadata))
        return self._take(given, format, Choice(include, exclude), reading, progress, None, False)

    # --- upkeep -------------------------------------------------------------------------------------------------------

    def optimize(self) -> None:
        """Rewrite the index into the fewest segments, without dead postings, and give free space back to the disk."""
        with self._session.writing() as connection:
            merge_all(connection, self._session.meta.layout)
        with self._connections.outside_transaction() as connection:
            connection.execute("VACUUM")

    def reencode(
        self, model: object = None, progress: Progress = None, language: str | EllipsisType | None = ...
    ) -> None:
        """Move the database to another model, from the stored texts, or the words of BM25 to another language.

        The new index is built in a file beside this one (``kb.db.reencode``: room for a second copy is needed) and
        takes the old one's place in one transaction. Until then the old model serves every reader, and others may
        write. After an interruption the same call goes on where it stopped. Other open handles follow at their next
        call, unless they were opened with ``model=``. Vectors that were given to :meth:`add` are replaced by the
        model's.

        Args:
            model: None for the bundled model, else what ``SpladeLite(model=...)`` takes. With ``language`` alone the
                model and its vectors stay, and only words are indexed again, in one transaction.
            progress: as for :meth:`add`.
            language: as for ``SpladeLite(language=...)``; by default it stays.

        Raises:
            InvalidInput: an unknown language.
            ModelError: the model cannot be loaded.
            Busy: others write without a pause.
        """
        wanted = language if isinstance(language, EllipsisType) else check_language(language)
        with ticking(progress, self, "encoding") as advance:
            if model is None and not isinstance(wanted, EllipsisType):
                change_language(self._session, wanted, advance)
            else:
                reencode(self._session, model, wanted, advance)

    def check(self, repair: bool = False) -> list[Finding]:
        """Verify every checksum, and compare the index with the stored vectors; an empty list if all is well.

        Documents without a term that the model knows are no damage; a warning, ``UnfindableText``, counts them.

        Args:
            repair: if something was found, rebuild the database from what can be read, in one transaction: the index
                from the stored vectors; documents whose vectors are damaged are encoded again, for which the model is
                needed. A document's text is never dropped. The file as it was is first copied to ``kb.db.damaged``.
                The returned list then also tells what could not be kept as it was.

        Raises:
            ReadOnly: ``repair`` of a file that is open read-only, or of a slim export.
        """
        with self._connections.read() as connection:
            findings = check_file(connection, self._session.meta.layout, self._session.meta.slim)
            unfindable = [] if findings or self._session.meta.slim else find_unfindable(connection, self._session.meta)
        if unfindable:
            warnings.warn(
                f"{len(unfindable)} of the documents have no term that the model knows and no words, such as "
                f"{unfindable[0]!r}: no search finds them",
                UnfindableText,
                stacklevel=2,
            )
        return findings + repair_file(self._session) if repair and findings else findings

    def backup(
        self,
        path: str | os.PathLike[str],
        progress: Callable[[int, int], None] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Copy the database as it is now to another file, while others may write. ``progress(pages done, pages)``.

        Raises:
            InvalidInput: there is a file already, and not ``overwrite``.
        """
        with replacing(self._target(path), overwrite) as temporary, self._connections.read() as connection:
            backup(connection, temporary, progress)

    def export(self, path: str | os.PathLike[str], slim: bool = False, overwrite: bool = False) -> None:
        """Write a compact copy for shipping: one plain file that also opens in read-only folders.

        Args:
            path: where to.
            slim: leave out the stored vectors, half of the index. Such a file is searched and explained as usual, and
                cannot be changed: it always opens read-only.
            overwrite: replace a file that is there, in one step when the copy is complete.

        Raises:
            InvalidInput: there is a file already, and not ``overwrite``.
        """
        with replacing(self._target(path), overwrite) as temporary:
            with self._connections.outside_transaction() as connection:
                connection.execute("VACUUM INTO ?", (temporary,))
            if slim:
                make_slim(temporary)

    def export_rows(self, path: str | os.PathLike[str], progress: Progress = None, overwrite: bool = False) -> None:
        """Write a plain SQLite file, one row a posting; its table ``readme`` has the SQL that searches it anywhere.

        Tables: ``document(doc_id, id, text, metadata, length)``, ``passage(passage_id, doc_id, start_char, end_char)``,
        ``term(term_id, term, idf)``, ``posting(term_id, passage_id, weight)``; where the file has BM25:
        ``word(word_id, word, documents, idf)``, ``word_posting(word_id, doc_id, frequency)`` and ``stop_word(word)``.
        ``readme(mode, text, sql)`` has a row for each way to search. docs/sql.md shows both.

        Raises:
            InvalidInput: there is a file already, and not ``overwrite``; or this is a slim export.
        """
        from spladelite.upkeep.export_rows import export_rows  # here: sqlite-utils is slow to import

        with (
            replacing(self._target(path), overwrite) as temporary,
            self._connections.read() as connection,
            ticking(progress, range(len(self)), "exporting") as advance,
        ):
            meta = read_meta(connection)
            if meta.slim:
                raise InvalidInput(f"{self._session.path} is a slim export; export the rows from the full database")
            export_rows(connection, meta.layout, temporary, advance)

    def export_web(self, path: str | os.PathLike[str], progress: Progress = None) -> WebExport:
        """Write a folder that any static web host can serve and a browser can search, with a page to try it.

        docs/web.md tells how to publish it, and what the JavaScript module in it can do.

        Args:
            path: a new or empty folder, or one with an earlier export, which is replaced when the new one is complete;
                files of the page that were changed by hand stay.
            progress: as for :meth:`add`.

        Raises:
            InvalidInput: the folder holds something else.
        """
        from spladelite.upkeep.web.encoder import web_encoder  # here: few need it
        from spladelite.upkeep.web.site import export_site

        with (
            self._session.index.view() as view,
            ticking(progress, range(len(self)), "exporting") as advance,
        ):
            self._session.models.follow(view.snapshot.meta)
            encoder = web_encoder(self._session.models.sparse.load)
            return export_site(view.connection, view.snapshot, encoder, os.fspath(path), advance)

    def close(self) -> None:
        """Close the file; idempotent. Without it, closing happens when the object goes, or at exit."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SpladeLite({self._session.path!r}{', read_only=True' if self._connections.read_only else ''})"

    # --- inside -------------------------------------------------------------------------------------------------------

    def _ingest(
        self, texts: Any, ids: Any, metadata: Any, vectors: Any, dense: Any, progress: Progress, on_conflict: OnConflict
    ) -> Added:
        layout = self._session.meta.layout
        documents = new_documents(texts, ids, metadata, vectors, layout.vocabulary_size, dense, layout.dimension)
        with ticking(progress, texts, "indexing") as advance:
            return self._store(documents, advance, on_conflict)

    def _store(
        self, documents: Iterable[NewDocument], advance: Callable[..., object], on_conflict: OnConflict
    ) -> Added:
        try:
            return ingest(Target(self._connections, self._session.models, on_conflict), documents, advance)
        finally:
            self._session.changed()

    def _take(
        self,
        paths: list[str],
        format: str | None,
        choice: Choice,
        reading: Reading,
        progress: Progress,
        folder: str | None,
        dry_run: bool,
    ) -> FilesReport:
        files, unread = find_files(paths, format, choice)
        with ticking_files(progress, files) as advance:
            report = take_files(self._session, files, reading, advance, folder, dry_run)
        return dataclasses.replace(report, unread=dict(unread))

    def _update_text(
        self,
        id: str,
        text: str,
        change: Callable[[str], str] | None,
        vector: Mapping[int, float] | None,
        dense: ArrayLike | None,
    ) -> None:
        layout = self._session.meta.layout
        checked = None if vector is None else check_vector(vector, layout.vocabulary_size)
        checked_dense = None if dense is None else check_dense(dense, layout.dimension, "dense")
        digest = content_hash(check_text(text, "text"), checked, checked_dense)
        target = Target(self._connections, self._session.models, "replace")
        try:
            if not change_text(target, NewDocument(id, text, None, checked, digest, checked_dense), change):
                raise run.not_found(id)
        finally:
            self._session.changed()

    def _target(self, path: str | os.PathLike[str]) -> str:
        target = check_path(path)
        if os.path.realpath(target) == self._connections.path:
            raise InvalidInput(f"{target} is this database itself; give another path")
        if os.path.isdir(target) or not os.path.isdir(os.path.dirname(os.path.abspath(target))):
            raise InvalidInput(f"{target} is a directory, or lies in one that does not exist; give the path of a file")
        return target
