"""Figures of a database."""

from __future__ import annotations

import apsw

from spladelite.index.kernels import KERNEL
from spladelite.index.scoring import WORD
from spladelite.index.settings import Meta
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
    for name, size in connection.execute("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE"):
        part = _PARTS.get(name, "indexes")
        sizes[part] = sizes.get(part, 0) + size
    # Words share a table with SPLADE's terms: their rows are told apart by what is in them.
    words, word_bytes = connection.execute(
        "SELECT coalesce(sum(count), 0), total(length(postings) + ?) FROM posting WHERE term_id >= ?", (ROW_BYTES, WORD)
    ).get
    sizes["bm25"] = min(int(word_bytes), sizes["postings"])
    sizes["postings"] -= sizes["bm25"]
    return Stats(
        documents=documents,
        passages=passages,
        postings=connection.execute("SELECT coalesce(sum(count), 0) FROM posting WHERE term_id < ?", (WORD,)).get,
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
    )
