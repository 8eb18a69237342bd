"""Measure retrieval quality on BEIR folders and on your own judgments; needs the ``eval`` extra."""

from spladelite.evaluation.beir import read_corpus, read_judgments, read_queries
from spladelite.evaluation.measures import MEASURES, Scores, paired_test, score_run
from spladelite.evaluation.runner import SYSTEMS, Difference, Evaluation, System, compare, run_evaluation
from spladelite.evaluation.trec import Qrels, Run, read_qrels, read_run, read_topics, write_qrels, write_run

__all__ = [
    "MEASURES",
    "SYSTEMS",
    "Difference",
    "Evaluation",
    "Qrels",
    "Run",
    "Scores",
    "System",
    "compare",
    "paired_test",
    "read_corpus",
    "read_judgments",
    "read_qrels",
    "read_queries",
    "read_run",
    "read_topics",
    "run_evaluation",
    "score_run",
    "write_qrels",
    "write_run",
]
