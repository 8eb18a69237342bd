"""Why a document was found, and which words to show: contributions term by term, expansion, highlighting."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

import apsw
import numpy as np

from spladelite.documents.table import DOCUMENT_COLUMNS, Stored, read_document
from spladelite.errors import CorruptIndex, WrongType
from spladelite.file.sqlite import int_array
from spladelite.index.passages import Layout
from spladelite.index.quantize import QuantizedVectors
from spladelite.index.words import analyzer
from spladelite.records import Explanation, Hit, Listed, Passage, Term, TermMatch, Tokens
from spladelite.search.document_score import read_document_vectors

# Words whose term adds less than this share of the strongest contribution are not marked: every query has some weight
# on "the".
LEAST_SHARE = 0.1


def read_terms(connection: apsw.Connection, term_ids: Collection[int]) -> dict[int, str]:
    """The text of vocabulary entries."""
    if not term_ids:
        return {}
    rows = connection.execute(
        "SELECT term_id, term FROM term WHERE term_id IN (SELECT value FROM carray(?))", (int_array(list(term_ids)),)
    )
    return dict(rows)


def expansion(weights: Mapping[int, float], terms: Mapping[int, str], in_text: Collection[int]) -> list[Term]:
    """A sparse vector as readable terms, strongest first."""
    ordered = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return Listed(Term(terms[term_id], weight, term_id not in in_text, term_id) for term_id, weight in ordered)


def explain(
    connection: apsw.Connection,
    layout: Layout,
    stored: Stored,
    query: Mapping[int, float],
    query_tokens: Collection[int],
    tokenize: Callable[[str], Tokens],
) -> Explanation:
    """The contributions of a document's best passage for a query, strongest first."""
    passages = read_document_vectors(connection, layout, stored.doc_id, sorted(query))
    document = read_document(
        connection.execute(f"SELECT {DOCUMENT_COLUMNS} FROM document d WHERE doc_id = ?", (stored.doc_id,)).get
    )
    if not len(passages):
        raise CorruptIndex(f"document {stored.doc_id} (id {document.id!r}) has no passages; run check(repair=True)")
    spans = {
        passage_id: (start, end)
        for passage_id, start, end in connection.execute(
            "SELECT passage_id, start_char, end_char FROM passage WHERE passage_id BETWEEN ? AND ?",
            (stored.doc_id, stored.doc_id + stored.passages - 1),
        )
    }
    return explanation(
        document.id,
        document.text,
        [spans[passage_id] for passage_id in passages.passage_ids.tolist()],
        passages.vectors,
        query,
        query_tokens,
        tokenize,
        lambda term_ids: read_terms(connection, term_ids),
    )


def explanation(
    id: str,
    text: str,
    spans: Sequence[tuple[int, int]],
    vectors: QuantizedVectors,
    query: Mapping[int, float],
    query_tokens: Collection[int],
    tokenize: Callable[[str], Tokens],
    names: Callable[[Collection[int]], Mapping[int, str]],
) -> Explanation:
    """The contributions of the best of a document's passages, given with their spans and vectors."""
    sizes = np.diff(vectors.indptr)
    wanted = np.array(sorted(query), np.int64)
    place = np.searchsorted(wanted, vectors.terms)
    known = wanted[np.minimum(place, len(wanted) - 1)] == vectors.terms if len(wanted) else np.zeros(len(place), bool)
    query_weights = np.array([query[term] for term in wanted.tolist()] or [0.0])
    weights = vectors.impacts * np.repeat(vectors.scales.astype(np.float64), sizes)
    contributions = np.where(known, query_weights[np.minimum(place, len(query_weights) - 1)] * weights, 0.0)
    rows = np.repeat(np.arange(len(vectors)), sizes)
    scores = np.bincount(rows, contributions, len(vectors))
    best = int(np.argmax(scores))
    passage = Passage(text[slice(*spans[best])], *spans[best])
    entries = np.flatnonzero((rows == best) & (contributions > 0))
    entries = entries[np.lexsort((vectors.terms[entries], -contributions[entries]))]
    term_ids = vectors.terms[entries].tolist()
    term_names = names(term_ids)
    in_passage = set(tokenize(passage.text).term_ids.tolist())
    matches = tuple(
        TermMatch(
            term_names[term_id],
            query[term_id],
            float(weights[entry]),
            float(contributions[entry]),
            term_id not in query_tokens,
            term_id not in in_passage,
            term_id,
        )
        for term_id, entry in zip(term_ids, entries.tolist(), strict=True)
    )
    return Explanation(id, float(scores[best]), passage, matches)


