"""What the page looks at besides searching: fields to filter by, terms by frequency, a term's documents, similar ones.

Each is asked through the public calls of the database and SQL over its documented tables.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from spladelite import Hit, SpladeLite, Where
from spladelite.serve.answers import Facet, FacetValue, Segment

SAMPLE = 20_000  # of the newest documents, for the fields to filter by
MANY = 12  # values that are listed; numbers with more become a range
DISTINCT = 1000  # values after which a text field is taken for a name, not for a category
KEEP = 10.0  # seconds for which what was counted may be shown although the file has changed
DEEPEST = 4  # dots in a field
BEGINNING = 1000  # characters of a document that is shown without a question


class Browser:
    """Counts over a database, remembered until it changes.

    Args:
        db: an open database; its calls may come from many threads.
    """

    def __init__(self, db: SpladeLite) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._remembered: dict[str, tuple[float, object, Any]] = {}

    def fields(self) -> list[Facet]:
        """The metadata fields that documents can be filtered by, with counts over the collection."""
        result: list[Facet] = self._remember("fields", self._count_fields)
        return result

    def terms(self) -> dict[str, int]:
        """How many passages have each term that occurs; most frequent first."""
        result: dict[str, int] = self._remember("terms", self._count_terms)
        return result

    def _remember(self, name: str, count: Any) -> Any:
        with self._lock:
            state = tuple(self._db.sql("SELECT count(*), max(doc_id) FROM document")[0])
            at, known, value = self._remembered.get(name, (0.0, None, None))
            # Metadata alone may have changed, too: nothing is remembered for ever.
            if value is None or time.monotonic() - at > (6 * KEEP if known == state else KEEP):
                value = count()
                self._remembered[name] = (time.monotonic(), state, value)
            return value

    def forget(self) -> None:
        """Count again: this program has changed the database."""
        with self._lock:
            self._remembered.clear()

    def _count_fields(self) -> list[Facet]:
        rows = self._db.sql("SELECT metadata FROM document ORDER BY doc_id DESC LIMIT ?", (SAMPLE,))
        values = count_values(_object(row[0]) for row in rows)
        return [facet for field in sorted(values) if (facet := _facet(*field, values[field])) is not None]

    def _count_terms(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for term, count in self._db.sql(
            "SELECT term, sum(count) FROM posting JOIN term USING (term_id) GROUP BY term_id"
        ):
            counts[term] += count
        for term, count in self._db.sql(
            "SELECT term, count(*) FROM document_term"
            " WHERE passage_id > (SELECT coalesce(max(last_passage_id), 0) FROM segment) GROUP BY term"
        ):
            counts[term] += count
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _object(metadata: str) -> dict[str, Any]:
    """Metadata as it is stored; a stranger's file may have something else in its place."""
    try:
        value = json.loads(metadata)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def count_values(metadata: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Counter[Any]]:
    """How many documents have each value: by the field, as ``where`` writes it, and ``values`` or ``list``."""
    counts: dict[tuple[str, str], Counter[Any]] = {}
    for record in metadata:
        for field, value in flat(record):
            if isinstance(value, list):
                elements = {_key(element) for element in value if isinstance(element, str | bool | int | float)}
                counts.setdefault((field, "list"), Counter()).update(elements)
            else:
                counts.setdefault((field, "values"), Counter())[_key(value)] += 1
    return counts


def _key(value: Any) -> Any:
    return (type(value) is bool, value)  # True == 1 for Python, not for a filter


def flat(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Fields with plain values or lists, those of nested objects too: ``author.name``, as deep as is still readable."""
    for name, value in record.items():
        if '"' in name or "\\" in name or not name.isprintable():
            continue  # a filter cannot name it
        escaped = name.replace(".", "\\.")
        meant_otherwise = name.startswith("$") or (not above and name in ("id", "text", "doc"))
        field = above + ("\\" if meant_otherwise else "") + escaped
        if isinstance(value, dict) and field.count(".") < DEEPEST:
            yield from flat(value, f"{field}.")
        elif isinstance(value, str | bool | int | float | list):
            yield field, value


def _facet(field: str, kind: str, counts: Counter[Any]) -> Facet | None:
    """None where filtering makes no sense: as good as every document has a value of its own."""
    values = [value for _, value in counts]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if kind == "values" and len(numbers) == len(values) and len(values) > MANY:
        return Facet(field, "range", [], min(numbers), max(numbers))
    recurring = len(values) <= MANY or (len(values) <= DISTINCT and len(values) * 2 <= counts.total())
    return Facet(field, kind, most_frequent(counts), None, None) if values and recurring else None


def most_frequent(counts: Counter[Any], always: Iterable[Any] = ()) -> list[FacetValue]:
    """The values that occur most, and those that are to be listed in any case."""
    listed = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:MANY]
    missing = [key for key in map(_key, always) if key not in dict(listed)]
    return [FacetValue(key[1], count) for key, count in [*listed, *((key, counts[key]) for key in missing)]]


def newest(db: SpladeLite, where: Where, k: int, offset: int) -> list[Hit]:
    """The matching documents that were stored last, with the beginning of their texts."""
    end = max(0, db.count(where) - offset)
    found = db.documents(where, offset=max(0, end - k), limit=min(k, end)) if end else []
    return [Hit(one.id, 0.0, one.text, one.metadata, 0, min(len(one.text), BEGINNING), {}) for one in reversed(found)]


def passages(db: SpladeLite, id: str) -> list[tuple[int, int]]:
    """The spans of a document's passages."""
    rows = db.sql(
        "SELECT start_char, end_char FROM passage JOIN document USING (doc_id) WHERE id = ? ORDER BY passage_id", (id,)
    )
    return [(start, end) for start, end in rows]


def strongest_terms(db: SpladeLite, id: str, count: int) -> list[tuple[str, float]]:
    """A document's stored terms, the largest weight of each over its passages."""
    strongest = sorted(db.vector(id).items(), key=lambda item: (-item[1], item[0]))[:count]
    rows = db.sql(
        "SELECT term_id, term FROM term WHERE term_id IN (SELECT value FROM json_each(?))",
        (json.dumps([term_id for term_id, _ in strongest]),),
    )
    names = dict(map(tuple, rows))
    return [(names[term_id], weight) for term_id, weight in strongest]


def documents_of_term(db: SpladeLite, term: str, k: int) -> tuple[int, list[Hit]]:
    """How many passages have a term, and the documents in which it weighs most: what a query of it alone finds."""
    known = db.sql("SELECT term_id FROM term WHERE term = ?", (term,))
    if not known:
        return 0, []
    sealed = db.sql(
        "SELECT coalesce(sum(count), 0) FROM segment JOIN posting USING (segment_id) WHERE term_id = ?", known[0]
    )
    tail = db.sql(
        "SELECT count(*) FROM term_document WHERE term = ?"
        " AND passage_id > (SELECT coalesce(max(last_passage_id), 0) FROM segment)",
        (term,),
    )
    return sealed[0][0] + tail[0][0], db.search({known[0][0]: 1.0}, k, mode="splade")


def segments(db: SpladeLite) -> list[Segment]:
    """The sealed parts of the index."""
    rows = db.sql(
        "SELECT s.segment_id, s.size, coalesce(t.deleted, 0),"
        " (SELECT coalesce(sum(count), 0) FROM posting p WHERE p.segment_id = s.segment_id"
        " AND p.term_id <= (SELECT max(term_id) FROM term))"  # beyond are words, which the model does not know
        " FROM segment s LEFT JOIN tombstone t USING (segment_id) ORDER BY s.segment_id"
    )
    return [Segment(*row) for row in rows]
