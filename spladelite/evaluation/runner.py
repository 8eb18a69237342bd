"""Run the retrieval systems of one database over judged queries, side by side, through the public API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spladelite.errors import InvalidInput
from spladelite.evaluation.measures import MEASURES, Scores, expected_flops, measures_for, paired_test, score_run
from spladelite.evaluation.trec import Qrels, Run
from spladelite.index import ascending

if TYPE_CHECKING:
    from spladelite.database import SpladeLite

SYSTEMS: dict[str, dict[str, Any]] = {
    "bm25": {"mode": "bm25"},
    "dense": {"mode": "dense"},
    "splade": {"mode": "splade"},
    "splade-idf": {"mode": "splade", "encoder": "idf"},
    "hybrid": {"mode": "hybrid"},
}
"""The keyword arguments of ``search`` by the system's name."""

DEPTH = 1000
_TIMED = 200  # queries whose latency is measured, at most
_PARTS = {  # what of ``stats().sizes`` each system reads
    "bm25": ("bm25",),
    "dense": ("dense",),
    "splade": ("postings", "segments"),
    "splade-idf": ("postings", "segments"),
    "hybrid": ("bm25", "dense", "postings", "segments"),
}


@dataclass(frozen=True, slots=True, eq=False)
class System:
    """One system's results.

    Attributes:
        name: one of ``SYSTEMS``.
        run: ``{query_id: {document_id: score}}``, at most 1,000 documents a query.
        scores: its measures.
        p_values: for each measure, of the paired randomisation test against the baseline; empty for the baseline.
        latency_ms: median and 99th percentile of a search with k = 10, query encoding included.
        size: bytes of the indexes that it reads.
        query_terms: active terms a query, on average; None where queries are not sparse vectors over the vocabulary.
        flops: expected multiply-adds of a query-document pair; None as ``query_terms``.
    """

    name: str
    run: Run
    scores: Scores
    p_values: dict[str, float]
    latency_ms: tuple[float, float]
    size: int
    query_terms: float | None
    flops: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Everything that a report shows.

    Attributes:
        name: of the collection.
        documents, passages: in the database.
        queries: the texts of the judged queries by id.
        measures: their names, in order.
        systems: in the order they were asked for.
        baseline: the name of the system that the others are tested against.
        document_terms: active terms a passage, on average.
        notes: what is odd about the judgments, in words; each with its count.
    """

    name: str
    documents: int
    passages: int
    queries: dict[str, str]
    measures: tuple[str, ...]
    systems: tuple[System, ...]
    baseline: str
    document_terms: float
    notes: tuple[str, ...]

    def system(self, name: str) -> System:
        """The results of one system.

        Raises:
            InvalidInput: it was not run.
        """
        for system in self.systems:
            if system.name == name:
                return system
        raise InvalidInput(f"{name!r} was not run; run were {', '.join(system.name for system in self.systems)}")


def available_systems(db: SpladeLite) -> list[str]:
    """The names of the systems that a database has the indexes for."""
    return [name for name, arguments in SYSTEMS.items() if _has(db, arguments["mode"])]


def run_evaluation(
    db: SpladeLite,
    queries: Mapping[str, str],
    qrels: Qrels,
    systems: Sequence[str] | None = None,
    *,
    baseline: str | None = None,
    name: str = "",
    advance: Callable[[int], object] = lambda _: None,
) -> Evaluation:
    """Search every judged query with every system, and measure.

    Queries that are judged but not given count as queries without results, documents that are judged but not in the
    database as relevant documents that nobody can find: both as the measures define it, and both are noted. Queries
    without judgments are not run.

    Args:
        db: a database with documents.
        queries: ``{query_id: text}``.
        qrels: ``{query_id: {document_id: grade}}``, document ids being those of the database.
        systems: names out of ``SYSTEMS``; None means all that the database has the indexes for.
        baseline: which of them the others are tested against; None means the first.
        name: of the collection, for reports.
        advance: called with the number of searches that are done.

    Raises:
        InvalidInput: no judged query was given, or an unknown system, or one that the database has no index for.
    """
    chosen = _chosen(db, systems)
    baseline = baseline or chosen[0]
    if baseline not in chosen:
        raise InvalidInput(f"the baseline {baseline!r} is not among the systems that are run: {', '.join(chosen)}")
    judged = {query: queries[query] for query in qrels if query in queries}
    if not judged:
        raise InvalidInput(
            f"none of the {len(qrels)} judged queries is among the {len(queries)} queries; do the ids of the qrels "
            "and of the queries belong together?"
        )
    if not len(db):
        raise InvalidInput("the database is empty; add the documents that the judgments are about first")
    measures = measures_for(qrels)
    probability = _document_probability(db)
    stats = db.stats()
    searched = {system: _search_all(db, system, judged, advance) for system in chosen}
    scores = {system: score_run(qrels, run, measures) for system, (run, _) in searched.items()}
    results: list[System] = []
    for system, (run, terms) in searched.items():
        pairs = {m: (scores[system].per_query[m], scores[baseline].per_query[m]) for m in measures}
        sparse = SYSTEMS[system]["mode"] == "splade"
        results.append(
            System(
                name=system,
                run=run,
                scores=scores[system],
                p_values={} if system == baseline else {m: paired_test(*pair) for m, pair in pairs.items()},
                latency_ms=_latency(db, system, list(judged.values())),
                size=sum(stats.sizes.get(part, 0) for part in _PARTS[system]),
                query_terms=float(np.mean([len(query) for query in terms])) if sparse else None,
                flops=expected_flops(_query_probability(terms, len(probability)), probability) if sparse else None,
            )
        )
    return Evaluation(
        name=name,
        documents=stats.documents,
        passages=stats.passages,
        queries=judged,
        measures=measures,
        systems=tuple(results),
        baseline=baseline,
        document_terms=float(probability.sum()),
        notes=tuple(_notes(db, queries, qrels)),
    )


def _chosen(db: SpladeLite, systems: Sequence[str] | None) -> list[str]:
    chosen = list(systems or available_systems(db))
    for system in chosen:
        if system not in SYSTEMS:
            raise InvalidInput(f"unknown system {system!r}; expected some of {', '.join(SYSTEMS)}")
    if len(set(chosen)) < len(chosen):
        raise InvalidInput(f"a system is named twice in {', '.join(chosen)}; name each once")
    return chosen


@dataclass(frozen=True, slots=True)
class Difference:
    """One query on which two systems differ.

    Attributes:
        query_id, text: the query.
        first, second: the two systems' nDCG@10.
        document_id: the relevant document by whose rank the better system gains most; None if the database has none.
        first_rank, second_rank: its rank, from 1; None where it is not among the results.
        explanations: why it has its score, for each system that is able to tell, in words.
    """

    query_id: str
    text: str
    first: float
    second: float
    document_id: str | None
    first_rank: int | None
    second_rank: int | None
    explanations: tuple[str, ...]


def compare(
    db: SpladeLite, evaluation: Evaluation, qrels: Qrels, first: str, second: str, show: int = 5
) -> list[Difference]:
    """The queries on which ``first`` wins most over ``second``, then those on which it loses most.

    Raises:
        InvalidInput: one of them was not run.
    """
    a, b = evaluation.system(first), evaluation.system(second)
    values, others = a.scores.per_query[MEASURES[0]], b.scores.per_query[MEASURES[0]]
    ordered = sorted(evaluation.queries, key=lambda query: others[query] - values[query])
    wins = [query for query in ordered[:show] if values[query] > others[query]]
    losses = [query for query in ordered[-show:] if values[query] < others[query]]
    return [_difference(db, evaluation, qrels, a, b, query) for query in (*wins, *losses)]


def _difference(db: SpladeLite, evaluation: Evaluation, qrels: Qrels, a: System, b: System, query: str) -> Difference:
    text = evaluation.queries[query]
    ranks = [_ranks(system.run.get(query, {})) for system in (a, b)]
    relevant = [document for document, grade in qrels[query].items() if grade > 0 and document in db]

    values = [system.scores.per_query[MEASURES[0]][query] for system in (a, b)]
    better, worse = ranks if values[0] > values[1] else reversed(ranks)

    def gain(document: str) -> float:
        return 1 / better.get(document, DEPTH + 1) - 1 / worse.get(document, DEPTH + 1)

    document = max(relevant, key=gain, default=None)
    explanations = []
    if document is not None:
        for system in (a, b):
            arguments = SYSTEMS[system.name]
            explanations.append(f"{system.name}: {db.explain(text, document, **arguments)}")
    return Difference(
        query,
        text,
        values[0],
        values[1],
        document,
        None if document is None else ranks[0].get(document),
        None if document is None else ranks[1].get(document),
        tuple(explanations),
    )


def _ranks(results: Mapping[str, float]) -> dict[str, int]:
    return {document: rank for rank, document in enumerate(results, 1)}


def _search_all(
    db: SpladeLite, system: str, queries: Mapping[str, str], advance: Callable[[int], object]
) -> tuple[Run, list[Mapping[int, float]]]:
    run: Run = {}
    terms: list[Mapping[int, float]] = []
    for query, text in queries.items():
        hits = db.search(text, k=DEPTH, **SYSTEMS[system])
        run[query] = {hit.id: hit.score for hit in hits}
        terms.append(hits[0].query if hits else {})
        advance(1)
    return run, terms


def _latency(db: SpladeLite, system: str, texts: Sequence[str]) -> tuple[float, float]:
    times = []
    for text in texts[:_TIMED]:
        start = time.perf_counter()
        db.search(text, k=10, **SYSTEMS[system])
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def _document_probability(db: SpladeLite) -> NDArray[np.float64]:
    """Share of the passages in which each term is stored, ``(V,)``."""
    stats = db.stats()
    counts = np.zeros(stats.vocabulary_size, np.float64)
    if db.sql("SELECT 1 FROM passage WHERE terms IS NULL LIMIT 1"):  # a slim export: everything is in posting lists
        for term, count in db.sql("SELECT term_id, sum(count) FROM posting GROUP BY term_id"):
            counts[term] = count
    else:
        (first, last), step = db.sql("SELECT min(passage_id), max(passage_id) FROM passage")[0], 20_000
        blocks = ascending.blocks_of(stats.vocabulary_size)
        for start in range(first, last + 1, step):
            sql = "SELECT terms, length(impacts) FROM passage WHERE passage_id BETWEEN ? AND ?"
            rows = db.sql(sql, (start, start + step - 1))
            indptr = np.cumsum([0, *(row[1] for row in rows)])
            terms = ascending.decode([row[0] for row in rows], indptr, blocks)
            counts += np.bincount(terms, minlength=len(counts))
    return counts / max(stats.passages, 1)


def _query_probability(queries: Iterable[Mapping[int, float]], vocabulary_size: int) -> NDArray[np.float64]:
    counts = np.zeros(vocabulary_size, np.float64)
    total = 0
    for query in queries:
        counts[list(query)] += 1
        total += 1
    return counts / max(total, 1)


def _has(db: SpladeLite, mode: str) -> bool:
    try:
        db.search("", mode=mode)
    except InvalidInput:
        return False
    return True


def _notes(db: SpladeLite, queries: Mapping[str, str], qrels: Qrels) -> list[str]:
    documents = {document for grades in qrels.values() for document in grades}
    unknown = sum(document not in db for document in documents)
    counted = (
        (unknown, "judged documents are not in the database: relevant ones among them lower recall and nDCG"),
        (sum(query not in queries for query in qrels), "judged queries have no text: they count as 0"),
        (sum(query not in qrels for query in queries), "queries have no judgments: they were not run"),
        (
            sum(not any(grade > 0 for grade in grades.values()) for grades in qrels.values()),
            "judged queries have no relevant document: they count as 0",
        ),
    )
    return [f"{count} {text}" for count, text in counted if count]
