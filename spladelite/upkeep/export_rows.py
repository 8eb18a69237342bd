"""One row a posting: the index as a plain SQLite file that any language's SQLite can search.

Slower than the segments, some hundred times at 100,000 passages, and the definition of the right answer: the same
rankings as ``db.search`` with ``mode="splade"`` and ``mode="bm25"``, from a join and a sum. The weights of a SPLADE
query come from any SPLADE encoder or, with a tokenizer alone, from the column ``idf`` of ``term``; the words of a BM25
query from a Snowball stemmer, of which most languages have one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import apsw
import numpy as np
import sqlite_utils
from numpy.typing import NDArray

from spladelite.file.sqlite import fetch
from spladelite.index.passages import Layout, read_passages
from spladelite.index.scoring import K1, B, bm25_idf
from spladelite.index.words import MAX_FREQUENCY, Analyzer, analyzer
from spladelite.search.query_weights import idf_weights

BATCH = 4096  # passages that are read at once

Row = tuple[Any, ...]

SPLADE_SQL = """
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

SPLADE_README = (
    "Learned sparse search in plain SQL. Bind :query to a JSON object of term_id to weight, for example "
    '\'{"2482": 1.5, "5823": 1.7}\', and :k to the number of hits:'
)

BM25_SQL = f"""
WITH query(word) AS (SELECT DISTINCT value FROM json_each(:words)),
average(length) AS (SELECT avg(length) FROM document)
SELECT document.id, sum(
  word.idf * {K1 + 1} * p.frequency / (p.frequency + {K1} * ({1 - B} + {B} * document.length / average.length))
) AS score
FROM query JOIN word USING (word) JOIN word_posting p USING (word_id) JOIN document USING (doc_id), average
GROUP BY document.doc_id ORDER BY score DESC, document.doc_id LIMIT :k
""".strip()

BM25_README = (
    "BM25 in plain SQL. Bind :words to a JSON array of the query's words, in lower case and without accents, without "
    'those of the table stop_word where there are others{stems}, for example \'["car", "accid"]\', '
    "and :k to the number of hits:"
)


def export_rows(connection: apsw.Connection, layout: Layout, path: str, advance: Callable[[int], object]) -> None:
    """Write the state that this read transaction sees to the new file ``path``."""
    target = sqlite_utils.Database(path)
    try:
        target.execute("PRAGMA synchronous = OFF")  # the finished file is synced as a whole
        readme = [("splade", SPLADE_README, SPLADE_SQL)]
        columns: dict[str, type] = {"doc_id": int, "id": str, "text": str, "metadata": str}
        documents: Iterable[Row] = connection.execute(f"SELECT {', '.join(columns)} FROM document ORDER BY doc_id")
        if layout.bm25:
            words = analyzer(layout.language)
            stems = f", stemmed by Snowball's {words.language} stemmer" if words.language else ""
            readme.append(("bm25", BM25_README.format(stems=stems), BM25_SQL))
            lengths = _export_words(connection, words, target)
            columns |= {"length": int}
            documents = ((*row, length) for row, length in zip(documents, lengths, strict=True))
        _fill(target, "readme", {"mode": str, "text": str, "sql": str}, readme, "mode")
        _fill(target, "document", columns, documents, "doc_id").create_index(["id"], unique=True)
        columns = dict.fromkeys(("passage_id", "doc_id", "start_char", "end_char"), int)
        passages = connection.execute(f"SELECT {', '.join(columns)} FROM passage")
        _fill(target, "passage", columns, passages, "passage_id")
        counts = np.zeros(layout.vocabulary_size, np.int64)
        columns = {"term_id": int, "passage_id": int, "weight": float}
        _fill(target, "posting", columns, _postings(connection, layout, counts, advance)).create_index(list(columns))
        idf = idf_weights(counts, connection.execute("SELECT count(*) FROM passage").get).tolist()
        terms = fetch(connection, "SELECT term_id, term FROM term")
        columns = {"term_id": int, "term": str, "idf": float}
        _fill(target, "term", columns, ((term_id, term, idf[term_id]) for term_id, term in terms), "term_id")
    finally:
        target.close()


def _fill(
    target: sqlite_utils.Database, name: str, columns: Mapping[str, type], rows: Iterable[Row], key: str | None = None
) -> sqlite_utils.db.Table:
    """A new table, which an empty database has too. Rows as tuples: five times as fast as dicts."""
    table = target.table(name).create(dict(columns), pk=key)
    with target.conn:
        target.conn.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})", rows)
    return table


def _postings(
    connection: apsw.Connection, layout: Layout, counts: NDArray[np.int64], advance: Callable[[int], object]
) -> Iterator[Row]:
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
        passage_ids = np.repeat(passages.passage_ids, lengths)
        yield from zip(vectors.terms.tolist(), passage_ids.tolist(), weights.tolist(), strict=True)
        advance(int(np.count_nonzero(passages.passage_ids == passages.doc_ids)))


def _export_words(connection: apsw.Connection, words: Analyzer, target: sqlite_utils.Database) -> list[int]:
    """Write the tables of BM25; returns how many words each document has."""
    lengths: list[int] = []
    numbers: dict[str, int] = {}
    counts: Counter[int] = Counter()
    columns: dict[str, type] = {"word_id": int, "doc_id": int, "frequency": int}
    postings = _word_postings(connection, words, numbers, counts, lengths)
    _fill(target, "word_posting", columns, postings).create_index(list(columns))
    documents = [counts[word_id] for word_id in numbers.values()]
    idf = bm25_idf(np.array(documents, np.int64), len(lengths)).tolist()
    rows = zip(numbers.values(), numbers, documents, idf, strict=True)
    columns = {"word_id": int, "word": str, "documents": int, "idf": float}
    _fill(target, "word", columns, rows, "word_id").create_index(["word"], unique=True)
    _fill(target, "stop_word", {"word": str}, ((word,) for word in sorted(words.stop_words)), "word")
    return lengths


def _word_postings(
    connection: apsw.Connection, words: Analyzer, numbers: dict[str, int], counts: Counter[int], lengths: list[int]
) -> Iterator[Row]:
    """A row for each document and each of its words; fills the other three as it goes."""
    for doc_id, text in connection.execute("SELECT doc_id, text FROM document ORDER BY doc_id"):
        found = Counter(words.words(text))
        lengths.append(found.total())
        for word, frequency in found.items():
            word_id = numbers.setdefault(word, len(numbers))
            counts[word_id] += 1
            yield word_id, doc_id, min(frequency, MAX_FREQUENCY)
