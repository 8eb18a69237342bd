"""What the endpoints return: JSON objects, one dataclass each. Their types and docstrings make the OpenAPI document.

Offsets count characters (Unicode code points). JavaScript strings count UTF-16 units: the page converts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text, in characters: from ``start`` to before ``end``."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """The passage that was found in a document; ``marks`` are the words that match the query, as spans of ``text``."""

    text: str
    start: int
    end: int
    marks: list[Span]


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A hit."""

    id: str
    score: float
    metadata: dict[str, Any]
    passage: FoundPassage


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a metadata field, and how many documents have it."""

    value: Any
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """A metadata field that documents can be filtered by.

    ``field`` is as ``where`` writes it. ``kind`` is ``values`` (a few that recur; ``values`` has the most frequent),
    ``list`` (the same of fields that hold lists: ``$any``), or ``range`` (many numbers; ``minimum`` to ``maximum``).
    """

    field: str
    kind: str
    values: list[FacetValue]
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, best first. ``milliseconds`` is what the search alone took."""

    query: str
    mode: str
    hits: list[FoundDocument]
    milliseconds: float
    more: bool


@dataclass(frozen=True, slots=True)
class Facets:
    """Fields to filter by. ``counted`` documents were counted: the best of a query, or the collection (``of``)."""

    facets: list[Facet]
    counted: int
    of: str


@dataclass(frozen=True, slots=True)
class ExplainedTerm:
    """What a term adds to a score: ``contribution = query_weight · document_weight``; ``spans`` is where it stands."""

    term: str
    query_weight: float
    document_weight: float
    contribution: float
    query_expansion: bool
    document_expansion: bool
    spans: list[Span]


@dataclass(frozen=True, slots=True)
class ExplainedPart:
    """What one index (``splade``, ``bm25``, ``dense``) adds to the score of a hybrid, and BM25's words.

    ``score`` is its own; null where it has none of the document.
    """

    part: str
    score: float | None
    contribution: float
    words: dict[str, float]


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a document has its score: the sum of the terms' contributions, or with ``parts``, of theirs.

    ``note`` says what the model cannot read; empty where it reads the question and the document.
    """

    id: str
    score: float
    mode: str
    passage: FoundPassage
    terms: list[ExplainedTerm]
    parts: list[ExplainedPart]
    note: str


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    """A term of a vector; ``expansion``: the text does not contain it, the model added it."""

    term: str
    weight: float
    expansion: bool


@dataclass(frozen=True, slots=True)
class Expanded:
    """A text as the index or a search sees it, strongest term first."""

    text: str
    side: str
    terms: list[WeightedTerm]
    milliseconds: float


@dataclass(frozen=True, slots=True)
class TermCount:
    """How many passages have a term, deleted ones included until ``optimize()``."""

    term: str
    passages: int


@dataclass(frozen=True, slots=True)
class TermCounts:
    """Terms by frequency; ``terms_in_use`` of the vocabulary occur at all."""

    terms: list[TermCount]
    terms_in_use: int


@dataclass(frozen=True, slots=True)
class TermDocuments:
    """The documents in which a term weighs most; the score is its weight there."""

    term: str
    passages: int
    hits: list[FoundDocument]


@dataclass(frozen=True, slots=True)
class OneDocument:
    """A document: its text, the spans of its passages, its strongest stored terms."""

    id: str
    text: str
    metadata: dict[str, Any]
    passages: list[Span]
    terms: list[WeightedTerm]


@dataclass(frozen=True, slots=True)
class Segment:
    """A sealed part of the index: ``passages`` in it, of which ``deleted`` are gone."""

    segment: int
    passages: int
    deleted: int
    postings: int


@dataclass(frozen=True, slots=True)
class Collection:
    """The database as a whole. ``figures`` is ``stats()``; ``modes`` are the ways in which it can be searched."""

    name: str
    writable: bool
    feedback: bool
    modes: list[str]
    figures: dict[str, Any]
    segments: list[Segment]
    model_card: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that ``check()`` found wrong."""

    table: str
    row: str
    problem: str


@dataclass(frozen=True, slots=True)
class Health:
    """What ``check()`` found; ``problems`` is empty if all is well."""

    problems: list[Problem]
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Added:
    """Ids of the documents that were added, in order; ``documents`` is how many there are now."""

    ids: list[str]
    documents: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many documents were deleted."""

    deleted: int


@dataclass(frozen=True, slots=True)
class Noted:
    """The judgment was stored."""

    noted: bool