def highlighted(hit: Hit, layout: Layout, tokenize: Callable[[str], Tokens], before: str, after: str) -> str:
    """A hit's passage with its words marked; :class:`WrongType` for what is no hit, or no mark."""
    if not isinstance(hit, Hit):
        raise WrongType(f"hit is of type {type(hit).__name__}; give a Hit of a search")
    if not isinstance(before, str) or not isinstance(after, str):
        raise WrongType("before and after must be str, such as '<b>' and '</b>'")
    passage = hit.passage.text
    words = analyzer(layout.language if layout.bm25 else None)
    places = list(words.places(passage)) if layout.bm25 else []
    tokens = tokenize(passage) if any(term < layout.vocabulary_size for term in hit.query) else None
    return highlight(passage, tokens, places, hit.query, before, after, words.is_stop_word)


def highlight(
    passage: str,
    tokens: Tokens | None,
    places: Sequence[tuple[int, int, int]],
    weights: Mapping[int, float],
    before: str,
    after: str,
    is_stop_word: Callable[[str], bool],
) -> str:
    """``passage`` with ``before`` and ``after`` around the words that matter.

    A word is a run of the model's tokens without a gap of white space or punctuation; it is marked if one of its tokens
    has a weight of at least a tenth of the strongest, or where BM25 has a word of the query (``places``: start, end and
    term id). Models expand questions with "and" and "is": stop words are marked only where nothing else is. Marked
    neighbours are marked one by one, what overlaps as one.
    """
    if not weights:
        return passage
    least = LEAST_SHARE * max(weights.values())
    strong = {term for term, value in weights.items() if value >= least}
    marked = [(start, end) for start, end, term_id in places if term_id in strong]
    if tokens is not None:
        words = [(start, end) for start, end, matters in _words(passage, tokens, strong) if matters]
        marked += [(start, end) for start, end in words if not is_stop_word(passage[start:end])]
        marked = marked or words
    pieces, position = [], 0
    for start, end in _joined(sorted(marked)):
        pieces += [passage[position:start], before, passage[start:end], after]
        position = end
    return "".join([*pieces, passage[position:]])


# Models give the full stop weights; nobody looks for it.
_PUNCTUATION = re.compile(r"[.,;:!?'\"()\[\]{}<>/\\|`~_-]+")


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap as one."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _words(passage: str, tokens: Tokens, strong: Collection[int]) -> Sequence[tuple[int, int, bool]]:
    words: list[tuple[int, int, bool]] = []
    for term_id, start, end in zip(tokens.term_ids.tolist(), tokens.starts.tolist(), tokens.ends.tolist(), strict=True):
        if end == start:
            continue
        matters = term_id in strong and not _PUNCTUATION.fullmatch(passage, start, end)
        begin, last, earlier = words[-1] if words else (0, 0, False)
        # Tokens may share characters (a Hangul syllable is several, once it is decomposed): they are of one word.
        joined = passage[start:end].isalnum() and passage[start - 1 : start].isalnum()
        if words and (start < last or (start == last and joined)):
            words[-1] = (min(begin, start), max(last, end), earlier or matters)
        else:
            words.append((start, end, matters))
    return words
