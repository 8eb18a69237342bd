"""Words in the engine: BM25 and hybrids beside SPLADE and their peers, from 10,000 to 1,000,000 passages.

    python benchmarks/words.py --data DATA --work FOLDER [--passages 10000 100000 1000000] [--parts growth hits ...]

``DATA`` and ``FOLDER`` are those of ``engine.py``, which prepares vectors, texts and indexes. The parts:

- ``growth``: 300 real questions, k = 10, first and second pass of new processes, all engines in turns (``engine.py``);
- ``weights``: the first pass on vectors with all their weights, against splade-index, at 100,000 and 1,000,000;
- ``hits``: k = 1000 with and without texts, against k = 10 and against SQLite's rows, query by query;
- ``add``: one document, against a bare commit;
- ``size``: of the file of 20,000 passages, against that of another version (``--before PYTHON``, of an environment that
  has it: format 1 had its words in a table of FTS5);
- ``indexing``: passages a second with BM25 and metadata against the encoder alone, by turns on all cores; memory.

Times are ms: by the clock, and processor time, which leaves out what other processes take.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from engine import build, measure, prepare, run_in_environment
from engines import Data
from product import adding, show

from spladelite import SpladeLite
from spladelite.file.sqlite import fetch, int_array

OURS = ("spladelite from text", "spladelite", "spladelite idf", "spladelite bm25", "spladelite hybrid")
PEERS = ("splade-index", "qdrant-edge", "bm25s", "bm25s, words given", "fts5")
QUERIES = 300
TURN = 5000

SIZE = """
import json, os, sys
from pathlib import Path
import numpy as np
from spladelite import SpladeLite
folder, path, bm25 = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1"
arrays = np.load(folder / "documents.npz")
bounds = arrays["indptr"][:20_001].tolist()
terms, weights = arrays["terms"], arrays["weights"]
rows = [(terms[a:b], weights[a:b]) for a, b in zip(bounds, bounds[1:])]
texts = json.loads((folder / "texts.json").read_text())[:20_000]
with SpladeLite(path, bm25=bm25) as db:
    db.add(texts, ids=[str(i) for i in range(len(texts))], vectors=rows, progress=False)
