"""The reading half of the facade: search, explain, look, copy.

:class:`Reader` holds what outlives one call: the connections, the model, the cached state of the index.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import apsw

from spladelite import check as checking
from spladelite import documents as store
from spladelite.connection import Connections, Durability, backup, replacing
from spladelite.dense_model import FileDense
from spladelite.errors import DocumentNotFound, InvalidInput, ModelError, WrongType
from spladelite.explain import expansion, explain, highlight, read_terms
from spladelite.files import is_new
from spladelite.filters import Filter, compile_filter
from spladelite.ingest import split
from spladelite.meta import Meta, Settings, create_meta, metadata_indexes, read_meta
from spladelite.model import FileModel
from spladelite.modes import Mode, Question, Rerank, answer, check_mode, explain_in_parts, questions, reranked
from spladelite.progress import Progress, ticking
from spladelite.quantize import drop_small_weights
from spladelite.queries import QueryInput, weigher
from spladelite.records import Document, Explanation, Finding, Hit, Row, Stats, Term
from spladelite.searcher import Searcher, explain_sql
from spladelite.slim import make_slim
from spladelite.sql_functions import register
from spladelite.stats import read_stats
from spladelite.validate import check_count, check_id, check_min_score, check_text

Where = Mapping[str, Any] | str | None
WhereArgs = Sequence[Any] | Mapping[str, Any] | None


class Reader:
    """What can be done with a database without changing it; see :class:`~spladelite.database.SpladeLite`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: object,
        dense: object,
        *,
        read_only: bool,
        immutable: bool,
        durability: Durability,
        settings: Settings,
    ) -> None:
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str) or not os.fspath(path):
            raise WrongType(f"path is {path!r}; give the path of a file, or ':memory:'")
        self._path = os.fspath(path)
        if durability not in ("full", "fast"):
            raise InvalidInput(f"durability is {durability!r}; give 'full' or 'fast'")
        self._model = FileModel(model)
        self._dense = FileDense(dense)
        self._searcher = Searcher()
        if not read_only and not immutable and is_new(self._path):
            self._model.load()  # before there is a file: a model that cannot be loaded leaves none behind
        self._connections = Connections(
            self._path,
            read_only=read_only,
            immutable=immutable,
            durability=durability,
            prepare=_prepare(self._searcher, self._model),
            create=_create(self._model, self._dense, settings),
            indexes=metadata_indexes,
        )
        self._finalizer = weakref.finalize(self, self._connections.close)
        try:
            with self._connections.read() as connection:
                self._meta = read_meta(connection)
            if self._meta.slim:
                self._connections.frozen = "it is a slim export, without the vectors that changes need"
            settings.compare(self._meta, self._path)
            self._model.belongs_to(self._meta, self._path)
            self._dense.belongs_to(self._meta, self._path)
        except BaseException:
            self.close()
            raise

    # --- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        query: QueryInput,
        k: int = 10,
        where: Where = None,
        where_args: WhereArgs = None,
        min_score: float | None = None,
        encoder: str | None = None,
        mode: str = "splade",
        weights: Mapping[str, float] | None = None,
        fusion: str = "convex",
        rerank: Rerank | None = None,
        rerank_top: int = 50,
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
            mode: ``"splade"``, ``"bm25"``, ``"dense"``, or ``"hybrid"`` for all that the file has, fused. A hybrid
                fuses the best 200 documents of each part, or k if that is more.
            weights: of a hybrid: ``{"splade": 0.6, "bm25": 0.4}``; parts that are not named are not asked. None chooses
                by the query's length, see :func:`spladelite.fusion.default_weights`.
            fusion: of a hybrid: ``"convex"`` adds up weighted scores, each as a share of its part's best; ``"rrf"``
                weighted reciprocal ranks.
            rerank: a function of the query and a list of passages that returns a score for each, such as a
                cross-encoder's; the hits are ordered by it and show it as their score.
            rerank_top: how many hits are found for it, or k if that is more.

        Returns:
            Hits; an empty list for an empty query, or one without a known term.

        Raises:
            InvalidInput, InvalidFilter, InvalidVector, WrongType: what is wrong with an argument.
            CorruptIndex: a row of the file contradicts itself.
        """
        count, matching = check_count(k), compile_filter(where, where_args)
        least = None if min_score is None else check_min_score(min_score)
        wanted = count if rerank is None else max(count, check_count(rerank_top, "rerank_top"))
        while True:
            asked = check_mode(mode, weights, fusion, self._meta.layout)
            (question,) = self._questions([query], asked, encoder)
            hits = self._search(asked, question, wanted, matching, least)
            if hits is not None:
                return hits if rerank is None else reranked(rerank, query, hits, count)

    def search_many(
        self,
        queries: Iterable[QueryInput],
        k: int = 10,
        where: Where = None,
        where_args: WhereArgs = None,
        min_score: float | None = None,
        encoder: str | None = None,
        mode: str = "splade",
        weights: Mapping[str, float] | None = None,
        fusion: str = "convex",
    ) -> list[list[Hit]]:
        """:meth:`search` for many queries, on all cores; one list of hits a query, in order."""
        count, matching = check_count(k), compile_filter(where, where_args)
        least = None if min_score is None else check_min_score(min_score)
        if isinstance(queries, str | bytes | Mapping) or not isinstance(queries, Iterable):
            raise WrongType(f"queries is of type {type(queries).__name__}; give an iterable of queries")
        queries = list(queries)
        asked = check_mode(mode, weights, fusion, self._meta.layout)
        todo = self._questions(queries, asked, encoder)

        def one(query: QueryInput, question: Question) -> list[Hit]:
            hits = self._search(asked, question, count, matching, least)
            if hits is None:
                return self.search(query, k, where, where_args, min_score, encoder, mode, weights, fusion)
            return hits

        workers = min(os.cpu_count() or 1, len(todo))
        if workers < 2 or self._connections.memory:
            return list(map(one, queries, todo))
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, queries, todo))

    def explain(
        self,
        query: QueryInput,
        id: str,
        encoder: str | None = None,
        mode: str = "splade",
        weights: Mapping[str, float] | None = None,
        fusion: str = "convex",
    ) -> Explanation:
        """Why the document has its score for the query, term by term; the contributions sum to the score.

        In another mode than ``"splade"`` it is the parts' contributions that sum to the score, which is that of a
        search with k up to 200.

        Raises:
            DocumentNotFound: no document has this id.
        """
        check_id(id)
        asked = check_mode(mode, weights, fusion, self._meta.layout)
        (question,) = self._questions([query], asked, encoder)
        tokenize = self._model.load().tokenize
        literal = set(tokenize(query).term_ids.tolist()) if isinstance(query, str) else set(query)
        with self._connections.read() as connection:
            stored = store.look_up(connection, [id]).get(id)
            if stored is None:
                raise not_found(id)
            view = self._searcher.view(connection)
            terms = dict(question.weigh(view))
            explanation = explain(connection, self._meta.layout, stored, terms, literal, tokenize)
            if asked.parts == ("splade",):
                return explanation
            return explain_in_parts(explanation, self._searcher, view, asked, question, stored.doc_id)

    def expand(self, text: str, side: str = "document") -> list[Term]:
        """The weighted terms of a text as the index (``side="document"``) or a search (``"query"``) sees it.

        Strongest first; expansions, terms that the text does not contain, are marked. A text longer than the model's
        window is shown as the largest weight of each term over its passages.
        """
        if side not in ("document", "query"):
            raise InvalidInput(f"side is {side!r}; give 'document' or 'query'")
        check_text(text, "text")
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
        if not isinstance(id, str) or "\0" in id:
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
            return checking.check(connection, self._meta.layout, self._meta.slim)

    def sql(self, query: str, args: WhereArgs = None) -> list[Row]:
        """Run one SQL statement of yours that reads, and return its rows (tuples that also know column names).

        Besides the tables and views of the file it sees whatever you ``ATTACH`` (for this thread's connection).

        Args:
            query: the statement, with ``?`` or ``:name`` for values.
            args: a sequence for ``?``, a dict for ``:name``.

        Raises:
            InvalidInput: it does not compile, would change something, or is more than one statement.
        """
        statements: list[str] = []

        def one_statement(_: object, sql: str, __: object) -> bool:
            statements.append(sql)
            if len(statements) > 1:
                raise InvalidInput(f"db.sql() runs one statement at a time; call it once more for {sql.strip()[:40]!r}")
            return True

        with self._connections.querying() as connection:
            cursor = connection.cursor()
            cursor.exec_trace = one_statement
            try:
                cursor.execute(query, args)
            except KeyError as error:
                raise InvalidInput(f"the SQL has a value named {error}, which args does not give") from None
            try:
                names = tuple(column[0] for column in cursor.description)
            except apsw.ExecutionCompleteError:
                return []  # without rows apsw knows no names
            return [Row(values, names) for values in cursor]

    def explain_sql(self, query: QueryInput) -> str:
        """The SQL statement that a search for ``query`` runs, with its terms and SQLite's plan for it."""
        weigh = weigher(query, None, self._model)
        with self._connections.read() as connection:
            weights = weigh(self._searcher.view(connection))
            return explain_sql(connection, weights, read_terms(connection, [term for term, _ in weights]))

    # --- files -------------------------------------------------------------------------------------------------------

    def backup(self, path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the database as it is now to another file, while others may write. ``progress(pages done, pages)``."""
        with replacing(self._target(path)) as temporary, self._connections.read() as connection:
            backup(connection, temporary, progress)

    def export(self, path: str | os.PathLike[str], slim: bool = False) -> None:
        """Write a compact copy for shipping: one plain file that also opens in read-only folders.

        Args:
            path: where to; what is there is replaced in one step when the copy is complete.
            slim: leave out the stored vectors, half of the index. Such a file is searched and explained as usual, and
                cannot be changed: it always opens read-only.
        """
        with replacing(self._target(path)) as temporary:
            with self._connections.outside_transaction() as connection:
                connection.execute("VACUUM INTO ?", (temporary,))
            if slim:
                make_slim(temporary)

    def export_rows(self, path: str | os.PathLike[str], progress: Progress = None) -> None:
        """Write a plain SQLite file, one row a posting; its table ``readme`` has the SQL that searches it anywhere.

        Tables: ``document(doc_id, id, text, metadata)``, ``passage(passage_id, doc_id, start_char, end_char)``,
        ``term(term_id, term, idf)``, ``posting(term_id, passage_id, weight)``.
        """
        from spladelite.transfer.rows import export_rows  # here: sqlite-utils is slow to import

        if self._meta.slim:
            raise InvalidInput(
                f"{self._path} is a slim export, without vectors; export the rows from the full database"
            )
        with (
            replacing(self._target(path)) as temporary,
            self._connections.read() as connection,
            ticking(progress, range(len(self)), "exporting") as advance,
        ):
            export_rows(connection, self._meta.layout, temporary, advance)

    def close(self) -> None:
        """Close the file; idempotent. Without it, closing happens when the object goes, or at exit."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SpladeLite({self._path!r}{', read_only=True' if self._connections.read_only else ''})"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _search(
        self, mode: Mode, question: Question, k: int, matching: Filter | None, min_score: float | None
    ) -> list[Hit] | None:
        """The hits; None if the file has moved to another model since the query was encoded."""
        with self._connections.read() as connection:
            view = self._searcher.view(connection)
            if not self._is_current(view.snapshot.meta):
                return None
            passage_ids, scores, query = answer(self._searcher, view, mode, question, k, min_score, matching)
            return store.read_hits(connection, passage_ids, scores, query)

    def _questions(self, queries: Sequence[QueryInput], mode: Mode, encoder: str | None) -> list[Question]:
        try:
            return questions(queries, mode, encoder, self._model, self._dense)
        except ModelError:
            # The model that this handle knows cannot be loaded; the file may have moved to another since.
            with self._connections.read() as connection:
                if self._is_current(read_meta(connection)):
                    raise
            return questions(queries, mode, encoder, self._model, self._dense)

    def _is_current(self, meta: Meta) -> bool:
        """Whether the file still has the model that this handle knows; if not, follow it, or ModelMismatch."""
        if meta == self._meta:
            return True
        self._model.belongs_to(meta, self._path)
        self._meta = meta
        return False

    def _target(self, path: str | os.PathLike[str]) -> str:
        target = os.fspath(path)
        if os.path.realpath(target) == os.path.realpath(self._path):
            raise InvalidInput(f"{target} is this database itself; give another path")
        if os.path.isdir(target) or not os.path.isdir(os.path.dirname(os.path.abspath(target))):
            raise InvalidInput(f"{target} is a directory, or lies in one that does not exist; give the path of a file")
        return target


# Without a reference to the handle: a connection that held one would keep it from being collected.
def _prepare(searcher: Searcher, model: FileModel) -> Callable[[apsw.Connection], None]:
    def prepare(connection: apsw.Connection) -> None:
        searcher.prepare(connection)
        register(connection, searcher, lambda view, text: weigher(text, None, model)(view))

    return prepare


def _create(model: FileModel, dense: FileDense, settings: Settings) -> Callable[[apsw.Connection], None]:
    return lambda connection: create_meta(connection, model.load(), model.source, settings, dense.describe())


def not_found(id: str) -> DocumentNotFound:
    """The error for an id that is not there."""
    return DocumentNotFound(f"no document has the id {id!r}; `id in db` tells, and iterating over db lists all ids")
