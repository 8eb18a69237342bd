"""BM25: quality with and without stop words, and the time of a query at scale.

python benchmarks/lexical.py [--judged FOLDER]... [--corpus FOLDER --questions FOLDER]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from spladelite import SpladeLite
from spladelite.evaluation import Run, read_corpus, read_judgments, read_queries, score_run
from spladelite.index import words as lexical

DEPTHS = (10, 100, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judged", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--corpus", type=Path, help="a large corpus, for the time")
    parser.add_argument("--questions", type=Path, action="append", default=[], help="whose queries are asked of it")
    arguments = parser.parse_args()
    for folder in arguments.judged:
        quality(folder)
    if arguments.corpus:
        latency(
            arguments.corpus, [q for folder in arguments.questions for q in islice(read_queries(folder).values(), 300)]
        )


@contextmanager
def indexed(folder: Path) -> Iterator[SpladeLite]:
    """The corpus with BM25 alone: every document gets the same sparse vector."""
    with SpladeLite(":memory:") as db:
        ids, texts = zip(*((id, text) for id, text in read_corpus(folder) if text), strict=True)
        start = time.process_time()
        db.add(texts, ids=ids, vectors=[{1000: 1.0}] * len(ids), progress=False)
        print(
            f"\n{folder.name}: {len(ids):,} documents, added in {time.process_time() - start:.1f} s of processor time"
        )
        yield db


def settings() -> Iterator[str]:
    kept = lexical.STOP_WORDS
    yield "without stop words in queries (default)"
    lexical.STOP_WORDS = frozenset()
    yield "with stop words in queries"
    lexical.STOP_WORDS = kept


def quality(folder: Path) -> None:
    qrels = read_judgments(folder)
    queries = {query: text for query, text in read_queries(folder).items() if query in qrels}
    with indexed(folder) as db:
        for setting in settings():
            run: Run = {q: {hit.id: hit.score for hit in db.search(t, 1000, mode="bm25")} for q, t in queries.items()}
            print(f"  {setting:40} " + "  ".join(f"{k} {v:.4f}" for k, v in score_run(qrels, run).mean.items()))


def latency(folder: Path, questions: list[str]) -> None:
    with indexed(folder) as db:
        for setting in settings():
            for k in DEPTHS:
                times = []
                with db._session.connections.read() as connection:
                    for question in questions:
                        start = time.thread_time()
                        lexical.search(connection, question, k)
                        times.append(1e3 * (time.thread_time() - start))
                p50, p99 = np.percentile(times, [50, 99])
                print(f"  {setting:40} k = {k:<5} p50 {p50:7.2f} ms  p99 {p99:7.2f} ms of processor time", flush=True)


if __name__ == "__main__":
    main()
