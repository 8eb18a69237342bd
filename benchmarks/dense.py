"""Dense search: our int8 blocks against sqlite-vec, from a file, with synthetic vectors, one thread.

python benchmarks/dense.py [--vectors 100000] [--dimension 384]        (pip install sqlite-vec for the comparison)
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is loaded

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import numpy as np

from spladelite import SpladeLite
from spladelite.index import dense_blocks as dense

QUERIES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    arguments = parser.parse_args()
    count, dimension = arguments.vectors, arguments.dimension
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, dimension), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = rng.standard_normal((QUERIES, dimension), np.float32)
    print(f"{count:,} vectors of {dimension} dimensions, k = 10: median ms of a query (wall, processor), build s, MB")
    with tempfile.TemporaryDirectory() as folder:
        blocks(Path(folder), vectors, queries)
        try:
            import sqlite_vec  # type: ignore[import-not-found]
        except ImportError:
            print("sqlite-vec is not installed")
            return
        for kind in ("int8", "float"):
            extension(Path(folder), vectors, queries, kind, sqlite_vec.loadable_path())


def blocks(folder: Path, vectors: np.ndarray, queries: np.ndarray) -> None:
    path = folder / "blocks.db"
    ids = np.arange(1, len(vectors) + 1)
    with SpladeLite(path, dense=lambda texts: np.zeros((len(texts), vectors.shape[1])), bm25=False) as db:
        start = time.perf_counter()
        with db._session.connections.write() as connection:
            dense.insert(connection, dense.quantize(ids, ids, vectors))
        built = time.perf_counter() - start
        verified: set[int] = set()
        with db._session.connections.read() as connection:
            dense.search(connection, queries[0], 10, None, verified)  # the first one verifies every checksum
            size = db.stats().sizes["dense"]
            report("spladelite, int8", built, size, queries, lambda q: dense.search(connection, q, 10, None, verified))


def extension(folder: Path, vectors: np.ndarray, queries: np.ndarray, kind: str, library: str) -> None:
    path = folder / f"{kind}.db"
    connection = apsw.Connection(str(path))
    connection.enable_load_extension(True)
    connection.load_extension(library)
    connection.execute(f"CREATE VIRTUAL TABLE v USING vec0(e {kind}[{vectors.shape[1]}])")
    wrap = "vec_int8(?)" if kind == "int8" else "?"

    def blob(vector: np.ndarray) -> bytes:
        return (
            np.rint(vector / np.abs(vector).max() * 127).astype(np.int8).tobytes()
            if kind == "int8"
            else vector.tobytes()
        )

    start = time.perf_counter()
    with connection:
        connection.executemany(
            f"INSERT INTO v (rowid, e) VALUES (?, {wrap})", ((i, blob(v)) for i, v in enumerate(vectors))
        )
    built = time.perf_counter() - start
    sql = f"SELECT rowid, distance FROM v WHERE e MATCH {wrap} AND k = 10"
    size = path.stat().st_size
    report(f"sqlite-vec, {kind}", built, size, queries, lambda q: connection.execute(sql, (blob(q),)).fetchall())
    connection.close()


def report(name: str, built: float, size: int, queries: np.ndarray, search: Callable[[np.ndarray], object]) -> None:
    wall, processor = [], []
    for query in queries:
        start, spent = time.perf_counter(), time.thread_time()
        search(query)
        wall.append(time.perf_counter() - start)
        processor.append(time.thread_time() - spent)
    print(
        f"{name:18} {1e3 * np.median(wall):8.1f} {1e3 * np.median(processor):8.1f} {built:8.1f} {size / 1e6:8.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
