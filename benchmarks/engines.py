"""The engines that ``benchmarks/engine.py`` compares, each behind the same two functions, and the process that runs
one of them: ``python engines.py build|search NAME FOLDER``. Building answers with one line of JSON; searching with one
for each line that it is given, ``[k, first, last]``: the times of these queries, and what they found.

``FOLDER`` holds what ``engine.py`` prepared: ``documents.npz``, ``queries.npz`` (CSR vectors), ``texts.json`` and
``query_texts.json``. Every index is a folder in it. Building and searching are two processes, so that the peak memory
of searching is not that of building.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
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
    """This project, through its public API, from the file; hits have their texts.

    Args:
        options: of ``search``.
        vectors: whether the queries are given as vectors, or as texts.
    """

    index = "spladelite"

    def __init__(self, vectors: bool = False, **options: Any) -> None:
        self.vectors = vectors
        self.options = options
        self.ranks_vectors = vectors

    def build(self, data: Data, folder: Path) -> None:
        from spladelite import SpladeLite

        rows = data.rows("documents")
        with SpladeLite(folder / "kb.db") as db:
            texts = data.texts()
            db.add(texts, ids=[str(i) for i in range(len(texts))], vectors=rows, progress=False)  # type: ignore[arg-type]

    def open(self, data: Data, folder: Path) -> Search:
        from spladelite import SpladeLite

        db = SpladeLite(folder / "kb.db", read_only=True)
        queries: list[Any] = data.texts("query_texts")
        if self.vectors:
            queries = [
                dict(zip(terms.tolist(), weights.tolist(), strict=True)) for terms, weights in data.rows("queries")
            ]
        else:
            db.expand("loads the model", side="query")
        return lambda i, k: [int(hit.id) for hit in db.search(queries[i], k, **self.options)]


class SpladeIndex:
    """splade-index, numba backend, all in memory. Its encoder is replaced by the given vectors."""

    index = "splade-index"

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

    index = "qdrant-edge"

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

    index = "seismic"

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

    index = "bmp"

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

    index = "sql-rows"

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
    """SQLite's own BM25 over the texts: the same words as SpladeLite's, without stop words, joined by OR."""

    index = "fts5"
    ranks_vectors = False

    def build(self, data: Data, folder: Path) -> None:
        with closing(apsw.Connection(str(folder / "fts.db"))) as connection, connection:
            connection.execute("CREATE VIRTUAL TABLE fts USING fts5(text, content = '', tokenize = 'porter')")
            connection.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", enumerate(data.texts()))
            connection.execute("INSERT INTO fts (fts) VALUES ('optimize')")

    def open(self, data: Data, folder: Path) -> Search:
        from spladelite.index.words import analyzer

        connection = apsw.Connection(str(folder / "fts.db"))
        texts, words = data.texts("query_texts"), analyzer("english")
        sql = "SELECT rowid FROM fts WHERE fts MATCH ? ORDER BY bm25(fts), rowid LIMIT ?"  # faster than ORDER BY rank

        def search(i: int, k: int) -> list[int]:
            query = " OR ".join(f'"{word.word}"' for word in words.query(texts[i]))
            return [row[0] for row in connection.execute(sql, (query, k))]

        return search


class Bm25s:
    """bm25s, numba backend, in memory, with Snowball's stems; from texts, or the words of the queries given."""

    index = "bm25s"
    ranks_vectors = False

    def __init__(self, words_given: bool = False) -> None:
        self.words_given = words_given

    def words(self, texts: list[str], **options: Any) -> Any:
        import bm25s
        import Stemmer

        return bm25s.tokenize(texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False, **options)

    def build(self, data: Data, folder: Path) -> None:
        import bm25s

        index = bm25s.BM25(backend="numba")
        index.index(self.words(data.texts()), show_progress=False)
        index.save(str(folder / "index"))

    def open(self, data: Data, folder: Path) -> Search:
        import bm25s

        index = bm25s.BM25.load(str(folder / "index"), backend="numba")
        texts = data.texts("query_texts")
        given = [self.words([text], return_ids=False) for text in texts] if self.words_given else None

        def search(i: int, k: int) -> list[int]:
            words = self.words([texts[i]], return_ids=False) if given is None else given[i]
            found: list[int] = index.retrieve(words, k=k, show_progress=False, n_threads=1).documents[0].tolist()
            return found

        search(len(texts) - 1, 10)  # compiles
        return search


ENGINES: dict[str, Any] = {
    "spladelite": SpladeLiteEngine(vectors=True),
    "spladelite from text": SpladeLiteEngine(mode="splade"),
    "spladelite idf": SpladeLiteEngine(mode="splade", encoder="idf"),
    "spladelite bm25": SpladeLiteEngine(mode="bm25"),
    "spladelite hybrid": SpladeLiteEngine(),
    "splade-index": SpladeIndex(),
    "qdrant-edge": QdrantEdge(),
    "seismic": Seismic(),
    "bmp": BlockMaxPruning(),
    "bm25s": Bm25s(),
    "bm25s, words given": Bm25s(words_given=True),
    "fts5": Fts5(),
    "sql-rows": SqlRows(),
}


def peak_megabytes() -> float:
    """Peak resident memory of this process. (``ru_maxrss`` would also count what the parent had before exec.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def build(name: str, data: Data) -> dict[str, Any]:
    folder = data.folder / ENGINES[name].index
    folder.mkdir()
    started = time.perf_counter()
    ENGINES[name].build(data, folder)
    seconds = time.perf_counter() - started
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"build_s": seconds, "build_peak_mb": peak_megabytes(), "size_mb": size / 2**20}


def serve(name: str, data: Data) -> None:
    """Answer a line ``[k, first, last]`` with ms by the clock, ms of processor time, passages found; memory at last."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    run = ENGINES[name].open(data, data.folder / ENGINES[name].index)
    print("ready", flush=True)
    for line in sys.stdin:
        k, first, last = json.loads(line)
        wall, processor, found = [], [], []
        for i in range(first, last):
            started, used = time.perf_counter(), time.process_time()
            numbers = run(i, k)
            processor.append(1000 * (time.process_time() - used))
            wall.append(1000 * (time.perf_counter() - started))
            found.append([int(number) for number in numbers])
        print(json.dumps([wall, processor, found]), flush=True)
    print(peak_megabytes(), flush=True)


if __name__ == "__main__":
    action, engine, where = sys.argv[1:4]
    prepared = Data(Path(where))
    if action == "build":
        print(json.dumps(build(engine, prepared)))
    else:
        serve(engine, prepared)
