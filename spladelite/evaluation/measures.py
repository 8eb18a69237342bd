"""Effectiveness, significance, and the cost measures of sparse retrieval.

nDCG is computed here and everything else by the ir-measures package: trec_eval, which that package calls, sets aside
memory for every grade up to the highest, and dies of the gain 2^63.
"""

from __future__ import annotations

import ast
import math
import re
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


_LARGEST_GRADE = 1000  # the package sets aside memory for each

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
    per_query: dict[str, dict[str, float]] = {name: dict.fromkeys(qrels, 0.0) for name in measures}
    for name in measures:
        measure = parse_measure(name)
        if measure.NAME == "nDCG" and measure.params.keys() <= {"cutoff", "dcg"}:
            exponential = measure.params.get("dcg") == "exp-log2"
            for query, results in found.items():
                per_query[name][query] = ndcg(qrels[query], results, measure.params.get("cutoff"), exponential)
        elif found:
            for metric in ir_measures.iter_calc([measure], _small_grades(qrels, found, measure), found):
                per_query[name][metric.query_id] = float(metric.value)
    mean = {name: float(np.mean(list(values.values()))) for name, values in per_query.items()}
    return Scores(mean, per_query)


_NOTATION = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*(?:@\s*(\d+))?\s*")


def parse_measure(name: str) -> Any:
    """A measure of ir-measures by its name, such as ``P(rel=2)@5``: that package's own parser fails in Python 3.14.

    Raises:
        InvalidInput: an unknown measure.
        SpladeLiteError: ir-measures is not installed.
    """
    known = _ir_measures().measures.registry
    try:
        base, arguments, cutoff = _NOTATION.fullmatch(name).groups()  # type: ignore[union-attr]
        call = ast.parse(f"f({arguments or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("arguments have names")
        values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        if cutoff is not None:
            values[known[base].AT_PARAM] = int(cutoff)
        measure = known[base](**values)
        measure.validate_params()
        return measure
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError, SyntaxError) as error:
        raise InvalidInput(f"unknown measure {name!r}: expected names like {', '.join(MEASURES)}") from error


def ndcg(
    grades: Mapping[str, int], results: Mapping[str, float], cutoff: int | None = None, exponential: bool = False
) -> float:
    """Discounted cumulative gain as a share of the best possible (Järvelin and Kekäläinen 2002); 0 without a gain.

    Args:
        grades: of one query, by document; a document without one, or with a negative one, has no gain.
        results: its scores, by document; ranked as :func:`score_run` says.
        cutoff: how many results count; None for all.
        exponential: a gain of 2^grade - 1 instead of the grade.
    """
    highest = max(grades.values(), default=0)
    if highest <= 0:
        return 0.0

    def gain(grade: int) -> float:  # as a share of the highest, which no grade can make overflow
        if grade <= 0:
            return 0.0
        if not exponential:
            return grade / highest
        return math.ldexp(1.0, max(grade - highest, -2000)) - math.ldexp(1.0, max(-highest, -2000))

    def cumulated(gains: list[float]) -> float:
        return sum(value / math.log2(rank + 1) for rank, value in enumerate(gains[:cutoff], 1))

    # trec_eval compares scores as float32.
    ranked = sorted(results, key=lambda document: (np.float32(results[document]), document), reverse=True)[:cutoff]
    ideal = sorted((gain(grade) for grade in grades.values()), reverse=True)
    return cumulated([gain(grades.get(document, 0)) for document in ranked]) / cumulated(ideal)


def _small_grades(qrels: Mapping[str, Mapping[str, int]], queries: Mapping[str, object], measure: Any) -> Any:
    """Judgments for the package: relevant or not where a measure asks no more, else as they are, if that is safe."""
    if measure.NAME in ("RR", "R", "P", "AP") and "rel" not in measure.params:
        return {query: {document: int(grade > 0) for document, grade in qrels[query].items()} for query in queries}
    highest = max((abs(grade) for query in queries for grade in qrels[query].values()), default=0)
    if highest > _LARGEST_GRADE:
        raise InvalidInput(f"a grade is {highest}; {measure} takes grades up to {_LARGEST_GRADE}")
    return {query: dict(qrels[query]) for query in queries}


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
