"""Search engines for learned sparse vectors, side by side.

    python benchmarks/engine.py --data DATA --work FOLDER [--copies 10] [--engines spladelite qdrant-edge ...]

``DATA`` holds the folders ``wiki-100k``, ``wikiqa`` and ``xquad-en`` (BEIR layout). Under ``FOLDER``, which belongs
outside of the repository, the first run makes an environment with the peers, encodes the passages and the queries
with the default model, and drops the weights below 0.3; later runs find all that. Then each engine is built and
searched in processes of its own, with the same vectors, one thread, pinned to one core. Times include the Python call.

Recall is against the exact ranking of the float32 vectors; passages that tie with the k-th count as right.
``--copies`` repeats the passages, each copy rotated and its weights a little smaller, so that scores do not tie.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
from engines import ENGINES, Data

HERE = Path(__file__).resolve().parent
COUNTS = (10, 100, 1000)
MIN_WEIGHT = 0.3
COPY_STEP = 10_007


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


def prepare(data: Path, work: Path, copies: int) -> Path:
    """Vectors and texts of ``copies`` times the passages, in a folder of their own."""
    folder = work / f"x{copies}"
    if (folder / "complete").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if copies > 1:
        repeat(prepare(data, work, 1), folder, copies)
    else:
        encode(data, folder)
    (folder / "complete").touch()
    return folder


def encode(data: Path, folder: Path) -> None:
    from spladelite.encoders.registry import load_encoder
    from spladelite.evaluation.beir import read_corpus, read_queries
    from spladelite.index.quantize import drop_small_weights

    encoder = load_encoder()
    queries = [text for name in ("wikiqa", "xquad-en") for text in read_queries(data / name).values()]
    np.random.default_rng(0).shuffle(queries)
    texts = [text for _, text in read_corpus(data / "wiki-100k")]
    for name, file, vectors in (
        ("queries", "query_texts", encoder.encode_queries(queries)),
        ("documents", "texts", drop_small_weights(encoder.encode_documents(texts), MIN_WEIGHT)),
    ):
        np.savez(folder / f"{name}.npz", indptr=vectors.indptr, terms=vectors.terms, weights=vectors.weights)
        (folder / f"{file}.json").write_text(json.dumps(queries if name == "queries" else texts))


def repeat(source: Path, folder: Path, copies: int) -> None:
    for name in ("queries.npz", "query_texts.json"):
        shutil.copy(source / name, folder)
    rows, texts = Data(source).rows("documents"), Data(source).texts()
    order = np.concatenate([(np.arange(len(rows)) + copy * COPY_STEP) % len(rows) for copy in range(copies)]).tolist()
    shrink = np.repeat(1 - np.arange(copies, dtype=np.float32) / 100, len(rows))
    lengths = np.array([len(rows[i][0]) for i in order])
    np.savez(
        folder / "documents.npz",
        indptr=np.concatenate(([0], np.cumsum(lengths))),
        terms=np.concatenate([rows[i][0] for i in order]),
        weights=np.concatenate([rows[i][1] for i in order]) * np.repeat(shrink, lengths),
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


def recall(folder: Path, name: str, k: int, right: list[dict[int, set[int]]]) -> float:
    found: list[list[int]] = json.loads((folder / f"{name}.{k}.json").read_text())
    shares = [
        len(set(numbers) & wanted[k]) / min(k, len(wanted[k]))
        for numbers, wanted in zip(found, right, strict=False)
        if wanted[k]
    ]
    return float(np.mean(shares))


def measure(python: Path, folder: Path, name: str, timed: int) -> dict[str, Any]:
    """Build one engine (its figures are kept for later runs) and search it."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

    def process(action: str, *arguments: str) -> dict[str, Any]:
        command = [str(python), str(HERE / "engines.py"), action, name, str(folder), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | threads)
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    built = folder / f"{name}.build.json"
    if not built.exists():
        shutil.rmtree(folder / name, ignore_errors=True)
        built.write_text(json.dumps(process("build")))
    figures: dict[str, Any] = json.loads(built.read_text())
    return figures | process("search", json.dumps(COUNTS), str(timed))


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
            f"{r['first_pass']:.3f}",
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
    axes.set_xticks(np.arange(len(results)) + width, list(results), rotation=20)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--queries", type=int, default=500, help="queries that are timed")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    python = environment(work)
    if Path(sys.executable) != python:
        os.execv(python, [str(python), *sys.argv])
    folder = prepare(arguments.data, work, arguments.copies)
    right = exact(folder, arguments.queries)
    results: dict[str, dict[str, Any]] = {}
    for name in arguments.engines:
        results[name] = result = measure(python, folder, name, arguments.queries)
        for k in COUNTS:
            lexical = getattr(ENGINES[name], "lexical", False)
            result[f"recall_{k}"] = None if lexical else recall(folder, name, k, right)
        print(f"{name}: {json.dumps(result)}", file=sys.stderr, flush=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    plot(results, folder / "results.svg", f"{arguments.copies * 100}k passages")
    print(table(results))


if __name__ == "__main__":
    main()
