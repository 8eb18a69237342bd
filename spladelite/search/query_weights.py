"""From what a user asks to the query's weighted terms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from spladelite.arguments import Vector, check_unicode, check_vector
from spladelite.errors import InvalidInput, WrongType
from spladelite.file_models import FileModel
from spladelite.records import Tokens
from spladelite.search.idf import idf_weights
from spladelite.search.searcher import Query, View, document_frequencies

QueryInput = str | Mapping[int, float]
Weigher = Callable[[View], Query]


def weigher(query: object, encoder: str | None, model: FileModel) -> Weigher:
    """A function that gives a query's terms and weights, ascending, for a state of the index; see :func:`weighers`."""
    return weighers([query], encoder, model)[0]


def weighers(queries: object, encoder: str | None, model: FileModel) -> list[Weigher]:
    """One function a query. Texts are encoded here, together and outside of any transaction.

    Args:
        queries: texts, or sparse vectors ``{term_id: weight}``.
        encoder: None for the model, ``"idf"`` for the query's own tokens weighted by their rarity in the file.
        model: the file's.
    """
    if encoder not in (None, "idf"):
        raise InvalidInput(f"encoder is {encoder!r}; give 'idf', or None for the model")
    if isinstance(queries, str | bytes | Mapping) or not isinstance(queries, Iterable):
        raise WrongType(f"queries is of type {type(queries).__name__}; give an iterable of queries")
    result: list[Weigher | None] = []
    texts: list[str] = []
    for query in queries:
        if isinstance(query, str):
            check_unicode(query, "the query")
            blank = not query.strip()
            result.append(_constant(()) if blank else _by_idf(model.load().tokenize(query)) if encoder else None)
            texts += [query] if result[-1] is None else []
        elif isinstance(query, Mapping):
            result.append(_fixed(check_vector(query, model.vocabulary_size, "the query")))
        else:
            raise WrongType(f"the query is of type {type(query).__name__}; give a str or {{term_id: weight}}")
    rows = iter(model.load().encode_queries(texts) if texts else ())
    return [_fixed(next(rows)) if entry is None else entry for entry in result]


def _fixed(vector: Vector) -> Weigher:
    return _constant(list(zip(vector[0].tolist(), vector[1].tolist(), strict=True)))


def _constant(query: Query) -> Weigher:
    return lambda _: query


def _by_idf(tokens: Tokens) -> Weigher:
    terms: Sequence[int] = np.unique(tokens.term_ids).tolist()

    def weigh(view: View) -> Query:
        passages = sum(len(segment) for segment in view.snapshot.all_segments)
        weights = idf_weights(document_frequencies(view, terms), passages).tolist()
        return [(term, weight) for term, weight in zip(terms, weights, strict=True) if weight > 0]

    return weigh
