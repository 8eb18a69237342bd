"""Quality of the default settings on BEIR folders, and what the file's 8-bit impacts cost against float32 weights.

python benchmarks/quality.py FOLDER... [--split test]

Each folder is indexed and searched through the public API. The reference scores the same passages with the encoder's
own float32 weights, exhaustively: with those that ``min_weight`` keeps, which shows what 8 bits cost, and with all.
nDCG@10 has linear gain, as trec_eval and BEIR have it; for graded judgments it is also given with the gain 2^grade - 1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spladelite import SpladeLite
from spladelite.arguments import Vector
from spladelite.encoders.registry import load_encoder
from spladelite.evaluation.beir import read_corpus, read_judgments, read_queries
from spladelite.evaluation.measures import LABELS, measures_for, score_run
from spladelite.evaluation.trec import Run
from spladelite.index.quantize import drop_small_weights
from spladelite.records import SparseVectors

DEPTH = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        measure(folder, arguments.split)


def measure(folder: Path, split: str) -> None:
    qrels = read_judgments(folder, split)
    queries = {query: text for query, text in read_queries(folder).items() if query in qrels}
    ids, texts = zip(*read_corpus(folder), strict=True)
    names = measures_for(qrels)
    print(f"{folder.name}: {len(ids)} documents, {len(queries)} judged queries")
    print(f"{'':14}" + "".join(f"{LABELS.get(name, name):>13}" for name in names))
    with tempfile.TemporaryDirectory() as scratch, SpladeLite(Path(scratch, "quality.db")) as db:
        start = time.perf_counter()
        db.add(texts, ids=ids, progress=False)
        indexed = time.perf_counter() - start
        start = time.perf_counter()
        runs = {
            "file": {
                query: {hit.id: hit.score for hit in db.search(text, k=DEPTH, mode="splade")}
                for query, text in queries.items()
            }
        }
        searched = time.perf_counter() - start
        runs["file, idf"] = {
            query: {hit.id: hit.score for hit in db.search(text, k=DEPTH, mode="splade", encoder="idf")}
            for query, text in queries.items()
        }
        runs |= float32_runs(db, queries)
        for name, run in runs.items():
            mean = score_run(qrels, run, names).mean
            print(f"{name:14}" + "".join(f"{mean[measure]:13.4f}" for measure in names))
    print(f"indexed in {indexed:.1f} s, one query with k = {DEPTH}: {1e3 * searched / len(queries):.2f} ms\n")


def float32_runs(db: SpladeLite, queries: dict[str, str]) -> dict[str, Run]:
    """Every passage of the file scored with unrounded weights: those that the file keeps, and all."""
    encoder = load_encoder()
    rows = db.sql(
        "SELECT d.id, substr(d.text, p.start_char + 1, p.end_char - p.start_char)"
        " FROM passage p JOIN document d ON d.doc_id = p.doc_id ORDER BY p.passage_id"
    )
    owners = np.array([row[0] for row in rows])
    documents, owner = np.unique(owners, return_inverse=True)
    vectors = encoder.encode_documents([row[1] for row in rows])
    asked = dict(zip(queries, encoder.encode_queries(list(queries.values())), strict=True))
    least = db.stats().min_weight
    return {
        f"float32 >= {least}": exhaustive(drop_small_weights(vectors, least), documents, owner, asked),
        "float32": exhaustive(vectors, documents, owner, asked),
    }


def exhaustive(
    vectors: SparseVectors, documents: NDArray[np.str_], owner: NDArray[np.intp], queries: dict[str, Vector]
) -> Run:
    """Inner products with every passage; a document counts as its best one."""
    postings = invert(vectors)
    run: Run = {}
    for query, (terms, weights) in queries.items():
        scores = np.zeros(len(vectors), np.float64)
        for term, weight in zip(terms.tolist(), weights.tolist(), strict=True):
            if term in postings:
                passages, impacts = postings[term]
                scores[passages] += weight * impacts
        best = np.zeros(len(documents))
        np.maximum.at(best, owner, scores)
        top = np.argsort(-best, kind="stable")[:DEPTH]
        run[query] = {str(documents[i]): float(best[i]) for i in top if best[i] > 0}
    return run


def invert(vectors: SparseVectors) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """``{term_id: (passages, weights)}``."""
    rows = np.repeat(np.arange(len(vectors)), np.diff(vectors.indptr))
    order = np.argsort(vectors.terms, kind="stable")
    terms, starts = np.unique(vectors.terms[order], return_index=True)
    parts = zip(np.split(rows[order], starts[1:]), np.split(vectors.weights[order], starts[1:]), strict=True)
    return dict(zip(terms.tolist(), parts, strict=True))


if __name__ == "__main__":
    main()
