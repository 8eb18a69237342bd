"""One row a posting: the index as a plain SQLite file that any language's SQLite can search.

Slower than the segments, some hundred times at 100,000 passages, and the definition of the right answer: the same
ranking as ``db.search``, from a join and a sum. Query weights come from any SPLADE encoder or, with a tokenizer alone,
from the column ``idf``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apsw
import numpy as np
import sqlite_utils
from numpy.typing import NDArray

from spladelite.file.sqlite import fetch
from spladelite.index.passages import Layout, read_passages
from spladelite.search.query_weights import idf_weights

BATCH = 4096

SEARCH_SQL = """
WITH query(term_id, weight) AS (SELECT key, value FROM json_each(:query)),
best AS (
  SELECT p.doc_id, p.passage_id, sum(query.weight * posting.weight) AS score
  FROM query JOIN posting ON posting.term_id = CAST(query.term_id AS INTEGER) JOIN passage p USING (passage_id)
  GROUP BY p.passage_id
)
SELECT document.id, max(best.score) AS score, best.passage_id
FROM best JOIN document USING (doc_id)
GROUP BY best.doc_id ORDER BY score DESC, best.passage_id LIMIT :k
""".strip()

README = (
    "Learned sparse search in plain SQL. Bind :query to a JSON object of term_id to weight, for example "
    '\'{"2482": 1.5, "5823": 1.7}\', and :k to the number of hits:'
)


def export_rows(connection: apsw.Connection, layout: Layout, path: str, advance: Callable[[int], object]) -> None:
    """Write the state that this read transaction sees to the new file ``path``."""
    target = sqlite_utils.Database(path)
    try:
        target.execute("PRAGMA synchronous = OFF")  # a commit every 100 rows; the finished file is synced as a whole
        target.table("readme").insert_all([{"text": README, "sql": SEARCH_SQL}])
        target.table("document").insert_all(_documents(connection, advance), pk="doc_id")
        counts = np.zeros(layout.vocabulary_size, np.int64)
        target.table("passage").insert_all(
            (
                dict(zip(("passage_id", "doc_id", "start_char", "end_char"), row, strict=True))
                for row in connection.execute("SELECT passage_id, doc_id, start_char, end_char FROM passage")
            ),
            pk="passage_id",
        )
        # A wide batch: sqlite-utils builds one INSERT for as many rows as SQLite's variables allow.
        target.table("posting").insert_all(_postings(connection, layout, counts), batch_size=BATCH)
        target.table("posting").create_index(["term_id", "passage_id", "weight"])
        passages: int = connection.execute("SELECT count(*) FROM passage").get
        idf = idf_weights(counts, passages).tolist()
        target.table("term").insert_all(
            (
                {"term_id": term_id, "term": term, "idf": idf[term_id]}
                for term_id, term in fetch(connection, "SELECT term_id, term FROM term")
            ),
            pk="term_id",
        )
        target.table("document").create_index(["id"], unique=True)
    finally:
        target.close()


def _documents(connection: apsw.Connection, advance: Callable[[int], object]) -> Iterator[dict[str, Any]]:
    for doc_id, id, text, metadata in connection.execute("SELECT doc_id, id, text, metadata FROM document"):
        yield {"doc_id": doc_id, "id": id, "text": text, "metadata": metadata}
        advance(1)


def _postings(connection: apsw.Connection, layout: Layout, counts: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    last = 0
    while True:  # over what is there: ids have large gaps after reencode() and repair
        next_ids = "SELECT passage_id FROM passage WHERE passage_id > ? ORDER BY passage_id LIMIT ?"
        first, last = connection.execute(
            f"SELECT min(passage_id), max(passage_id) FROM ({next_ids})", (last, BATCH)
        ).get
        if first is None:
            return
        passages = read_passages(connection, layout, first, last)
        vectors = passages.vectors
        lengths = np.diff(vectors.indptr)
        weights = vectors.impacts * np.repeat(vectors.scales.astype(np.float64), lengths)
        counts += np.bincount(vectors.terms, minlength=len(counts))
        for term_id, passage_id, weight in zip(
            vectors.terms.tolist(), np.repeat(passages.passage_ids, lengths).tolist(), weights.tolist(), strict=True
        ):
            yield {"term_id": term_id, "passage_id": passage_id, "weight": weight}
