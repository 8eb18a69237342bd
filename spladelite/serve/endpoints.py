"""What can be asked. An endpoint is a typed function; :mod:`spladelite.serve.openapi` reads its signature."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from spladelite import DocumentNotFound, Hit, InvalidFilter, InvalidInput, ModelError, SpladeLite
from spladelite.encoders.registry import BUNDLED, installed_models
from spladelite.serve import browse
from spladelite.serve.answers import (
    Collection,
    Expanded,
    Explained,
    ExplainedPart,
    ExplainedTerm,
    Facet,
    Facets,
    Found,
    FoundDocument,
    FoundPassage,
    Health,
    OneDocument,
    Problem,
    Span,
    TermCount,
    TermCounts,
    TermDocuments,
    WeightedTerm,
)
from spladelite.serve.openapi import Endpoint

COUNTED = 100  # best documents of a query among which the values of a field are counted
MOST = 200  # hits of one request
PATIENCE = 20.0  # seconds for a search
STRONGEST = 60  # terms that a document's page shows

Id = Annotated[str, "a document's id"]
K = Annotated[int, "how many"]
Where = Annotated[str, 'a JSON filter such as {"year": {"$gte": 2020}}; empty for all documents']
ModeName = Annotated[str, "splade, bm25, dense, or hybrid; empty for the best that the file has"]


@dataclass(frozen=True, slots=True)
class Library:
    """The database that is served, and what was found out about it when it was opened.

    Attributes:
        db: open read-only, unless ``writable``.
        name: the file's name.
        modes: the ways in which it can be searched, the best first.
    """

    db: SpladeLite
    name: str
    writable: bool
    modes: Sequence[str]
    browser: browse.Browser


def open_library(db: SpladeLite, name: str, writable: bool) -> Library:
    """Look at a database: which modes it has. A small search for each also loads the models."""
    modes = []
    for mode in ("splade", "bm25", "dense"):
        try:
            db.search("a", 1, mode=mode)
        except (InvalidInput, ModelError):
            continue
        modes.append(mode)
    return Library(db, name, writable, ["hybrid"] * (len(modes) > 1) + modes, browse.Browser(db))


# --- searching -------------------------------------------------------------------------------------------------------


def search(
    library: Library,
    q: Annotated[str, "the question; empty for the newest documents"] = "",
    mode: ModeName = "",
    k: K = 10,
    offset: Annotated[int, "how many hits to leave out at the beginning"] = 0,
    where: Where = "",
) -> Found:
    """The best documents for a question, with the words that match."""
    _check_count(k, offset)
    asked = mode or library.modes[0]
    condition = _condition(where)
    start = time.perf_counter()
    if q.strip():
        hits = library.db.search(q, k + 1, where=condition, mode=asked, offset=offset, timeout=PATIENCE)
    else:
        hits = browse.newest(library.db, condition, k + 1, offset)
    took = 1000 * (time.perf_counter() - start)
    return Found(q, asked, [_found(library.db, hit) for hit in hits[:k]], took, len(hits) > k)


def facets(library: Library, q: Annotated[str, "the question"] = "", mode: ModeName = "", where: Where = "") -> Facets:
    """Metadata fields to filter by, and how many documents have each value.

    With a question, its best 100 documents are counted, for each field without the filter on that field. Without one,
    the collection, or its newest 20,000 documents.
    """
    fields = library.browser.fields()
    if not q.strip():
        return Facets(fields, min(len(library.db), browse.SAMPLE), "collection")
    condition = _condition(where) or {}
    best = _metadata_of_best(library, q, mode, condition)
    result = []
    for facet in fields:
        if facet.kind == "range":
            result.append(facet)
            continue
        others = {name: value for name, value in condition.items() if name != facet.field}
        records = best if len(others) == len(condition) else _metadata_of_best(library, q, mode, others)
        counts = browse.count_values(records).get((facet.field, facet.kind), Counter())
        chosen = condition.get(facet.field, {})
        wanted = chosen.get("$any" if facet.kind == "list" else "$in", []) if isinstance(chosen, dict) else [chosen]
        result.append(Facet(facet.field, facet.kind, browse.most_frequent(counts, wanted), None, None))
    return Facets(result, len(best), "best")


def explain(library: Library, q: Annotated[str, "the question"], id: Id, mode: ModeName = "") -> Explained:
    """Why a document has its score: what each term, and in a hybrid each index, adds to it."""
    asked = mode or library.modes[0]
    explanation = library.db.explain(q, id, mode=asked)
    passage = explanation.passage
    hit = Hit(id, explanation.score, passage.text, {}, 0, len(passage.text), {})
    terms = [
        ExplainedTerm(
            match.term,
            match.query_weight,
            match.document_weight,
            match.contribution,
            match.query_expansion,
            match.document_expansion,
            [] if match.document_expansion else _marks(library.db, hit._replace(query={match.term_id: 1.0})),
        )
        for match in explanation.terms
    ]
    parts = [
        ExplainedPart(part.part, part.score if math.isfinite(part.score) else None, part.contribution, dict(part.words))
        for part in explanation.parts
    ]
    marked = _marks(library.db, hit._replace(query={match.term_id: match.contribution for match in explanation.terms}))
    found = FoundPassage(passage.text, passage.start, passage.end, marked)
    return Explained(explanation.id, explanation.score, asked, found, terms, parts, explanation.note)


def expand(
    library: Library,
    text: Annotated[str, "any text"],
    side: Annotated[str, "document: as the index sees it; query: as a search does"] = "document",
) -> Expanded:
    """The weighted terms of a text; expansions are those that the model added."""
    start = time.perf_counter()
    terms = library.db.expand(text, side=side) if text.strip() else []
    took = 1000 * (time.perf_counter() - start)
    return Expanded(text, side, [WeightedTerm(t.term, t.weight, t.expansion) for t in terms], took)


# --- documents and terms ---------------------------------------------------------------------------------------------


def document(library: Library, id: Id) -> OneDocument:
    """A document: its text, metadata, passages and strongest terms."""
    found = library.db.get(id)
    if found is None:
        raise DocumentNotFound(f"no document has the id {id!r}")
    literal = {term.term for term in library.db.expand(found.text) if not term.expansion}
    terms = browse.strongest_terms(library.db, id, STRONGEST)
    return OneDocument(
        found.id,
        found.text,
        found.metadata,
        [Span(*span) for span in browse.passages(library.db, id)],
        [WeightedTerm(term, weight, term not in literal) for term, weight in terms],
    )


def similar(library: Library, id: Id, k: K = 5) -> Found:
    """More like this: documents whose vectors are most like this one's."""
    _check_count(k)
    start = time.perf_counter()
    hits = library.db.more_like(id, k)
    took = 1000 * (time.perf_counter() - start)
    return Found("", "similar", [_found(library.db, hit, marked=False) for hit in hits], took, False)


