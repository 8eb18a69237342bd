"""BM25 over SQLite FTS5, in the same file: the table ``document_text``, one row a document, keyed by ``doc_id``.

The table is contentless (the text is in ``document``) and has no triggers: the functions here are called inside the
transaction that writes the document. Words are lower-cased, stripped of accents and Porter-stemmed. The score is
FTS5's ``bm25()`` with its sign turned: Robertson and Zaragoza 2009, k1 = 1.2, b = 0.75,
``idf = max(ln((N - n + 0.5) / (n + 0.5)), 1e-6)``. Any SQLite shell can ask it too::

    SELECT d.id FROM document_text t JOIN document d ON d.doc_id = t.rowid
    WHERE document_text MATCH 'fever OR cough' ORDER BY bm25(document_text) LIMIT 10
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.file.sqlite import fetch, int_array, open_file

MAX_WORDS = 1024
"""Distinct query words that are used, the first ones: FTS5's time to parse a query grows with their square."""

# Function words. In a query they match most documents and say little about any: without them a question takes a
# twentieth of the time and ranks better (benchmarks/README.md). Documents keep them.
_STOP_WORDS = """
a about am an and are as at be been being but by can could did do does for from had has have he her his how i if
in into is it its me my no not of on or our she should so such than that the their them then there these they
this those to us was we were what when where which who why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

_SEARCH = """
SELECT rowid, bm25(document_text) AS score FROM document_text
WHERE document_text MATCH :words{filter}
ORDER BY score, rowid LIMIT :k
""".strip()
# The + keeps SQLite from turning the filter into one full-text query for each allowed row.
_FILTER = " AND +rowid IN (SELECT value FROM carray(:allowed))"


def insert(connection: apsw.Connection, documents: Iterable[tuple[int, str]]) -> None:
    """Index new documents, given as ``(doc_id, text)``."""
    connection.executemany("INSERT INTO document_text (rowid, text) VALUES (?, ?)", documents)


def delete(connection: apsw.Connection, doc_ids: Iterable[int]) -> None:
    """Take documents out; ids that are not there are passed over."""
    connection.executemany("DELETE FROM document_text WHERE rowid = ?", ((doc_id,) for doc_id in doc_ids))


def optimize(connection: apsw.Connection) -> None:
    """Merge the full-text index into one segment."""
    connection.execute("INSERT INTO document_text (document_text) VALUES ('optimize')")


def problems(connection: apsw.Connection) -> list[tuple[int, str]]:
    """``(doc_id, problem)`` for what the index lacks or has without reason; 0 for the index as a whole.

    ``PRAGMA integrity_check`` looks at the inside of the index. FTS5 has no checksums, so the index is built a second
    time, from the documents, and compared.
    """
    missing = "SELECT doc_id FROM document EXCEPT SELECT id FROM document_text_docsize"
    extra = "SELECT id FROM document_text_docsize EXCEPT SELECT doc_id FROM document"
    found = [
        *((doc_id, "is not in the full-text index") for (doc_id,) in fetch(connection, missing)),
        *((doc_id, "is in the full-text index but not in the database") for (doc_id,) in fetch(connection, extra)),
    ]
    if found:
        return found
    ((sql,),) = fetch(connection, "SELECT sql FROM sqlite_schema WHERE name = 'document_text'")
    with closing(open_file("")) as anew:  # a temporary file
        anew.execute(sql)
        with anew:  # one transaction
            insert(anew, connection.execute("SELECT doc_id, text FROM document ORDER BY doc_id"))
        for table, difference in (
            ("SELECT id, sz FROM document_text_docsize ORDER BY id", "has another length in the full-text index"),
            ("SELECT 0, block FROM document_text_data WHERE id = 1", "the full-text index has wrong totals"),
        ):
            for (doc_id, value), (_, expected) in zip(fetch(connection, table), fetch(anew, table), strict=True):
                # No words at all are written as zeros, or not.
                if value != expected and value.strip(b"\0") + expected.strip(b"\0"):
                    found.append((doc_id, difference))
        words, expected_words = (dict(_vocabulary(index)) for index in (connection, anew))
    wrong = [word for word in words.keys() | expected_words.keys() if words.get(word) != expected_words.get(word)]
    return found + [(0, f"the word {word!r} is in other documents than the full-text index says") for word in wrong]


def _vocabulary(connection: apsw.Connection) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each word with sums over where it stands, which differ if any place does."""
    connection.execute("CREATE VIRTUAL TABLE temp.document_text_places USING fts5vocab(main, document_text, instance)")
    try:
        for word, *sums in connection.execute(
            "SELECT term, count(*), sum(doc), sum(doc % 65521 * (offset + 1)), sum(doc % 4093 * (doc % 65519))"
            " FROM temp.document_text_places GROUP BY term"
        ):
            yield word, tuple(sums)
    finally:
        connection.execute("DROP TABLE temp.document_text_places")


