"""Figures of a database."""

from __future__ import annotations

import apsw

from spladelite.file.schema import own_objects
from spladelite.index.buckets import BUCKET
from spladelite.index.kernels import KERNEL
from spladelite.index.settings import Meta
from spladelite.index.words import analyzer
from spladelite.records import Stats

# What a reader of stats() wants to know the size of, by table or index.
_PARTS = {
    "document": "text",
    "passage": "vectors",
    "posting": "postings",
    "segment": "segments",
    "tombstone": "segments",
    "term": "vocabulary",
    "document_words": "segments",
    "dense_block": "dense",
}

_WITHOUT_TERMS = """
SELECT DISTINCT p.doc_id FROM passage p WHERE length(p.impacts) = 0 AND NOT EXISTS (
  SELECT 1 FROM document d JOIN passage q ON q.passage_id BETWEEN d.doc_id AND d.doc_id + d.passages - 1
  WHERE d.doc_id = p.doc_id AND length(q.impacts) > 0
)
""".strip()


LOOKED_AT = 1000  # documents whose text is read to see whether it has words

ROW_BYTES = 40  # what a posting row takes besides its list, its entry in the primary key included


def read_stats(connection: apsw.Connection, meta: Meta) -> Stats:
    """Count everything and measure every table."""
    documents: int = connection.execute("SELECT count(*) FROM document").get
    passages, entries = connection.execute("SELECT count(*), total(length(impacts)) FROM passage").get
    segments: int = connection.execute("SELECT count(*) FROM segment").get
    tail: int = connection.execute(
        "SELECT count(*) FROM passage WHERE passage_id > (SELECT coalesce(max(last_passage_id), 0) FROM segment)"
    ).get
    sizes: dict[str, int] = {}
    own = {name for _, name, *_ in own_objects(connection)}
    for name, size in connection.execute("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE"):
        part = "your own" if name in own else _PARTS.get(name, "indexes")
        sizes[part] = sizes.get(part, 0) + size
    # Words share a table with SPLADE's terms: their rows are told apart by what is in them.
    postings = connection.execute("SELECT coalesce(sum(count), 0) FROM posting WHERE term_id < ?", (BUCKET,)).get
    words, word_bytes = connection.execute(
        "SELECT coalesce(sum(count), 0), total(length(postings) + ?) FROM posting WHERE term_id >= ?",
        (ROW_BYTES, BUCKET),
    ).get
    sizes["bm25"] = min(int(word_bytes), sizes["postings"])
    sizes["postings"] -= sizes["bm25"]
    return Stats(
        documents=documents,
        passages=passages,
        postings=postings,
        segments=segments,
        tail=tail,
        dead=connection.execute("SELECT coalesce(sum(deleted), 0) FROM tombstone").get,
        word_postings=words,
        unread=connection.execute("SELECT count(*) FROM unread").get,
        language=meta.layout.language if meta.layout.bm25 else None,
        active_terms=entries / passages if passages else 0.0,
        model=meta.model,
        fingerprint=meta.fingerprint,
        vocabulary_size=meta.layout.vocabulary_size,
        window=meta.window,
        min_weight=meta.min_weight,
        format=connection.pragma("user_version"),
        kernel=KERNEL,
        file_size=connection.pragma("page_count") * connection.pragma("page_size"),
        sizes=sizes,
        unfindable=None if meta.slim else count_unfindable(connection),
    )


def count_unfindable(connection: apsw.Connection) -> int:
    """How many documents have no term in any passage."""
    count: int = connection.execute(f"SELECT count(*) FROM ({_WITHOUT_TERMS})").get
    return count


def find_unfindable(connection: apsw.Connection, meta: Meta) -> list[str]:
    """Ids of documents without a term and without a word, among the first ``LOOKED_AT`` without a term."""
    if meta.dense:
        return []
    words = analyzer(meta.layout.language) if meta.layout.bm25 else None
    sql = f"SELECT id, text FROM document WHERE doc_id IN ({_WITHOUT_TERMS}) LIMIT {LOOKED_AT}"
    return [id for id, text in connection.execute(sql) if words is None or not words.count([text]).lengths[0]]
