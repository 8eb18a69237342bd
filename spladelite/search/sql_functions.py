"""Search inside the user's own SQL: the table-valued function ``splade`` and the scalar ``splade_score``. ::

    SELECT d.id, s.score FROM splade('how do I …', 50) AS s JOIN document AS d USING (doc_id) WHERE …
    SELECT id FROM document WHERE splade_score(doc_id, 'how do I …') > 5

``splade(query, k = 10)`` has the columns ``doc_id``, ``score``, ``passage_id`` (of the best passage), best first, and
ranks all documents: what the rest of the statement filters away is not replaced. ``splade_score`` is NULL for a doc_id
that does not exist, 0 for a document that shares no term with the query. Both see the state of the file that the
statement sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw
import apsw.ext

from spladelite.arguments import check_count
from spladelite.documents.filters import prepare_filters
from spladelite.errors import InvalidInput
from spladelite.file_models import FileModels
from spladelite.search.document_score import score
from spladelite.search.query_weights import encode_queries, look_up_query
from spladelite.search.request import Request
from spladelite.search.searcher import QueryWeights, Searcher, View


def register(connection: apsw.Connection, searcher: Searcher, models: FileModels) -> None:
    """Make both functions, and those that filters call, known on a connection."""
    prepare_filters(connection)

    def query_of(view: View, text: str) -> QueryWeights:
        (encoded,) = encode_queries([text], ("splade",), None, models)
        return look_up_query(view, encoded, ("splade",), models).weights

    def splade(query: Any, k: Any = 10) -> Iterator[tuple[Any, float, int]]:
        view = searcher.view(connection)
        found = query_of(view, _text(query))
        passage_ids, scores = searcher.top_k(view, found, Request("splade", check_count(k)))
        for passage_id, value in zip(passage_ids.tolist(), scores.tolist(), strict=True):
            doc_id = connection.execute("SELECT doc_id FROM passage WHERE passage_id = ?", (passage_id,)).get
            yield doc_id, value, passage_id

    table: Any = splade
    table.columns = ("doc_id", "score", "passage_id")
    table.column_access = apsw.ext.VTColumnAccess.By_Index
    apsw.ext.make_virtual_module(connection, "splade", table, eponymous_only=True)

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
