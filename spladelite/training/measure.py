"""What a model is worth on validation queries: searched through a SpladeLite database, as its users will."""

from __future__ import annotations

from dataclasses import dataclass

from spladelite.encoders.base import Encoder
from spladelite.evaluation.runner import run_evaluation
from spladelite.training.data import Validation


@dataclass(frozen=True, slots=True)
class Measures:
    """Quality and cost of a model on one set of queries.

    Attributes:
        ndcg, mrr: nDCG@10 and MRR@10, means over the queries.
        recall: Recall@1000.
        flops: expected multiply-adds of a query-document pair, ``sum_j p_q(j) p_d(j)`` (Paria et al. 2020).
        query_terms, document_terms: active terms of a query and of a passage, on average.
    """

    ndcg: float
    mrr: float
    recall: float
    flops: float
    query_terms: float
    document_terms: float

    def __str__(self) -> str:
        return (
            f"nDCG@10 {self.ndcg:.4f}  MRR@10 {self.mrr:.4f}  R@1000 {self.recall:.4f}  FLOPS {self.flops:.2f}  "
            f"terms {self.query_terms:.1f} a query, {self.document_terms:.1f} a passage"
        )


def measure(encoder: Encoder, judged: Validation, system: str = "splade", *, min_weight: float = 0.0) -> Measures:
    """Index the corpus, search every query, and measure.

    Args:
        encoder: the model.
        judged: queries, corpus and judgments.
        system: "splade", or "splade-idf" for queries without the model.
        min_weight: smaller weights of documents are dropped; 0 keeps all that the model gives.
    """
    from spladelite.database import SpladeLite

    with SpladeLite(":memory:", model=encoder, min_weight=min_weight, bm25=False) as db:
        db.add(judged.corpus.values(), ids=judged.corpus.keys(), progress=False)
        evaluation = run_evaluation(db, judged.queries, judged.qrels, [system], without_own=judged.without_own)
    found = evaluation.system(system)
    assert found.flops is not None  # both are known of sparse systems
    assert found.query_terms is not None
    mean = found.scores.mean
    return Measures(
        mean["nDCG@10"], mean["RR@10"], mean["R@1000"], found.flops, found.query_terms, evaluation.document_terms
    )