def term(library: Library, term: Annotated[str, "a term, as the vocabulary writes it"], k: K = 10) -> TermDocuments:
    """The documents in which a term weighs most."""
    _check_count(k)
    passages, hits = browse.documents_of_term(library.db, term, k)
    return TermDocuments(term, passages, [_found(library.db, hit) for hit in hits])


def terms(
    library: Library,
    k: K = 100,
    offset: Annotated[int, "how many to leave out at the beginning"] = 0,
    contains: Annotated[str, "only terms that contain this"] = "",
) -> TermCounts:
    """The terms of the collection, most frequent first."""
    if not (0 < k <= 10_000 and offset >= 0):
        raise InvalidInput(f"k is {k} and offset {offset}; give 1 to 10000, and 0 or more")
    counts = library.browser.terms()
    wanted = [TermCount(term, count) for term, count in counts.items() if contains.lower() in term]
    return TermCounts(wanted[offset : offset + k], len(counts))


# --- the collection --------------------------------------------------------------------------------------------------


def collection(library: Library) -> Collection:
    """The database as a whole: figures, what its parts take, its model."""
    figures = library.db.stats()
    return Collection(
        library.name,
        library.writable,
        library.writable and hasattr(library.db, "feedback"),
        list(library.modes),
        asdict(figures),
        browse.segments(library.db),
        _model_card(figures.model),
    )


def check(library: Library) -> Health:
    """Verify every checksum, and compare the index with the stored vectors. Takes seconds in a large database."""
    start = time.perf_counter()
    found = library.db.check()
    took = 1000 * (time.perf_counter() - start)
    return Health([Problem(f.table, f.row, f.problem) for f in found], took)


# --- inside ----------------------------------------------------------------------------------------------------------


def _found(db: SpladeLite, hit: Hit, marked: bool = True) -> FoundDocument:
    passage = FoundPassage(hit.passage.text, hit.start, hit.end, _marks(db, hit) if marked and hit.query else [])
    return FoundDocument(hit.id, float(hit.score), hit.metadata, passage)


def _marks(db: SpladeLite, hit: Hit) -> list[Span]:
    """What ``highlight`` marks, as spans: it writes two characters that the text itself does not have."""
    text = hit.passage.text
    free = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)  # for private use
    before, after = next(free), next(free)
    spans, position = [], 0
    for piece in db.highlight(hit, before, after).split(before):
        marked, closed, rest = piece.rpartition(after)
        if closed:
            spans.append(Span(position, position + len(marked)))
        position += len(marked) + len(rest)
    return spans


def _metadata_of_best(library: Library, q: str, mode: str, where: dict[str, Any]) -> list[dict[str, Any]]:
    hits = library.db.search(
        q, COUNTED, where=where or None, mode=mode or library.modes[0], timeout=PATIENCE, text=False
    )
    return [hit.metadata for hit in hits]


def _condition(where: str) -> dict[str, Any] | None:
    if not where.strip():
        return None
    try:
        condition = json.loads(where)
    except (ValueError, RecursionError) as error:
        raise InvalidFilter(f"where is not JSON: {error}") from None
    if not isinstance(condition, dict):
        raise InvalidFilter(f"where is {where[:60]}; expected a JSON object")
    return condition


def _check_count(k: int, offset: int = 0) -> None:
    if not (0 < k <= MOST and 0 <= offset <= 10_000):
        raise InvalidInput(f"k is {k} and offset {offset}; give 1 to {MOST}, and 0 to 10000")


def _model_card(model: str) -> str:
    """The card of the bundled model or of an installed one; empty for another."""
    folder = installed_models().get(model, BUNDLED.parent)
    card = (folder / "MODEL_CARD.md").read_text("utf-8")
    return card if card.startswith(f"# {model}") else ""


READING = (
    *(
        Endpoint(method, f"/api/{answer.__name__}", answer)
        for answer in (search, facets, explain, expand)
        for method in ("GET", "POST")  # POST for texts that are too long for an address
    ),
    Endpoint("GET", "/api/document", document),
    Endpoint("GET", "/api/similar", similar),
    Endpoint("GET", "/api/term", term),
    Endpoint("GET", "/api/terms", terms),
    Endpoint("GET", "/api/collection", collection),
    Endpoint("GET", "/api/check", check),
)
