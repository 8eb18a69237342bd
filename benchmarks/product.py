"""What users of a database wait for besides single searches: many queries, filters, adding, opening; and its size.

    python benchmarks/product.py --work FOLDER

``FOLDER`` is that of ``engine.py``, which prepares the vectors. Prints one line a figure; times in milliseconds, p50.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
from engines import Data, peak_megabytes

from spladelite import SpladeLite

FIRST = """
import sys, time
from spladelite import SpladeLite
started = time.perf_counter()
SpladeLite(sys.argv[1], read_only=True).search({int(t): float(w) for t, w in (p.split(":") for p in sys.argv[2:])})
print(1000 * (time.perf_counter() - started))
"""


def milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def show(name: str, figure: float, target: str) -> None:
    print(f"{name:58} {figure:10.2f}   {target}", flush=True)


def build(data: Data, path: Path, bm25: bool) -> None:
    rows, texts = data.rows("documents"), data.texts()
    metadata = [{"n": i * 7919 % 100} for i in range(len(texts))]
    ids = [str(i) for i in range(len(texts))]
    before = peak_megabytes()
    with SpladeLite(path, bm25=bm25) as db:
        seconds = milliseconds(lambda: db.add(texts, ids=ids, vectors=rows, metadata=metadata, progress=False)) / 1000  # type: ignore[arg-type]
        show(f"bulk indexing, passages a second, bm25={bm25}", len(texts) / seconds, ">= 15000")
        show("  peak memory above the data, MB", peak_megabytes() - before, "")
        db.create_metadata_index("n")


def sizes(path: Path, scratch: Path) -> None:
    with SpladeLite(path, read_only=True) as db:
        db.export(scratch / "slim.db", slim=True)
    for name, file, target in (("file", path, "<= 6"), ("slim export", scratch / "slim.db", "<= 3")):
        with SpladeLite(file, read_only=True) as db:
            stats = db.stats()
        stored = stats.sizes["postings"] + stats.sizes["vectors"]
        show(f"{name}: bytes of postings and vectors a posting", stored / stats.postings, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    data = Data(parser.parse_args().work / "100000")
    queries = [dict(zip(terms.tolist(), weights.tolist(), strict=True)) for terms, weights in data.rows("queries")]
    with TemporaryDirectory(dir=data.folder) as folder:
        scratch = Path(folder)
        path = scratch / "kb.db"
        build(data, scratch / "without.db", False)
        build(data, path, True)
        sizes(scratch / "without.db", scratch)
        one = [f"{term}:{weight}" for term, weight in queries[5].items()]
        first = [
            float(subprocess.run([sys.executable, "-c", FIRST, path, *one], check=True, capture_output=True).stdout)
            for _ in range(7)
        ]
        show("open to first result, after import", statistics.median(first), "<= 50")
        searches(path, queries)
        adding(path, data, queries)


def searches(path: Path, queries: list[dict[int, float]]) -> None:
    with SpladeLite(path, read_only=True) as db:
        timed = queries[:500]
        for query in timed:
            db.search(query)
        plain = statistics.median(milliseconds(lambda q=query: db.search(q)) for query in timed)  # type: ignore[misc]
        show("search, k = 10", plain, "")
        for share in (1, 10, 50):
            where = {"n": {"$lt": share}}
            firsts = []
            for i in range(7):  # other filters that keep the same
                other = {"n": {"$lt": share - 0.1 - i / 100}}
                firsts.append(milliseconds(lambda w=other: db.search(timed[0], where=w)))  # type: ignore[misc]
            more = statistics.median(firsts) - plain
            show(f"a filter keeping {share} %, first use: added to a search", more, "<= 3")
            repeated = statistics.median(
                milliseconds(lambda q=query, w=where: db.search(q, where=w))  # type: ignore[misc]
                for query in timed
            )
            show("  again: times the unfiltered search", repeated / plain, "<= 2")
        many = (queries * 3)[:3000]
        every = os.sched_getaffinity(0)
        best: dict[int, float] = {}
        for cores in (every, {max(every)}) * 3:
            os.sched_setaffinity(0, cores)
            taken = milliseconds(lambda: db.search_many(many))
            best[len(cores)] = min(taken, best.get(len(cores), taken))
        os.sched_setaffinity(0, every)
        show("search_many, ms a query, one core", best[1] / len(many), "")
        show(f"  times faster on {len(every)} cores", best[1] / best[len(every)], ">= 1.7 on two")


def adding(path: Path, data: Data, queries: list[dict[int, float]]) -> None:
    texts = data.texts()
    vectors = [
        dict(zip(terms.tolist(), weights.tolist(), strict=True)) for terms, weights in data.rows("documents")[:200]
    ]
    bare = apsw.Connection(str(path.parent / "bare.db"))
    for sql in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE row (number, text)"):
        bare.execute(sql)
    commits, adds, searched = [], [], []
    with SpladeLite(path) as db:
        for i in range(200):
            commits.append(milliseconds(lambda i=i: bare.execute("INSERT INTO row VALUES (?, ?)", (i, texts[i]))))  # type: ignore[misc]
            adds.append(
                milliseconds(
                    lambda i=i: db.add(texts[i] + " again", vectors=[vectors[i]], progress=False)  # type: ignore[misc]
                )
            )
            searched.append(milliseconds(lambda i=i: db.search(queries[i])))  # type: ignore[misc]
    show("bare commit of one row", statistics.median(commits), "")
    show("one-document add, durable", statistics.median(adds), "<= 2 x the bare commit")
    show("  ratio of the medians", statistics.median(adds) / statistics.median(commits), "<= 2")
    show("search right after an add", statistics.median(searched), "")


if __name__ == "__main__":
    main()