print(os.path.getsize(path))
"""

ADDING = """
import json, sys, time
from spladelite import SpladeLite
from spladelite.encoders.registry import load_encoder
texts = json.loads(open(sys.argv[1]).read())[: int(sys.argv[3])]
encoder = load_encoder()
encoder.encode_documents(texts[:32])
db = None if sys.argv[2] == "-" else SpladeLite(sys.argv[2])
print("ready", flush=True)
for line in sys.stdin:
    first, last = json.loads(line)
    some = texts[first:last]
    started, used = time.perf_counter(), time.process_time()
    if db is None:
        encoder.encode_documents(some)
    else:
        metadata = [{"n": i, "kind": "passage"} for i in range(first, last)]
        db.add(some, ids=[str(i) for i in range(first, last)], metadata=metadata, progress=False)
    print(json.dumps([time.perf_counter() - started, time.process_time() - used]), flush=True)
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024, flush=True)
"""


def growth(data: Path, work: Path, sizes: list[int]) -> None:
    for passages in sizes:
        folder = prepare(data, work, passages)
        results = measure(sys.executable, folder, (*OURS, *PEERS), QUERIES, (10,))
        print(f"\n{passages:,} passages, {QUERIES} questions, k = 10")
        print(table(results), flush=True)
        for name, of, by, which, target in (
            ("BM25 from text / bm25s from text", "spladelite bm25", "bm25s", "10", "<= 1.5"),
            ("BM25 from text / bm25s, words given", "spladelite bm25", "bm25s, words given", "10", ""),
            ("FTS5 / BM25", "fts5", "spladelite bm25", "10", ">= 20"),
            ("hybrid / SPLADE, from text", "spladelite hybrid", "spladelite from text", "10", "<= 1.3"),
            ("SPLADE / splade-index, vectors", "spladelite", "splade-index", "10", ""),
            ("SPLADE / splade-index, first pass", "spladelite", "splade-index", "first", "<= 1.2"),
        ):
            compare(name, results[of], results[by], which, target)


def weights(data: Path, work: Path, sizes: list[int]) -> None:
    for passages in sizes:
        folder = prepare(data, work, passages, all_weights=True)
        results = measure(sys.executable, folder, ("spladelite", "splade-index"), QUERIES, (10,))
        print(f"\n{passages:,} passages with all their weights")
        print(table(results), flush=True)
        for which, target in (("first", "<= 1.2"), ("10", "")):
            compare(f"SPLADE / splade-index, {which}", results["spladelite"], results["splade-index"], which, target)


def table(results: dict[str, dict[str, Any]]) -> str:
    head = ["", "first p50", "p99", "processor", "second p50", "p99", "processor", "peak MB", "index MB", "build s"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, r in results.items():
        times = [f"{r[f'{measured}_{which}']:.3f}" for which in ("first", "10") for measured in ("p50", "p99", "cpu50")]
        cells = [name, *times, f"{r['peak_mb']:.0f}", f"{r['size_mb']:.0f}", f"{r['build_s']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compare(name: str, of: dict[str, Any], by: dict[str, Any], which: str, target: str) -> None:
    clock, processor = (of[f"{kind}_{which}"] / by[f"{kind}_{which}"] for kind in ("p50", "cpu50"))
    print(f"{name:45} by the clock {clock:6.2f}   processor {processor:6.2f}   {target}", flush=True)


def timed(calls: dict[str, list[Callable[[], object]]]) -> dict[str, tuple[float, float, float]]:
    """p50 and p99 by the clock, p50 of processor time of several kinds of calls in turns, the second of two passes."""
    wall: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    for last in (False, True):
        for turn in zip(*calls.values(), strict=True):
            for name, call in zip(calls, turn, strict=True):
                started, used = time.perf_counter(), time.process_time()
                call()
                used, started = time.process_time() - used, time.perf_counter() - started
                if last:
                    wall.setdefault(name, []).append(1000 * started)
                    processor.setdefault(name, []).append(1000 * used)
    return {name: (*np.percentile(wall[name], [50, 99]).tolist(), float(np.median(processor[name]))) for name in calls}


def hits(data: Path, work: Path) -> None:
    folder = prepare(data, work, 100_000)
    build(sys.executable, folder, "spladelite")
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(every)})
    rows = Data(folder).rows("queries")[:QUERIES]
    queries = [dict(zip(terms.tolist(), weights.tolist(), strict=True)) for terms, weights in rows]
    with SpladeLite(folder / "spladelite" / "kb.db", read_only=True) as db:
        found = [int_array(sorted(int(hit.id) + 1 for hit in db.search(query, 1000, text=False))) for query in queries]
        rows_of = (
            "SELECT d.doc_id, d.id, d.text, d.metadata FROM carray(?) c CROSS JOIN document d ON d.doc_id = c.value"
        )
        with db._session.connections.read() as connection:
            results = timed(
                {
                    "k = 10": [lambda q=q: db.search(q, 10) for q in queries],  # type: ignore[misc]
                    "k = 1000, text=False": [lambda q=q: db.search(q, 1000, text=False) for q in queries],  # type: ignore[misc]
                    "k = 1000": [lambda q=q: db.search(q, 1000) for q in queries],  # type: ignore[misc]
                    "SQLite's rows of these 1000": [lambda f=f: fetch(connection, rows_of, (f,)) for f in found],  # type: ignore[misc]
                }
            )
    os.sched_setaffinity(0, every)
    for name, (p50, p99, processor) in results.items():
        times = f"{p50 / results['k = 10'][0]:.1f}, {processor / results['k = 10'][2]:.1f}"
        print(f"{name:30} p50 {p50:.3f}  p99 {p99:.3f}  processor {processor:.3f}  / k = 10: {times}")


def add(data: Path, work: Path) -> None:
    folder = prepare(data, work, 100_000)
    build(sys.executable, folder, "spladelite")
    prepared = Data(folder)
    queries = [dict(zip(terms.tolist(), weights.tolist(), strict=True)) for terms, weights in prepared.rows("queries")]
    with TemporaryDirectory(dir=folder) as scratch:
        path = Path(shutil.copy(folder / "spladelite" / "kb.db", scratch))
        adding(path, prepared, queries)


def size(data: Path, work: Path, before: str | None) -> None:
    folder = prepare(data, work, 100_000)
    for name, python in (("this version", sys.executable), ("before", before)):
        for bm25 in (1, 0) if python else ():
            with TemporaryDirectory(dir=folder) as scratch:
                command = [str(python), "-c", SIZE, str(folder), str(Path(scratch, "kb.db")), str(bm25)]
                bytes_ = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=scratch).stdout)
            show(f"file of 20,000 passages, {name}, bm25={bool(bm25)}, MB", bytes_ / 2**20, "")


def indexing(data: Path, work: Path, passages: int) -> None:
    folder = prepare(data, work, 100_000)
    with TemporaryDirectory(dir=folder) as scratch:
        processes = {
            name: subprocess.Popen(
                [sys.executable, "-c", ADDING, str(folder / "texts.json"), path, str(passages)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name, path in (("encoder alone", "-"), ("add", str(Path(scratch, "kb.db"))))
        }
        totals = {name: np.zeros(2) for name in processes}
        for process in processes.values():
            ask(process)
        for turn, first in enumerate(range(0, passages, TURN)):
            for name in list(processes)[:: 1 if turn % 2 else -1]:
                totals[name] += ask(processes[name], f"[{first}, {first + TURN}]\n")
        for name, (wall, processor) in totals.items():
            show(f"{name}: passages a second", passages / wall, "")
            show("  ms of processor time a passage", 1000 * processor / passages, "")
            processes[name].stdin.close()  # type: ignore[union-attr]
            show("  peak memory with the texts, MB", float(ask(processes[name])), "<= 300")
        show("add / encoder alone, by the clock", float(totals["encoder alone"][0] / totals["add"][0]), ">= 0.9")
        show("  by processor time", float(totals["encoder alone"][1] / totals["add"][1]), "")


def ask(process: subprocess.Popen[str], line: str = "") -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(line)
        process.stdin.flush()
    answer = process.stdout.readline()
    return None if answer == "ready\n" else json.loads(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--parts", nargs="+", default=["growth", "weights", "hits", "add", "size", "indexing"])
    parser.add_argument("--before", help="the Python of an environment with another version of spladelite")
    parser.add_argument("--indexed", type=int, default=25_000, help="passages of the part indexing")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    run_in_environment(work)
    large = [passages for passages in arguments.passages if passages >= 100_000]
    parts: dict[str, Callable[[], None]] = {
        "growth": lambda: growth(arguments.data, work, arguments.passages),
        "weights": lambda: weights(arguments.data, work, large),
        "hits": lambda: hits(arguments.data, work),
        "add": lambda: add(arguments.data, work),
        "size": lambda: size(arguments.data, work, arguments.before),
        "indexing": lambda: indexing(arguments.data, work, arguments.indexed),
    }
    for part in arguments.parts:
        print(f"\n{part}", flush=True)
        parts[part]()


if __name__ == "__main__":
    main()
