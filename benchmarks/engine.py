"""Search engines for learned sparse vectors and for words, side by side.

    python benchmarks/engine.py --data DATA --work FOLDER [--passages 1000000] [--engines spladelite qdrant-edge ...]

``DATA`` holds the folders ``wiki-100k`` (BEIR layout) and ``questions`` (``questions.jsonl.gz``, one ``query`` a line).
Under ``FOLDER``, which belongs outside of the repository, the first run makes an environment with the peers, encodes
passages and questions with the default model, and drops the weights below 0.3 (``--all-weights``: none); later runs
find all that. Each engine is built and searched in processes of its own, with the same vectors and texts, one thread,
all pinned to one core. They answer in turns of ten queries, so that what else the machine does meets all alike. Times
include the Python call. The first pass is that of a new process: the operating system has the files in its memory.

Recall is against the exact ranking of the float32 vectors; passages that tie with the k-th count as right.
More passages than there are repeat them, each copy rotated and its weights a little smaller, so that scores do not tie.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from engines import ENGINES, Data

HERE = Path(__file__).resolve().parent
COUNTS = (10, 100, 1000)
MIN_WEIGHT = 0.3
QUESTIONS = 500
COPY_STEP = 10_007
TURN = 10  # queries that an engine answers before the next one
SLOW_ENGINES = ("sql-rows",)  # they take a tenth of a second
SLOW = 30  # queries for them


def environment(work: Path) -> Path:
    """The Python of an environment with this project and its peers; made on the first run."""
    python = work / "venv" / "bin" / "python"
    if not (work / "venv" / "complete").exists():
        venv.create(work / "venv", with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, str(HERE.parent), "-r", str(HERE / "requirements-engine.txt")], check=True)
        subprocess.run([*install, "--no-deps", "splade-index==0.2.0"], check=True)
        (work / "venv" / "complete").touch()
    return python


def run_in_environment(work: Path) -> None:
    """Go on with the Python of :func:`environment`."""
    python = environment(work)
    if Path(sys.executable) != python:
        os.execv(python, [str(python), *sys.argv])


def prepare(data: Path, work: Path, passages: int, all_weights: bool = False) -> Path:
    """Vectors and texts of that many passages, in a folder of their own."""
    folder = work / (f"{passages}-all" if all_weights else str(passages))
    if (folder / "complete").exists():
        return folder
    source = work / "encoded"
    if not (source / "complete").exists():
        source.mkdir(parents=True, exist_ok=True)
        encode(data, source)
        (source / "complete").touch()
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("queries.npz", "query_texts.json"):
        shutil.copy(source / name, folder)
    repeat(Data(source), folder, passages, 0 if all_weights else MIN_WEIGHT)
    (folder / "complete").touch()
    return folder


def encode(data: Path, folder: Path) -> None:
    from spladelite.encoders.registry import load_encoder
    from spladelite.evaluation.beir import read_corpus

    encoder = load_encoder()
    with gzip.open(data / "questions" / "questions.jsonl.gz", "rt") as lines:
        questions = [json.loads(line)["query"] for line in lines]
    np.random.default_rng(0).shuffle(questions)
    texts = [text for _, text in read_corpus(data / "wiki-100k")]
    for name, file, some, encoded in (
        ("queries", "query_texts", questions[:QUESTIONS], encoder.encode_queries),
        ("documents", "texts", texts, encoder.encode_documents),
    ):
        vectors = encoded(some)
        np.savez(folder / f"{name}.npz", indptr=vectors.indptr, terms=vectors.terms, weights=vectors.weights)
        (folder / f"{file}.json").write_text(json.dumps(some))


def repeat(source: Data, folder: Path, passages: int, min_weight: float) -> None:
    """The first so many passages, or copies of them all, without the weights below ``min_weight``."""
    rows = [
        (terms[kept], weights[kept]) for terms, weights in source.rows("documents") for kept in [weights >= min_weight]
    ]
    texts, numbers = source.texts(), np.arange(passages)
    copies = numbers // len(rows)
    order = ((numbers + copies * COPY_STEP) % len(rows)).tolist()
    lengths = np.array([len(rows[i][0]) for i in order])
    np.savez(
        folder / "documents.npz",
        indptr=np.concatenate(([0], np.cumsum(lengths))),
        terms=np.concatenate([rows[i][0] for i in order]),
        weights=np.concatenate([rows[i][1] for i in order]) * np.repeat(1 - copies.astype(np.float32) / 100, lengths),
    )
    (folder / "texts.json").write_text(json.dumps([texts[i] for i in order]))


def exact(folder: Path, timed: int) -> list[dict[int, set[int]]]:
    """For each query and k: the passages whose exact score reaches the k-th best (within float32's rounding)."""
    data = Data(folder)
    indptr, terms, weights = data.csr("documents")
    order = np.argsort(terms, kind="stable")
    documents = np.repeat(np.arange(len(indptr) - 1, dtype=np.int32), np.diff(indptr))[order]
    weights = weights[order]
    starts = np.searchsorted(terms[order], np.arange(terms.max() + 2))
    result = []
    for query_terms, query_weights in data.rows("queries")[:timed]:
        scores = np.zeros(len(indptr) - 1)
        for term, weight in zip(query_terms.tolist(), query_weights.tolist(), strict=True):
            if term < len(starts) - 1:
                span = slice(starts[term], starts[term + 1])
                scores[documents[span]] += weight * weights[span]
        top = np.partition(scores, len(scores) - max(COUNTS))[-max(COUNTS) :]
        top.sort()
        result.append({k: set(np.flatnonzero(scores >= max(top[-k] * (1 - 1e-6), 1e-9)).tolist()) for k in COUNTS})
    return result


def recall(found: list[list[int]], k: int, right: list[dict[int, set[int]]]) -> float:
    shares = [
        len(set(numbers) & wanted[k]) / min(k, len(wanted[k]))
        for numbers, wanted in zip(found, right, strict=False)
        if wanted[k]
    ]
    return float(np.mean(shares))


class Answers(NamedTuple):
    """ms by the clock and of processor time, and what was found, for each of some queries."""

    wall: list[float]
    processor: list[float]
    found: list[list[int]]


class Server:
    """An engine in a process of its own, which answers queries and times itself."""

    def __init__(self, python: Path | str, folder: Path, name: str) -> None:
        threads = dict.fromkeys(("OMP", "RAYON", "NUMBA", "OPENBLAS"), "1")
        self.name = name
        self.process = subprocess.Popen(
            [str(python), str(HERE / "engines.py"), "search", name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {f"{library}_NUM_THREADS": one for library, one in threads.items()},
        )

    def __enter__(self) -> Server:
        if self._read() != "ready\n":
            raise RuntimeError(f"{self.name} did not open")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, k: int, first: int, last: int) -> Answers:
        """Run the queries from ``first`` to before ``last``."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([k, first, last]) + "\n")
        self.process.stdin.flush()
        return Answers(*json.loads(self._read()))

    def peak_megabytes(self) -> float:
        """Its peak memory so far; it answers no more after that."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return float(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def build(python: Path | str, folder: Path, name: str) -> dict[str, Any]:
    """Build an engine's index, if it is not there; its figures."""
    index = ENGINES[name].index
    built = folder / f"{index}.build.json"
    if not built.exists():
        shutil.rmtree(folder / index, ignore_errors=True)
        command = [str(python), str(HERE / "engines.py"), "build", name, str(folder)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        built.write_text(done.stdout.splitlines()[-1])
    figures: dict[str, Any] = json.loads(built.read_text())
    return figures


def measure(
    python: Path | str, folder: Path, names: Sequence[str], timed: int, counts: Sequence[int] = COUNTS
) -> dict[str, dict[str, Any]]:
    """Search with several engines in turns: a first pass with the first of ``counts``, then one with each."""
    results = {name: build(python, folder, name) for name in names}
    passes = [("first", counts[0]), *((str(k), k) for k in counts)]
    for slow in (False, True):
        with ExitStack() as stack:
            servers = [
                stack.enter_context(Server(python, folder, name)) for name in names if (name in SLOW_ENGINES) == slow
            ]
            for label, k in passes:
                answers = {server.name: Answers([], [], []) for server in servers}
                for turn, first in enumerate(range(0, SLOW if slow else timed, TURN)):
                    for i in range(len(servers)):
                        server = servers[(turn + i) % len(servers)]
                        kept, more = answers[server.name], server.ask(k, first, first + TURN)
                        kept.wall.extend(more.wall)
                        kept.processor.extend(more.processor)
                        kept.found.extend(more.found)
                for name, (wall, processor, found) in answers.items():
                    result = results[name]
                    result[f"p50_{label}"], result[f"p99_{label}"] = np.percentile(wall, [50, 99]).tolist()
                    result[f"cpu50_{label}"], result[f"cpu99_{label}"] = np.percentile(processor, [50, 99]).tolist()
                    result[f"found_{label}"] = found
            for server in servers:
                results[server.name]["peak_mb"] = server.peak_megabytes()
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    head = [
        "engine",
        "first pass p50",
        *(f"p50/p99 ms, k={k}" for k in COUNTS),
        *(f"recall@{k}" for k in COUNTS),
        "build s",
        "size MB",
        "peak MB",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, r in results.items():
        cells = [
            name,
            f"{r['p50_first']:.3f}",
            *(f"{r[f'p50_{k}']:.3f} / {r[f'p99_{k}']:.3f}" for k in COUNTS),
            *("–" if r[f"recall_{k}"] is None else f"{r[f'recall_{k}']:.3f}" for k in COUNTS),
            f"{r['build_s']:.1f}",
            f"{r['size_mb']:.0f}",
            f"{r['peak_mb']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: dict[str, dict[str, Any]], path: Path, title: str) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    width = 0.8 / len(COUNTS)
    for i, k in enumerate(COUNTS):
        axes.bar(
            np.arange(len(results)) + i * width, [r[f"p50_{k}"] for r in results.values()], width, label=f"k = {k}"
        )
    axes.set(yscale="log", ylabel="ms a query (p50), one thread", title=title)
    axes.set_xticks(np.arange(len(results)) + width, list(results), rotation=30, ha="right")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--all-weights", action="store_true", help="those below 0.3 too")
    parser.add_argument("--queries", type=int, default=300, help="questions that are timed, at most 500")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    run_in_environment(work)
    folder = prepare(arguments.data, work, arguments.passages, arguments.all_weights)
    right = exact(folder, arguments.queries)
    results = measure(sys.executable, folder, arguments.engines, arguments.queries)
    for name, result in results.items():
        for k in COUNTS:
            found = result.pop(f"found_{k}")
            exact_one = getattr(ENGINES[name], "ranks_vectors", True)
            result[f"recall_{k}"] = recall(found, k, right) if exact_one else None
        del result["found_first"]
        print(f"{name}: {json.dumps(result)}", file=sys.stderr, flush=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    plot(results, folder / "results.svg", f"{arguments.passages:,} passages")
    print(table(results))


if __name__ == "__main__":
    main()
