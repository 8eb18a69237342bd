"""From what a user asks to the query's weighted terms.

Texts are encoded together and outside of any transaction (:func:`encode_queries`); what depends on the state of the
file, document frequencies and query words, is looked up once a query inside the transaction (:func:`look_up_query`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spladelite.arguments import check_dense, check_unicode, check_vector
from spladelite.errors import InvalidVector, WrongType
from spladelite.file_models import FileModels
from spladelite.index.words import QueryWord, analyzer
from spladelite.search.searcher import QueryWeights, View, document_frequencies

QueryInput = str | Mapping[int, float]


class EncodedQuery(NamedTuple):
    """A query, encoded for every part that will be asked.

    Attributes:
        text: empty if the query is a sparse vector.
        weights: terms and weights, ascending; None where they depend on the file, being ``tokens`` weighted by idf.
        tokens: the text's own terms, ascending, for idf.
        vector: float32 ``(D,)``, where the dense part is asked and the text is not blank.
        unread: the SPLADE part is asked, and its model cannot read most of the text.
    """

    text: str
    weights: QueryWeights | None
    tokens: Sequence[int] = ()
    vector: NDArray[np.float32] | None = None
    unread: bool = False


class Query(NamedTuple):
    """A query as one state of the file sees it.

    Attributes:
        text: empty if the query is a sparse vector.
        weights: SPLADE's terms and weights, ascending.
        words: what BM25 looks for, term ids ascending; empty where it is not asked.
        vector: of the dense part.
        unread: SPLADE's part has no terms and no say, since its model cannot read the text.
    """

    text: str
    weights: QueryWeights
    words: Sequence[QueryWord] = ()
    vector: NDArray[np.float32] | None = None
    unread: bool = False

    @property
    def word_ids(self) -> list[int]:
        """The term ids of ``words``, ascending."""
        return [word.term_id for word in self.words]

    def marks(self) -> dict[int, float]:
        """What ``highlight`` marks, by term id: SPLADE's terms by weight; words alike, as much as the strongest."""
        if not self.words:
            return dict(self.weights)
        strongest = max((weight for _, weight in self.weights), default=1.0)
        return dict(self.weights) | dict.fromkeys(self.word_ids, strongest)


def encode_queries(
    queries: Sequence[object], parts: Sequence[str], encoder: str | None, models: FileModels, dense: object = None
) -> list[EncodedQuery]:
    """Encode queries for the parts that are asked.

    Args:
        queries: texts, or, where SPLADE alone is asked, sparse vectors ``{term_id: weight}``.
        parts: one or more of ``splade``, ``bm25`` and ``dense``.
        encoder: None for the model, ``"idf"`` for the query's own tokens weighted by their rarity in the file.
        models: of the file.
        dense: the queries' dense vectors, one each, instead of the encoder's.

    Raises:
        WrongType, InvalidVector, InvalidText: what is wrong with a query.
        ModelError: a model cannot be loaded.
    """
    for query in queries:
        if isinstance(query, str):
            check_unicode(query, "the query")
        elif not isinstance(query, Mapping):
            raise WrongType(f"the query is of type {type(query).__name__}; give a str or {{term_id: weight}}")
        elif tuple(parts) != ("splade",):
            raise WrongType(f"the query is of type {type(query).__name__}; BM25 and dense search need a text")
    if not any(isinstance(query, str) for query in queries):
        size = models.meta.layout.vocabulary_size
        return [EncodedQuery("", _pairs(*check_vector(query, size, "the query"))) for query in queries]
    texts = [query if isinstance(query, str) else "" for query in queries]
    asked = [i for i, text in enumerate(texts) if text.strip()]
    weights: list[QueryWeights | None] = [() for _ in queries]
    tokens: list[Sequence[int]] = [() for _ in queries]
    vectors: list[NDArray[np.float32] | None] = [None for _ in queries]
    unread = ["splade" in parts and bool(text.strip()) and not models.sparse.reads(text) for text in texts]
    for i, query in enumerate(queries):
        if isinstance(query, Mapping):
            weights[i] = _pairs(*check_vector(query, models.meta.layout.vocabulary_size, "the query"))
    if "splade" in parts and encoder == "idf":
        for i in asked:
            weights[i], tokens[i] = None, np.unique(models.sparse.load().tokenize(texts[i]).term_ids).tolist()
    elif "splade" in parts and asked:
        rows = models.sparse.load().encode_queries([texts[i] for i in asked])
        for i, row in zip(asked, rows, strict=True):
            weights[i] = _pairs(*row)
    if "dense" in parts and dense is not None:
        vectors = [*_given_vectors(dense, len(queries), models.meta.layout.dimension)]
    elif "dense" in parts:
        for i, vector in zip(asked, models.dense.queries([texts[i] for i in asked]), strict=True):
            vectors[i] = vector
    return [EncodedQuery(*entry) for entry in zip(texts, weights, tokens, vectors, unread, strict=True)]


