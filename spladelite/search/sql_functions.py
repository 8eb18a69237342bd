"""Search inside the user's own SQL: table-valued functions of each part and of all, the scalar ``splade_score``. ::

    SELECT d.id, s.score FROM hybrid('how do I …', 50) AS s JOIN document AS d USING (doc_id) WHERE …
    SELECT d.id, s.splade, s.bm25 FROM hybrid('how do I …') AS s JOIN document AS d USING (doc_id)
    SELECT id FROM document WHERE splade_score(doc_id, 'how do I …') > 5

``splade(query, k = 10)`` and ``bm25(query, k = 10)`` have the columns ``doc_id``, ``score``, ``passage_id`` (of the
passage to show), best first; ``hybrid(query, k = 10)`` fuses all that the file has, and also has what each part says,
``splade``, ``bm25`` and ``dense``, NULL where the file lacks it. They rank all documents: what the rest of the
statement filters away is not replaced. ``splade_score`` is NULL for a doc_id that does not exist, 0 for a document that
shares no term with the query. All see the state of the file that the statement sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apsw
import apsw.ext

from spladelite.arguments import check_count
from spladelite.documents.filters import prepare_filters
from spladelite.documents.table import document_ids
from spladelite.errors import InvalidInput
from spladelite.file_models import FileModels
from spladelite.search.document_score import score
from spladelite.search.hybrid import rank, rank_with_parts
from spladelite.search.query_weights import encode_queries, look_up_query
from spladelite.search.request import Request
from spladelite.search.searcher import QueryWeights, Searcher, View


def register(connection: apsw.Connection, searcher: Searcher, models: FileModels) -> None:
    """Make the functions, and those that filters call, known on a connection."""
    prepare_filters(connection)

    def query_of(view: View, text: str) -> QueryWeights:
        (encoded,) = encode_queries([text], ("splade",), None, models)
        return look_up_query(view, encoded, ("splade",)).weights

    def one_part(part: str) -> Callable[..., Iterator[tuple[Any, float, int]]]:
        def rows(query: Any, k: Any = 10) -> Iterator[tuple[Any, float, int]]:
            view = searcher.view(connection)
            request = Request(part, check_count(k))
            parts = request.parts(view.snapshot.meta.layout, models.dense.encodes)
            (encoded,) = encode_queries([_text(query)], parts, None, models)
            passage_ids, scores = rank(searcher, view, request, (part,), look_up_query(view, encoded, (part,)))
            doc_ids = document_ids(connection, passage_ids)
            return zip(doc_ids.tolist(), scores.tolist(), passage_ids.tolist(), strict=True)

        return rows

    def hybrid(query: Any, k: Any = 10) -> Iterator[tuple[Any, ...]]:
        view = searcher.view(connection)
        request = Request(None, check_count(k))
        parts = request.parts(view.snapshot.meta.layout, models.dense.encodes)
        (encoded,) = encode_queries([_text(query)], parts, None, models)
        return rank_with_parts(searcher, view, request, parts, look_up_query(view, encoded, parts))

    columns = ("doc_id", "score", "passage_id")
    for name, function, more in (
        ("splade", one_part("splade"), ()),
        ("bm25", one_part("bm25"), ()),
        ("hybrid", hybrid, ("splade", "bm25", "dense")),
    ):
        table: Any = function
        table.columns = columns + more
        table.column_access = apsw.ext.VTColumnAccess.By_Index
        apsw.ext.make_virtual_module(connection, name, table, eponymous_only=True)

    latest: list[tuple[View, str, QueryWeights]] = []  # a scan asks the same question for every row

    def splade_score(*arguments: Any) -> float | None:
        doc_id, query = arguments
        view = searcher.view(connection)
        text = _text(query)
        if not latest or latest[0][0].snapshot is not view.snapshot or latest[0][1] != text:
            latest[:] = [(view, text, query_of(view, text))]
        return score(connection, view.snapshot.meta.layout, doc_id, latest[0][2]) if isinstance(doc_id, int) else None

    connection.create_scalar_function("splade_score", splade_score, 2, flags=apsw.SQLITE_DIRECTONLY)


def _text(query: object) -> str:
    if not isinstance(query, str):
        raise InvalidInput(f"the query in the SQL is {query!r}; give a text, such as splade('how do I …', 10)")
    return query
