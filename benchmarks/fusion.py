"""Which fusion of SPLADE and BM25 is safe: nDCG@10 of many rules on judged collections, against the better part.

    python benchmarks/fusion.py --data DATA --databases FOLDER [--queries 250]

``DATA`` holds BEIR folders. The first run indexes them under ``FOLDER`` and keeps there, for each query, the 1,000 best
documents of each part with the exact scores of both; rules then cost nothing to try. Of a collection of more than
12,000 documents 3,000 are taken, those on which the first queries are judged.

A rule is chosen on one half of the sets (``CHOOSE``) and confirmed on the other. What is wanted of a new one: a mean
0.005 above that of the present rule, and on no set more than 0.005 below the better part.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite import SpladeLite
from spladelite.evaluation import Qrels, read_corpus, read_judgments, read_queries
from spladelite.evaluation.measures import ndcg
from spladelite.index.words import analyzer
from spladelite.search.fusion import default_weights
from spladelite.search.query_weights import encode_queries, look_up_query

CHOOSE = ("scifact:train", "wikiqa:train", "wikiqa:dev", "liveqa-med:test", "xquad-en:test")
CONFIRM = ("scifact:test", "wikiqa:test", "msmarco-dl-5k:test", "medquad:test")
DEPTH = 1000
SHARES_OF_IDF = (0.1, 0.2, 0.3)
MOST, KEPT = 12_000, 3_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A query and its candidates, one an entry of each array, best by the present rule first.

    Attributes:
        words: how many BM25 looks for.
        norm: the sum of the squares of SPLADE's query weights.
        most: what a document would get from BM25 that had every word countless times.
        splade, bm25: exact scores.
        with_idf: SPLADE's, where the query's own tokens got so much of their idf in addition.
        grades: of the documents, 0 without a judgment; of all judged documents, falling.
    """

    words: int
    norm: float
    most: float
    splade: Floats
    bm25: Floats
    with_idf: dict[float, Floats]
    grades: list[int]
    ideal: list[int]


Rule = Callable[[Asked], Floats]


def index(data: Path, databases: Path, collection: str) -> SpladeLite:
    path = databases / f"{collection}.db"
    db = SpladeLite(path)
    if not len(db):
        documents = dict(read_corpus(data / collection))
        if len(documents) > MOST:
            kept: set[str] = set()
            for grades in read_judgments(data / collection).values():
                kept |= grades.keys()
                if len(kept) > KEPT:
                    break
            documents = {id: text for id, text in documents.items() if id in kept}
        db.add(list(documents.values()), ids=list(documents))
    return db


def ask(db: SpladeLite, text: str, grades: dict[str, int]) -> Asked:
    """Both parts' exact scores of the best documents of both."""
    rows = db.sql(
        "SELECT d.id, coalesce(h.splade, 0), coalesce(h.bm25, 0) FROM hybrid(?, ?) h JOIN document d USING (doc_id)",
        (text, 2 * DEPTH),
    )
    ids = [row[0] for row in rows]
    query = {entry.term_id: entry.weight for entry in db.expand(text, side="query")}
    session = db._session
    with session.index.view() as view:
        encoded = encode_queries([text], ("splade",), "idf", session.models)[0]
        idf = look_up_query(view, encoded, ("splade",)).weights
        words = analyzer("english").query(text)
        counts = view.snapshot.word_counts
        known = np.array([counts.get(word.term_id, 0) for word in words], float)
        documents = view.snapshot.documents
    with_idf = {}
    for share in SHARES_OF_IDF:
        more = query | {term: query.get(term, 0.0) + share * weight for term, weight in idf}
        found = {hit.id: hit.score for hit in db.search(more, DEPTH, text=False)} if more else {}
        with_idf[share] = np.array([found.get(id, 0.0) for id in ids])
    rarity = np.log1p((documents - known + 0.5) / (known + 0.5))
    return Asked(
        len(words),
        sum(weight * weight for weight in query.values()),
        float(2.2 * rarity[known > 0].sum()),
        np.array([row[1] for row in rows], float),
        np.array([row[2] for row in rows], float),
        with_idf,
        [grades.get(id, 0) for id in ids],
        sorted(grades.values(), reverse=True),
    )


def collect(data: Path, databases: Path, name: str, count: int) -> list[Asked]:
    kept = databases / f"{name.replace(':', '-')}-{count}.pickle"
    if kept.exists():
        asked: list[Asked] = pickle.loads(kept.read_bytes())
        return asked
    collection, _, split = name.partition(":")
    with index(data, databases, collection) as db:
        ids = set(db)
        qrels: Qrels = {
            query: {id: grade for id, grade in grades.items() if id in ids}
            for query, grades in read_judgments(data / collection, split).items()
            if any(id in ids for id in grades)
        }
        texts = read_queries(data / collection)
        chosen = np.random.default_rng(1).permutation(sorted(qrels))[:count].tolist()
        asked = [ask(db, texts[query], dict(qrels[query])) for query in chosen]
    kept.write_bytes(pickle.dumps(asked))
    return asked


def score(rule: Rule, asked: Asked) -> float:
    """nDCG@10 of a ranking by the rule."""
    scores = rule(asked)
    order = np.argsort(-scores, kind="stable")[:10]
    found = {str(i): float(10 - place) for place, i in enumerate(order.tolist()) if scores[i] > 0}
    grades = {str(i): grade for i, grade in enumerate(asked.grades) if grade}
    missing = list(asked.ideal)
    for grade in grades.values():
        missing.remove(grade)
    return ndcg(grades | {f"not found {i}": grade for i, grade in enumerate(missing)}, found, 10)