def search(
    connection: apsw.Connection, words: Sequence[str], k: int, allowed: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k documents with the highest BM25 score for a query's words, any of which may match.

    Args:
        connection: inside a transaction.
        words: as :func:`query_words` gives them.
        k: at least 1.
        allowed: the doc_ids that may be found; None allows all.

    Returns:
        doc_ids int64 ``(m,)`` and scores float32 ``(m,)``, m <= k, score descending, then doc_id ascending.
    """
    if not words or (allowed is not None and not len(allowed)):
        return np.empty(0, np.int64), np.empty(0, np.float32)
    bindings: dict[str, Any] = {"words": _match(words), "k": k}
    if allowed is not None:
        bindings["allowed"] = int_array(allowed)
    rows = fetch(connection, _SEARCH.format(filter="" if allowed is None else _FILTER), bindings)
    doc_ids = np.array([doc_id for doc_id, _ in rows], np.int64)
    return doc_ids, np.array([-score for _, score in rows], np.float32)


def contributions(connection: apsw.Connection, words: Sequence[str], doc_id: int) -> dict[str, float]:
    """What each matching query word adds to the document's BM25 score; the values sum to the score."""
    parts = {}
    for word in words:
        for (score,) in fetch(
            connection,
            "SELECT bm25(document_text) FROM document_text WHERE document_text MATCH ? AND rowid = ?",
            (_match([word]), doc_id),
        ):
            parts[word] = -score
    return parts


def count_words(connection: apsw.Connection, words: Sequence[str], text: str) -> int:
    """How many of the query's words occur in a text."""
    stems = set(_tokenize(connection, text.encode(), "porter", "unicode61"))
    return len(stems.intersection(_tokenize(connection, " ".join(words).encode(), "porter", "unicode61")))


def query_words(connection: apsw.Connection, query: str) -> list[str]:
    """The query's distinct words as the index divides them, one of each stem, at most ``MAX_WORDS``.

    Operators mean nothing, and stop words count only where there is nothing else.
    """
    tokenize = partial(_tokenize, connection, query.encode())
    first_of_stem: dict[str, str] = {}
    for word, stem in zip(tokenize("unicode61"), tokenize("porter", "unicode61"), strict=True):
        first_of_stem.setdefault(stem, word)
    words = list(first_of_stem.values())
    return ([word for word in words if word not in STOP_WORDS] or words)[:MAX_WORDS]


def _tokenize(connection: apsw.Connection, text: bytes, name: str, *base: str) -> list[str]:
    tokenizer = connection.fts5_tokenizer(name, [*base, "remove_diacritics", "2"])
    tokens = tokenizer(text, apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False, include_colocated=False)
    return cast("list[str]", tokens)


def _match(words: Iterable[str]) -> str:
    return " OR ".join(f'"{word}"' for word in words)  # the tokenizer leaves no quotation mark in a word
