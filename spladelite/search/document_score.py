"""One document's stored vectors, and its score for a query."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import numpy as np

from spladelite.file.sqlite import fetch, int_array
from spladelite.index.passages import Layout, PassageVectors, read_passages
from spladelite.index.postings import split
from spladelite.index.quantize import QuantizedVectors
from spladelite.index.segments import checked_postings, read_segment


def read_document_vectors(
    connection: apsw.Connection, layout: Layout, doc_id: int, terms: Sequence[int]
) -> PassageVectors:
    """The vectors of one document's passages, for at least the given terms; empty if there is no such document.

    Read from the table ``passage``, or, in a slim export, from the posting lists of ``terms``.
    """
    count: int | None = connection.execute("SELECT passages FROM document WHERE doc_id = ?", (doc_id,)).get
    last = doc_id + (count or 0) - 1
    slim = connection.execute("SELECT terms IS NULL FROM passage WHERE passage_id = ?", (doc_id,)).get
    if not slim:
        return read_passages(connection, layout, doc_id, last)
    segment = read_segment(
        connection,
        connection.execute(
            "SELECT segment_id FROM segment WHERE last_passage_id >= ? ORDER BY last_passage_id LIMIT 1", (doc_id,)
        ).get,
    )
    first, end = np.searchsorted(segment.passage_ids, (doc_id, last + 1)).tolist()
    rows: list[list[tuple[int, int]]] = [[] for _ in range(first, end)]
    for term, size, blob, checksum in fetch(
        connection,
        "SELECT p.term_id, p.count, p.postings, p.checksum FROM carray(?) c CROSS JOIN posting p"
        " ON p.segment_id = ? AND p.term_id = c.value ORDER BY p.term_id",
        (int_array([*terms, -1]), segment.segment_id),
    ):
        postings = checked_postings(segment.segment_id, term, size, blob, checksum, len(segment))
        ordinals, impacts = split(postings, len(segment))
        for i in range(*np.searchsorted(ordinals, (first, end)).tolist()):
            rows[int(ordinals[i]) - first].append((term, int(impacts[i])))
    indptr = np.concatenate(([0], np.cumsum([len(row) for row in rows], dtype=np.int64)))
    vectors = QuantizedVectors(
        indptr,
        np.array([term for row in rows for term, _ in row], np.int32),
        np.array([impact for row in rows for _, impact in row], np.uint8),
        segment.scales[first:end],
    )
    return PassageVectors(segment.passage_ids[first:end], np.full(end - first, doc_id, np.int64), vectors)


def score(connection: apsw.Connection, layout: Layout, doc_id: int, query: Sequence[tuple[int, float]]) -> float | None:
    """A document's score: that of its best passage, with the bits that a search gives; None if there is none."""
    passages = read_document_vectors(connection, layout, doc_id, [term for term, _ in query])
    if not len(passages):
        return None
    weight_of = np.zeros(layout.vocabulary_size, np.float32)
    weight_of[[term for term, _ in query]] = [weight for _, weight in query]
    vectors = passages.vectors
    products = weight_of[vectors.terms] * vectors.impacts.astype(np.float32)
    sums = [
        np.cumsum(products[begin:end], dtype=np.float32)[-1]
        if end > begin
        else np.float32(0)  # in order, like a search
        for begin, end in zip(vectors.indptr[:-1], vectors.indptr[1:], strict=True)
    ]
    return float((np.array(sums, np.float32) * vectors.scales).max())
