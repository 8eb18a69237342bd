"""The reading half of the facade: search, explain, expand, highlight."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from spladelite.arguments import check_count, check_id, check_min_score, check_text, check_timeout
from spladelite.documents import table as store
from spladelite.documents.filters import Filter, compile_filter
from spladelite.documents.ingest import split
from spladelite.errors import InvalidInput, ModelError, WrongType
from spladelite.handle import Handle, Where, WhereArgs, not_found
from spladelite.index.quantize import drop_small_weights
from spladelite.index.settings import read_meta
from spladelite.records import Explanation, Hit, Term
from spladelite.search.explain import expansion, explain, highlight, read_terms
from spladelite.search.modes import Mode, Question, Rerank, answer, check_mode, explain_in_parts, questions, reranked
from spladelite.search.query_weights import QueryInput, weigher
from spladelite.search.searcher import explain_sql

TRANSACTION = 1024  # queries of one search_many that see the same state of the file


class Reader(Handle):
    """What can be asked of a database; see :class:`~spladelite.database.SpladeLite`."""

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
        timeout: float | None = None,
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
                by the query's length, see :func:`spladelite.search.fusion.default_weights`.
            fusion: of a hybrid: ``"convex"`` adds up weighted scores, each as a share of its part's best; ``"rrf"``
                weighted reciprocal ranks.
            rerank: a function of the query and a list of passages that returns a score for each, such as a
                cross-encoder's; the hits are ordered by it and show it as their score.
            rerank_top: how many hits are found for it, or k if that is more.
            timeout: seconds after which SQLite's part of the search (filter, posting lists, documents) is ended.

        Returns:
            Hits; an empty list for an empty query, or one without a known term.

        Raises:
            InvalidInput, InvalidFilter, InvalidVector, WrongType: what is wrong with an argument.
            Interrupted: the timeout has passed.
            CorruptIndex: a row of the file contradicts itself.
        """
        seconds = check_timeout(timeout)
        count, matching = check_count(k), compile_filter(where, where_args)
        least = None if min_score is None else check_min_score(min_score)
        wanted = count if rerank is None else max(count, check_count(rerank_top, "rerank_top"))
        while True:
            asked = check_mode(mode, weights, fusion, self._meta.layout)
            (question,) = self._questions([query], asked, encoder)
            hits = self._search(asked, question, wanted, matching, least, seconds)
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
        timeout: float | None = None,
    ) -> list[list[Hit]]:
        """:meth:`search` for many queries, on all cores; one list of hits a query, in order."""
        seconds = check_timeout(timeout)
        count, matching = check_count(k), compile_filter(where, where_args)
        least = None if min_score is None else check_min_score(min_score)
        if isinstance(queries, str | bytes | Mapping) or not isinstance(queries, Iterable):
            raise WrongType(f"queries is of type {type(queries).__name__}; give an iterable of queries")
        queries = list(queries)
        asked = check_mode(mode, weights, fusion, self._meta.layout)
        todo = self._questions(queries, asked, encoder)
        if asked.parts == ("splade",) and seconds is None:
            together = self._search_many(todo, count, matching, least or 0.0)
            if together is not None:
                return together

        def one(query: QueryInput, question: Question) -> list[Hit]:
            hits = self._search(asked, question, count, matching, least, seconds)
            if hits is None:
                return self.search(
                    query, k, where, where_args, min_score, encoder, mode, weights, fusion, timeout=timeout
                )
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
        while True:
            asked = check_mode(mode, weights, fusion, self._meta.layout)
            (question,) = self._questions([query], asked, encoder)
            explanation = self._explain(asked, question, query, id)
            if explanation is not None:
                return explanation

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

    def explain_sql(self, query: QueryInput) -> str:
        """The SQL statement that a search for ``query`` runs, with its terms and SQLite's plan for it."""
        weigh = weigher(query, None, self._model)
        with self._connections.read() as connection:
            weights = weigh(self._searcher.view(connection))
            return explain_sql(connection, weights, read_terms(connection, [term for term, _ in weights]))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _search(
        self,
        mode: Mode,
        question: Question,
        k: int,
        matching: Filter | None,
        min_score: float | None,
        timeout: float | None,
    ) -> list[Hit] | None:
        """The hits; None if the file has moved to another model since the query was encoded."""
        with self._connections.read(timeout) as connection:
            view = self._searcher.view(connection)
            if not self._is_current(view.snapshot.meta):
                return None
            passage_ids, scores, query = answer(self._searcher, view, mode, question, k, min_score, matching)
            return store.read_hits(connection, [(passage_ids, scores, query)])[0]

    def _search_many(
        self, questions: Sequence[Question], k: int, matching: Filter | None, min_score: float
    ) -> list[list[Hit]] | None:
        """Hits by SPLADE alone; None if the file has moved to another model since the queries were encoded."""
        hits: list[list[Hit]] = []
        for start in range(0, len(questions), TRANSACTION):
            with self._connections.read() as connection:
                view = self._searcher.view(connection)
                if not self._is_current(view.snapshot.meta):
                    return None
                queries = [question.weigh(view) for question in questions[start : start + TRANSACTION]]
                rest = iter(queries)
                for ranked in self._searcher.top_k_many(view, queries, k, min_score, matching):
                    hits += store.read_hits(connection, [(*found, dict(next(rest))) for found in ranked])
        return hits

    def _questions(self, queries: Sequence[QueryInput], mode: Mode, encoder: str | None) -> list[Question]:
        try:
            return questions(queries, mode, encoder, self._model, self._dense)
        except ModelError:
            # The model that this handle knows cannot be loaded; the file may have moved to another since.
            with self._connections.read() as connection:
                if self._is_current(read_meta(connection)):
                    raise
            return questions(queries, mode, encoder, self._model, self._dense)

    def _explain(self, mode: Mode, question: Question, query: QueryInput, id: str) -> Explanation | None:
        """The explanation; None if the file has moved to another model since the query was encoded."""
        tokenize = self._model.load().tokenize
        literal = set(tokenize(query).term_ids.tolist()) if isinstance(query, str) else set(query)
        with self._connections.read() as connection:
            view = self._searcher.view(connection)
            if not self._is_current(view.snapshot.meta):
                return None
            stored = store.look_up(connection, [id]).get(id)
            if stored is None:
                raise not_found(id)
            terms = dict(question.weigh(view))
            explanation = explain(connection, self._meta.layout, stored, terms, literal, tokenize)
            if mode.parts == ("splade",):
                return explanation
            return explain_in_parts(explanation, self._searcher, view, mode, question, stored.doc_id)
