"""Effectiveness (by the ir-measures package), significance, and the cost measures of sparse retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.errors import InvalidInput, SpladeLiteError
from spladelite.records import SparseVectors

MEASURES = ("nDCG@10", "RR@10", "R@100", "R@1000")
"""In ir-measures' notation: RR@10 averaged over queries is MRR@10, R is recall."""

EXPONENTIAL = "nDCG(dcg='exp-log2')@10"
"""nDCG with the gain 2^grade - 1 (Burges et al. 2005) instead of the grade itself."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One system's measures.

    Attributes:
        mean: ``{measure: mean over all judged queries}``.
        per_query: ``{measure: {query_id: value}}``, each judged query once.
    """

    mean: dict[str, float]
    per_query: dict[str, dict[str, float]]


LABELS = {EXPONENTIAL: "nDCG@10 2^g", "RR@10": "MRR@10"}
"""How tables show a measure, where not by its name."""


def measures_for(qrels: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """``MEASURES``, and nDCG with exponential gain where a grade is above 1 and it makes a difference."""
    graded = any(grade > 1 for grades in qrels.values() for grade in grades.values())
    return (MEASURES[0], EXPONENTIAL, *MEASURES[1:]) if graded else MEASURES


def score_run(
    qrels: Mapping[str, Mapping[str, int]],
    run: Mapping[str, Mapping[str, float]],
    measures: Sequence[str] = MEASURES,
) -> Scores:
    """Measure a run against judgments.

    The judged queries are the unit: one without results counts as 0 in each mean, and results of queries without
    judgments are left out. Documents without a judgment count as not relevant. Equal scores are ordered by document
    id, descending, as trec_eval does.

    Args:
        qrels: ``{query_id: {document_id: grade}}``, at least one query.
        run: ``{query_id: {document_id: score}}``; may be empty.
        measures: names in ir-measures' notation.

    Raises:
        InvalidInput: no judged query, or an unknown measure.
        SpladeLiteError: ir-measures is not installed.
    """
    ir_measures = _ir_measures()
    if not qrels:
        raise InvalidInput("there are no judgments to measure against: the qrels are empty")
    found = {query: dict(run[query]) for query in qrels if run.get(query)}
    grades = {query: dict(qrels[query]) for query in found}
    highest = max((grade for judged in grades.values() for grade in judged.values()), default=0)
    per_query: dict[str, dict[str, float]] = {name: dict.fromkeys(qrels, 0.0) for name in measures}
    for name in measures:
        try:
            measure = ir_measures.parse_measure(name)
        except (NameError, ValueError, SyntaxError) as error:
            raise InvalidInput(f"unknown measure {name!r}: expected names like {', '.join(MEASURES)}") from error
        if name == EXPONENTIAL:  # the package computes it with a Perl program; as explicit gains it is exact and fast
            measure = ir_measures.nDCG(gains={grade: 2**grade - 1 for grade in range(highest + 1)}) @ 10
        if found:
            for metric in ir_measures.iter_calc([measure], grades, found):
                per_query[name][metric.query_id] = float(metric.value)
    mean = {name: float(np.mean(list(values.values()))) for name, values in per_query.items()}
    return Scores(mean, per_query)


def paired_test(a: Mapping[str, float], b: Mapping[str, float], permutations: int = 20_000, seed: int = 0) -> float:
    """Two-sided p-value of the paired randomisation test for a difference of means.

    Under the null hypothesis each query's two values are exchangeable, so the sign of each difference is random
    (Smucker, Allan, Carterette 2007, "A Comparison of Statistical Significance Tests for Information Retrieval
    Evaluation"). The observed arrangement is counted among the permutations, so p is never 0.

    Args:
        a: one system's value for each query.
        b: another system's, for the same queries.
        permutations: random sign assignments.
        seed: of the random generator; the same seed gives the same p.

    Raises:
        InvalidInput: the queries differ, or there are none.
    """
    if a.keys() != b.keys() or not a:
        raise InvalidInput("a paired test needs values for the same queries, at least one, from both systems")
    difference = np.array([a[query] - b[query] for query in a])
    difference = difference[difference != 0]
    observed = abs(difference.sum())
    rng = np.random.default_rng(seed)
    as_extreme = 0
    for start in range(0, permutations, 1000):  # in chunks, to bound the memory
        signs = rng.integers(0, 2, (min(1000, permutations - start), len(difference)), np.int8) * 2 - 1
        # The tolerance keeps sums that are equal but for rounding on the "as extreme" side.
        as_extreme += int(np.count_nonzero(np.abs(signs @ difference) >= observed - 1e-12))
    return (as_extreme + 1) / (permutations + 1)


def term_probabilities(vectors: SparseVectors, vocabulary_size: int) -> NDArray[np.float64]:
    """Share of the vectors in which each term is active: float64 ``(V,)``."""
    return np.bincount(vectors.terms, minlength=vocabulary_size) / max(len(vectors), 1)


def expected_flops(query_probability: NDArray[np.float64], document_probability: NDArray[np.float64]) -> float:
    """Expected multiply-adds of one query-document pair, ``sum_j p_q(j) p_d(j)`` (Formal et al. 2021, SPLADE)."""
    return float(query_probability @ document_probability)


def _ir_measures() -> Any:
    try:
        import ir_measures
    except ImportError as error:
        raise SpladeLiteError(
            "evaluation needs the ir-measures package, which is not installed: pip install 'spladelite[eval]'"
        ) from error
    return ir_measures