def _given_vectors(dense: object, count: int, dimension: int) -> Iterator[NDArray[np.float32]]:
    rows = list(dense) if isinstance(dense, Iterable) else []
    if len(rows) != count:
        raise InvalidVector(f"dense has {len(rows)} vectors for {count} queries; give one each")
    for i, row in enumerate(rows):
        yield check_dense(row, dimension, f"dense[{i}]" if count > 1 else "dense")


def _pairs(terms: NDArray[np.int32], weights: NDArray[np.float32]) -> QueryWeights:
    return list(zip(terms.tolist(), weights.tolist(), strict=True))


def look_up_query(view: View, encoded: EncodedQuery, parts: Sequence[str], judge: bool = True) -> Query:
    """What a query looks for in one state of the file: the only place that reads frequencies and the language.

    ``judge`` says that beside other parts SPLADE has no say in a query that its model cannot read.
    """

    def by_idf(terms: Sequence[int]) -> QueryWeights:
        passages = sum(len(segment) for segment in view.snapshot.all_segments)
        return weigh_by_idf(terms, document_frequencies(view, terms), passages)

    return resolve(encoded, parts, judge, view.snapshot.meta.layout.language, by_idf)


def resolve(
    encoded: EncodedQuery,
    parts: Sequence[str],
    judge: bool,
    language: str | None,
    by_idf: Callable[[Sequence[int]], QueryWeights],
) -> Query:
    """:func:`look_up_query`, given the collection's language and how it weighs tokens by idf."""
    silent = judge and encoded.unread and len(parts) > 1
    if silent:
        weights: QueryWeights = ()
    else:
        weights = by_idf(encoded.tokens) if encoded.weights is None else encoded.weights
    words: Sequence[QueryWord] = ()
    if "bm25" in parts and encoded.text:
        words = sorted(analyzer(language).query(encoded.text))
    return Query(encoded.text, weights, words, encoded.vector, silent)


def weigh_by_idf(terms: Sequence[int], frequencies: NDArray[np.int64], passages: int) -> QueryWeights:
    """:func:`idf_weights` as a query's weights, without the terms that no passage has."""
    weights = idf_weights(frequencies, passages).tolist()
    return [(term, weight) for term, weight in zip(terms, weights, strict=True) if weight > 0]


def idf_weights(frequencies: NDArray[np.int64], passages: int) -> NDArray[np.float64]:
    """Weights of a query's own tokens by their rarity, ``ln(1 + N / df)``: queries without a model.

    The inference-free query side of SPLADE-doc (Formal et al. 2021) and of OpenSearch's doc-only models, with document
    frequencies read from the file. None of the formulas in benchmarks/LOG.md is clearly better over five collections.

    Args:
        frequencies: in how many passages each query token occurs, ``(T,)``.
        passages: N, how many there are.

    Returns:
        ``(T,)``; 0 for a token that no passage has.
    """
    df = np.minimum(frequencies, passages)
    return np.where(frequencies > 0, np.log1p(passages / np.maximum(df, 1)), 0.0)


def check_queries(queries: Iterable[QueryInput]) -> list[QueryInput]:
    """An iterable of queries as a list; :class:`WrongType` for one query alone."""
    if isinstance(queries, str | bytes | Mapping) or not isinstance(queries, Iterable):
        raise WrongType(f"queries is of type {type(queries).__name__}; give an iterable of queries")
    return list(queries)
