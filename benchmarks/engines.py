"""The engines that ``benchmarks/engine.py`` compares, each behind the same four functions, and the process that runs
one of them: ``python engines.py build|search NAME FOLDER``, one line of JSON as the answer.

``FOLDER`` holds what ``engine.py`` prepared: ``documents.npz``, ``queries.npz`` (CSR vectors), ``texts.json`` and
``query_texts.json``. Every engine keeps its index under ``FOLDER/NAME``. Building and searching are two processes, so
that the peak memory of searching is not that of building.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = tuple[NDArray[np.int32], NDArray[np.float32]]
Search = Callable[[int, int], Sequence[int]]  # (number of the query, k) -> passage numbers, best first

VOCABULARY = 30_522


class Data:
    """The prepared vectors and texts, each loaded when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, name: str) -> list[Row]:
        indptr, terms, weights = self.csr(name)
        return [(terms[a:b], weights[a:b]) for a, b in zip(indptr.tolist(), indptr[1:].tolist(), strict=False)]

    def csr(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        with np.load(self.folder / f"{name}.npz") as arrays:
            return arrays["indptr"], arrays["terms"], arrays["weights"]

    def texts(self, name: str = "texts") -> list[str]:
        texts: list[str] = json.loads((self.folder / f"{name}.json").read_text())
        return texts


class SpladeLiteEngine:
    """This project, through its public API, from the file."""

    def build(self, data: Data, folder: Path) -> None:
        from spladelite import SpladeLite

        rows = data.rows("documents")
        with SpladeLite(folder / "kb.db") as db:
            texts = data.texts()
            db.add(texts, ids=[str(i) for i in range(len(texts))], vectors=rows, progress=False)  # type: ignore[arg-type]

    def open(self, data: Data, folder: Path) -> Search:
        from spladelite import SpladeLite

        db = SpladeLite(folder / "kb.db", read_only=True)
        queries = [dict(zip(terms.tolist(), weights.tolist(), strict=True)) for terms, weights in data.rows("queries")]
        return lambda i, k: [int(hit.id) for hit in db.search(queries[i], k)]


class SpladeIndex:
    """splade-index, numba backend, all in memory. Its encoder is replaced by the given vectors."""

    def build(self, data: Data, folder: Path) -> None:
        indptr, terms, weights = data.csr("documents")
        order = np.argsort(terms, kind="stable")
        documents = np.repeat(np.arange(len(indptr) - 1, dtype=np.int32), np.diff(indptr))[order]
        starts = np.searchsorted(terms[order], np.arange(VOCABULARY + 1)).astype(np.int32)
        np.savez(folder / "csc.npz", data=weights[order], indices=documents, indptr=starts)

    def open(self, data: Data, folder: Path) -> Search:
        from splade_index import SPLADE

        class Values:
            def __init__(self, values: Any) -> None:
                self.values_ = values

            def numpy(self) -> Any:
                return self.values_

        class Embedding:
            def __init__(self, row: Row) -> None:
                self.row = row

            def coalesce(self) -> Embedding:
                return self

            def indices(self) -> list[Values]:
                return [Values(self.row[0])]

            def values(self) -> Values:
                return Values(self.row[1])

        class Model:
            def encode_query(self, queries: list[int], **_: Any) -> list[Embedding]:
                return [embeddings[i] for i in queries]

        embeddings = [Embedding(row) for row in data.rows("queries")]
        index = SPLADE(backend="numba")
        with np.load(folder / "csc.npz") as arrays:
            index.scores = dict(arrays)
        index.scores["num_docs"] = self.count(data)
        index.document_ids = np.arange(index.scores["num_docs"])
        index.corpus = index.document_ids
        index.model = Model()
        index.retrieve([0], k=1, return_as="doc_ids", show_progress=False)  # compiles
        return lambda i, k: index.retrieve([i], k=k, return_as="doc_ids", show_progress=False)[0].tolist()

    def count(self, data: Data) -> int:
        return len(data.csr("documents")[0]) - 1


class QdrantEdge:
    """Qdrant Edge: Rust, inverted index, exact."""

    def config(self) -> Any:
        from qdrant_edge import EdgeConfig, EdgeOptimizersConfig, EdgeSparseVectorParams

        return EdgeConfig(
            sparse_vectors={"splade": EdgeSparseVectorParams()},
            optimizers=EdgeOptimizersConfig(default_segment_number=1),
            max_search_threads=1,
        )

    def build(self, data: Data, folder: Path) -> None:
        from qdrant_edge import EdgeShard, Point, SparseVector, UpdateOperation

        shard = EdgeShard.create(str(folder), self.config())
        rows = data.rows("documents")
        for start in range(0, len(rows), 1000):
            points = [
                Point(i, {"splade": SparseVector(rows[i][0].tolist(), rows[i][1].tolist())})
                for i in range(start, min(start + 1000, len(rows)))
            ]
            shard.update(UpdateOperation.upsert_points(points))
        shard.optimize()
        shard.flush()
        shard.close()

    def open(self, data: Data, folder: Path) -> Search:
        from qdrant_edge import EdgeShard, Query, SearchRequest, SparseVector

        shard = EdgeShard.load(str(folder))
        queries = [SparseVector(terms.tolist(), weights.tolist()) for terms, weights in data.rows("queries")]

        def search(i: int, k: int) -> list[int]:
            request = SearchRequest(Query.Nearest(queries[i], using="splade"), limit=k)
            return [int(point.id) for point in shard.search(request)]

        return search


class Seismic:
    """Seismic, approximate; its defaults at building, and a search setting that reaches 95 % recall."""

    def build(self, data: Data, folder: Path) -> None:
        from seismic import SeismicDataset, SeismicIndex, get_seismic_string

        dataset = SeismicDataset()
        names = np.array([str(term) for term in range(VOCABULARY)], dtype=get_seismic_string())
        for i, (terms, weights) in enumerate(data.rows("documents")):
            dataset.add_document(str(i), names[terms], weights)
        SeismicIndex.build_from_dataset(dataset).save(str(folder / "index"))

    def open(self, data: Data, folder: Path) -> Search:
        from seismic import SeismicIndex, get_seismic_string

        index = SeismicIndex.load(str(folder / "index.index.seismic"))
        names = np.array([str(term) for term in range(VOCABULARY)], dtype=get_seismic_string())
        queries = [(names[terms], weights) for terms, weights in data.rows("queries")]

        def search(i: int, k: int) -> list[int]:
            found = index.search(
                "q", query_components=queries[i][0], query_values=queries[i][1], k=k, query_cut=10, heap_factor=0.8
            )
            return [int(name) for _, _, name in found]

        return search


class BlockMaxPruning:
    """BMP, alpha = 1: exact but for its own 8-bit weights."""

    def build(self, data: Data, folder: Path) -> None:
        from bmp import Indexer

        rows = data.rows("documents")
        step = max(float(weights.max(initial=0)) for _, weights in rows) / 255
        names = [str(term) for term in range(VOCABULARY)]
        indexer = Indexer(str(folder / "index"), bsize=8, compress_range=False)
        for i, (terms, weights) in enumerate(rows):
            impacts = np.maximum(np.rint(weights / step), 1).astype(int).tolist()
            indexer.add_document(str(i), {names[term]: w for term, w in zip(terms.tolist(), impacts, strict=True)})
        indexer.finish()

    def open(self, data: Data, folder: Path) -> Search:
        from bmp import Searcher

        searcher = Searcher(str(folder / "index"))
        queries = [
            {str(term): weight for term, weight in zip(terms.tolist(), weights.tolist(), strict=True)}
            for terms, weights in data.rows("queries")
        ]
        return lambda i, k: [int(name) for name in searcher.search(queries[i], k=k, alpha=1.0, beta=1.0)[0]]


class SqlRows:
    """One row a posting in plain SQLite: the definition of the right answer."""

    slow = True

    def build(self, data: Data, folder: Path) -> None:
        indptr, terms, weights = data.csr("documents")
        documents = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        order = np.argsort(terms, kind="stable")
        with sqlite3.connect(folder / "rows.db") as connection:
            connection.execute(
                "CREATE TABLE posting (term INTEGER, doc INTEGER, weight REAL, PRIMARY KEY (term, doc)) WITHOUT ROWID"
            )
            connection.executemany(
                "INSERT INTO posting VALUES (?, ?, ?)",
                zip(terms[order].tolist(), documents[order].tolist(), weights[order].tolist(), strict=True),
            )
        connection.close()

    def open(self, data: Data, folder: Path) -> Search:
        connection = sqlite3.connect(folder / "rows.db")
        queries = [
            json.dumps(list(zip(terms.tolist(), weights.tolist(), strict=True)))
            for terms, weights in data.rows("queries")
        ]
        sql = (
            "SELECT p.doc FROM json_each(?) q CROSS JOIN posting p ON p.term = q.value ->> 0"
            " GROUP BY p.doc ORDER BY sum(p.weight * (q.value ->> 1)) DESC LIMIT ?"
        )
        return lambda i, k: [row[0] for row in connection.execute(sql, (queries[i], k))]


class Fts5:
    """SQLite's own BM25 over the texts: another ranking, so no recall; the words of the query joined by OR."""

    lexical = True
    slow = True

    def build(self, data: Data, folder: Path) -> None:
        with sqlite3.connect(folder / "fts.db") as connection:
            connection.execute("CREATE VIRTUAL TABLE fts USING fts5(text, tokenize = 'porter')")
            connection.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", enumerate(data.texts()))
            connection.execute("INSERT INTO fts (fts) VALUES ('optimize')")
        connection.close()

    def open(self, data: Data, folder: Path) -> Search:
        connection = sqlite3.connect(folder / "fts.db")
        queries = [
            " OR ".join(f'"{word}"' for word in "".join(c if c.isalnum() else " " for c in text).split())
            for text in data.texts("query_texts")
        ]
        sql = "SELECT rowid FROM fts WHERE fts MATCH ? ORDER BY rank LIMIT ?"
        return lambda i, k: [row[0] for row in connection.execute(sql, (queries[i], k))]


class Bm25s:
    """bm25s, numba backend, in memory: BM25, so no recall."""

    lexical = True

    def build(self, data: Data, folder: Path) -> None:
        import bm25s

        index = bm25s.BM25(backend="numba")
        index.index(bm25s.tokenize(data.texts(), show_progress=False), show_progress=False)
        index.save(str(folder / "index"))

    def open(self, data: Data, folder: Path) -> Search:
        import bm25s

        index = bm25s.BM25.load(str(folder / "index"), backend="numba")
        queries = [bm25s.tokenize([text], return_ids=False, show_progress=False) for text in data.texts("query_texts")]
        return lambda i, k: index.retrieve(queries[i], k=k, show_progress=False, n_threads=1).documents[0].tolist()


ENGINES: dict[str, Any] = {
    "spladelite": SpladeLiteEngine(),
    "splade-index": SpladeIndex(),
    "qdrant-edge": QdrantEdge(),
    "seismic": Seismic(),
    "bmp": BlockMaxPruning(),
    "bm25s": Bm25s(),
    "fts5": Fts5(),
    "sql-rows": SqlRows(),
}


def peak_megabytes() -> float:
    """Peak resident memory of this process. (``ru_maxrss`` would also count what the parent had before exec.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def build(name: str, data: Data) -> dict[str, Any]:
    folder = data.folder / name
    folder.mkdir()
    started = time.perf_counter()
    ENGINES[name].build(data, folder)
    seconds = time.perf_counter() - started
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"build_s": seconds, "build_peak_mb": peak_megabytes(), "size_mb": size / 2**20}


def search(name: str, data: Data, counts: Sequence[int], timed: int) -> dict[str, Any]:
    """p50 and p99 in ms for each k, after a first pass that finds caches empty; hits go to ``FOLDER/NAME.K.json``."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    run = ENGINES[name].open(data, data.folder / name)
    if getattr(ENGINES[name], "slow", False):
        timed = min(timed, 50)
    result: dict[str, Any] = {"first_pass": time_all(run, counts[0], timed)[0]}
    for k in counts:
        result[f"p50_{k}"], result[f"p99_{k}"], found = time_all(run, k, timed)
        (data.folder / f"{name}.{k}.json").write_text(json.dumps(found))
    result["peak_mb"] = peak_megabytes()
    return result


def time_all(run: Search, k: int, timed: int) -> tuple[float, float, list[list[int]]]:
    """p50 and p99 in ms over the first ``timed`` queries, and what each found."""
    times, found = [], []
    for i in range(timed):
        started = time.perf_counter()
        numbers = run(i, k)
        times.append(1000 * (time.perf_counter() - started))
        found.append([int(number) for number in numbers])
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    return p50, p99, found


if __name__ == "__main__":
    action, engine, where = sys.argv[1:4]
    prepared = Data(Path(where))
    if action == "build":
        print(json.dumps(build(engine, prepared)))
    else:
        print(json.dumps(search(engine, prepared, json.loads(sys.argv[4]), int(sys.argv[5]))))