def share_of_best(scores: Floats) -> Floats:
    best = scores.max(initial=0)
    return scores / best if best > 0 else scores


def by_words(asked: Asked, equal: float, most: float = 0.5) -> float:
    """The weight of BM25 that grows with the number of words."""
    return min(asked.words / (2 * equal), most)


def present(asked: Asked) -> Floats:
    weights = default_weights(("splade", "bm25"), asked.words)
    return weights["splade"] * share_of_best(asked.splade) + weights["bm25"] * share_of_best(asked.bm25)


def convex(
    asked: Asked,
    equal: float = 7,
    most: float = 0.5,
    fixed: float | None = None,
    idf: float = 0.0,
    splade_power: float = 1.0,
    bm25_power: float = 1.0,
) -> Floats:
    weight = by_words(asked, equal, most) if fixed is None else fixed
    splade = share_of_best(asked.with_idf[idf] if idf else asked.splade) ** splade_power
    return (1 - weight) * splade + weight * share_of_best(asked.bm25) ** bm25_power


def absolute(asked: Asked) -> Floats:
    """As a share of what a document could score at most."""
    weight = by_words(asked, 7)
    return (1 - weight) * asked.splade / (asked.norm or 1) + weight * asked.bm25 / (asked.most or 1)


def raw_sum(asked: Asked, bm25: float) -> Floats:
    return asked.splade + bm25 * asked.bm25


def geometric(asked: Asked, least: float) -> Floats:
    weight = by_words(asked, 7)
    return (share_of_best(asked.splade) + least) ** (1 - weight) * (share_of_best(asked.bm25) + least) ** weight


def standard(asked: Asked, fixed: float | None) -> Floats:
    """Distribution-based: how many deviations above the mean of the part's best 100."""
    weight = by_words(asked, 7) if fixed is None else fixed

    def spread(scores: Floats) -> Floats:
        best = np.sort(scores)[-100:]
        shares: Floats = (scores - best.mean()) / (6 * best.std() + 1e-9) + 0.5
        return shares

    return np.maximum((1 - weight) * spread(asked.splade) + weight * spread(asked.bm25), 0) + 1e-9


def reciprocal(asked: Asked, fixed: float | None) -> Floats:
    weight = by_words(asked, 7) if fixed is None else fixed

    def ranks(scores: Floats) -> Floats:
        places = np.empty(len(scores))
        places[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
        return np.where(scores > 0, 1 / (60 + places), 0)

    return (1 - weight) * ranks(asked.splade) + weight * ranks(asked.bm25)


RULES: dict[str, Rule] = {
    "splade": lambda asked: asked.splade,
    "bm25": lambda asked: asked.bm25,
    "present": present,
    **{f"words / {equal}": partial(convex, equal=equal) for equal in (5, 6, 8, 9, 10, 14)},
    **{f"words / 7, at most {most}": partial(convex, most=most) for most in (0.4, 0.45, 0.55, 0.6)},
    **{f"fixed {weight}": partial(convex, fixed=weight) for weight in (0.2, 0.3, 0.4, 0.5)},
    **{f"shares of splade ^ {power}": partial(convex, splade_power=power) for power in (0.5, 0.7, 1.5, 2)},
    **{f"shares of bm25 ^ {power}": partial(convex, bm25_power=power) for power in (0.5, 0.7, 1.5, 2)},
    "shares of what is possible": absolute,
    **{f"raw splade + {weight} bm25": partial(raw_sum, bm25=weight) for weight in (0.2, 0.3, 0.4, 0.6, 0.8)},
    **{f"geometric, least {least}": partial(geometric, least=least) for least in (0.05, 0.2, 0.4)},
    **{f"distribution, {weight or 'words / 7'}": partial(standard, fixed=weight) for weight in (None, 0.2, 0.3)},
    **{f"reciprocal ranks, {weight or 'words / 7'}": partial(reciprocal, fixed=weight) for weight in (None, 0.3, 0.5)},
    **{f"splade + {idf} idf alone": partial(convex, fixed=0.0, idf=idf) for idf in SHARES_OF_IDF},
    **{
        f"splade + {idf} idf, words / {equal}": partial(convex, idf=idf, equal=equal)
        for idf in SHARES_OF_IDF
        for equal in (7, 10)
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--databases", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=250, help="of each set, at most")
    arguments = parser.parse_args()
    arguments.databases.mkdir(parents=True, exist_ok=True)
    names = (*CHOOSE, *CONFIRM)
    sets = {name: collect(arguments.data, arguments.databases, name, arguments.queries) for name in names}
    means = {
        rule: np.array([np.mean([score(RULES[rule], asked) for asked in sets[name]]) for name in names])
        for rule in RULES
    }
    better = np.maximum(means["splade"], means["bm25"])
    head = ["rule", *names, "mean", "against present", "worst"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for rule, values in means.items():
        cells: list[Any] = [f"{value:.4f}" for value in values]
        halves = (slice(None, len(CHOOSE)), slice(len(CHOOSE), None))
        gains = " / ".join(f"{(values - means['present'])[half].mean():+.4f}" for half in halves)
        worst = " / ".join(f"{(values - better)[half].min():+.4f}" for half in halves)
        print("| " + " | ".join([rule, *cells, f"{values.mean():.4f}", gains, worst]) + " |")


if __name__ == "__main__":
    main()
