"""From what was ranked in an engine to hits: documents, and the passage of each that is to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spladelite.documents.table import read_metadata
from spladelite.index.words import analyzer
from spladelite.records import Hit
from spladelite.search.hybrid import words_in
from spladelite.search.query_weights import Query
from spladelite.search.relevance import relevance
from spladelite.search.request import Request
from spladelite.transfer.engine import Engine, Row
from spladelite.transfer.ranking import BY_WORDS, Shown

Span = tuple[int, int]


def read_hits(
    engine: Engine,
    language: str | None,
    request: Request,
    parts: Sequence[str],
    queries: Sequence[Query],
    found: Sequence[Shown],
) -> list[list[Hit]]:
    """The hits of each query, without those that ``request.offset`` passes over; ``language`` is that of the words."""
    over = request.offset
    cut = [Shown(one.numbers[over:], one.ordinals[over:], one.scores[over:]) for one in found]
    rows = engine.read(list(dict.fromkeys(number for one in cut for number in one.numbers)), request.text)
    results = []
    for query, one, spans in zip(queries, cut, _spans(engine, language, request, queries, cut, rows), strict=True):
        marks = query.marks()
        scores = zip(one.scores.tolist(), relevance(one.scores, request, parts, query).tolist(), strict=True)
        hits = []
        for number, span, (score, share) in zip(one.numbers, spans, scores, strict=True):
            row = rows.get(number)
            if row is not None:  # else it was deleted since it was ranked
                start, end = span or (0, len(row.text))
                hits.append(Hit(row.id, score, row.text, read_metadata(row.id, row.metadata), start, end, marks, share))
        results.append(hits)
    return results


def _spans(
    engine: Engine,
    language: str | None,
    request: Request,
    queries: Sequence[Query],
    found: Sequence[Shown],
    rows: Mapping[int, Row],
) -> list[list[Span | None]]:
    """Where the passage to show is in its document; None where that is the whole of a text that was read."""
    wanted: set[tuple[int, int]] = set()
    divided = set()  # documents whose passage is chosen by words
    for number, ordinal in {pair for one in found for pair in zip(one.numbers, one.ordinals, strict=True)}:
        passages = rows[number].passages if number in rows else 0
        if passages > 1 or (passages and not request.text):
            wanted |= {(number, i) for i in (range(passages) if ordinal == BY_WORDS else [ordinal])}
            divided |= {number} if ordinal == BY_WORDS and passages > 1 else set()
    spans = engine.spans(sorted(wanted)) if wanted else {}
    texts = rows if request.text else engine.read(sorted(divided)) if divided else {}
    count = analyzer(language).count
    words = {}
    for number in divided & texts.keys():
        parts = [spans.get((number, ordinal), (0, 0)) for ordinal in range(texts[number].passages)]
        words[number] = count([texts[number].text[start:end] for start, end in parts])

    def span(query: Query, number: int, ordinal: int) -> Span | None:
        if ordinal == BY_WORDS:
            ordinal = int(np.argmax(words_in(words[number], query.word_ids))) if number in words else 0
        return spans.get((number, ordinal))

    return [
        [span(query, number, ordinal) for number, ordinal in zip(one.numbers, one.ordinals, strict=True)]
        for query, one in zip(queries, found, strict=True)
    ]
