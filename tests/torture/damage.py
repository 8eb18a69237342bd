"""Damaged and hostile files: a right answer or an error of ours, whatever the bytes; no crash, no hang, nothing wrong.

The work is done in child processes with limited memory and time, so that a crash is seen and counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from spladelite import SpladeLite
from spladelite.errors import SpladeLiteError
from torture import Tally
from torture.words import WordModel, random_text, random_vector

MODEL = WordModel()
MEMORY = 3 << 30
SECONDS = 20
BATCH = 250

Answer = Any


def build(path: Path, seed: int) -> None:
    """A small database with everything in it: segments, a tail, tombstones, several passages a document, an index."""
    source = random.Random(seed)
    with SpladeLite(path, MODEL, tail_size=8, segment_size=32) as db:
        for i in range(12):
            ids = [f"d{8 * i + j}" for j in range(8)]
            texts = [f"{id}: {random_text(source, source.choice((3, 5, 14)))}" for id in ids]
            db.add(texts, ids=ids, metadata=[{"group": source.randrange(4)} for _ in ids])
        db.delete([f"d{source.randrange(96)}" for _ in range(9)])
        db.create_metadata_index("group")
        db.add(["vector one", "vector two"], ids=["v1", "v2"], vectors=[random_vector(source), random_vector(source)])


def search_questions() -> dict[str, Callable[[SpladeLite], Answer]]:
    """What must be answered rightly or not at all."""

    def asked(query: Any, **options: Any) -> Callable[[SpladeLite], Answer]:
        return lambda db: [
            (hit.id, hit.score, hit.text, hit.metadata, hit.passage.start, hit.passage.end)
            for hit in db.search(query, 20, **options)
        ]

    source = random.Random(5)
    vectors = {f"vector {i}": asked(random_vector(source, 6)) for i in range(4)}
    return {**vectors, "text": asked("w1 w2 w3 w9 w30"), "idf": asked("w4 w5 w6 w40", encoder="idf")}


def other_questions() -> dict[str, Callable[[SpladeLite], Answer]]:
    """What reads columns, b-trees or full-text lists without a checksum of ours: check() must notice."""
    return {
        "filter": lambda db: [(hit.id, hit.score) for hit in db.search({1: 1.0, 8: 1.0}, 20, where={"group": 2})],
        "bm25": lambda db: [(hit.id, hit.score) for hit in db.search("w1 w2 w3", 20, mode="bm25")],
        "ids": lambda db: sorted(db),
        "documents": lambda db: [db.get(f"d{i}") for i in range(0, 96, 5)],
        "length": len,
    }


def mutate(data: bytes, source: random.Random) -> tuple[str, bytes]:
    """One of the ways in which files break."""
    damaged = bytearray(data)
    kind = source.choice(("bit", "bit", "bit", "bytes", "bytes", "sector", "swap", "copy", "truncate", "header", "int"))
    at = source.randrange(len(damaged))
    pages = len(damaged) // 4096
    if kind == "bit":
        damaged[at] ^= 1 << source.randrange(8)
    elif kind == "bytes":
        length = source.choice((1, 2, 4, 16, 64))
        damaged[at : at + length] = source.randbytes(min(length, len(damaged) - at))
    elif kind == "sector":
        at -= at % 512
        damaged[at : at + 512] = source.choice((bytes(512), source.randbytes(512), b"\xff" * 512))
    elif kind in ("swap", "copy"):
        a, b = source.randrange(pages) * 4096, source.randrange(pages) * 4096
        first, second = damaged[a : a + 4096], damaged[b : b + 4096]
        damaged[a : a + 4096] = second
        if kind == "swap":
            damaged[b : b + 4096] = first
    elif kind == "truncate":
        del damaged[max(at, 1) :]  # a file of no bytes is no damaged one: it opens as a new database
    elif kind == "header":
        page = source.randrange(pages) * 4096
        damaged[page + source.randrange(108)] = source.randrange(256)
    else:
        value = source.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
        damaged[at : at + 4] = value.to_bytes(4, "big")[: len(damaged) - at]
    return kind, bytes(damaged)


def outcome(question: Callable[[SpladeLite], Answer], db: SpladeLite) -> Answer:
    """The answer, or ``SpladeLiteError``."""
    try:
        return question(db)
    except SpladeLiteError:
        return SpladeLiteError


def try_one(path: Path, source: random.Random, truth: dict[str, Answer]) -> list[str]:
    """Everything that goes wrong with one damaged file."""
    wrong, unnoticed = [], []
    writes = source.random() < 0.25
    try:
        db = SpladeLite(path, MODEL, read_only=not writes)
    except SpladeLiteError:
        return []
    with db:
        for name, question in search_questions().items():
            answer = outcome(question, db)
            if answer is not SpladeLiteError and answer != truth[name]:
                wrong.append(f"wrong answer to {name}")
        for name, question in other_questions().items():
            answer = outcome(question, db)
            if answer is not SpladeLiteError and answer != truth[name]:
                unnoticed.append(name)
        if unnoticed and outcome(lambda db: db.check(), db) == []:
            wrong.append(f"check() does not see what falsifies {unnoticed}")
        if writes:
            outcome(lambda db: db.add("one more w7", ids="more", vectors={7: 1.0}), db)
            outcome(lambda db: db.delete(["d1", "d2", "v1"]), db)
            outcome(lambda db: db.optimize(), db)
    return wrong


def work(folder: Path, base: Path, first: int, last: int) -> None:
    """In the child: try the mutations ``first`` to ``last`` - 1, and say so, one line each."""
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # which reserves terabytes of addresses
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    data = base.read_bytes()
    with SpladeLite(base, MODEL, read_only=True) as db:
        truth = {name: question(db) for name, question in {**search_questions(), **other_questions()}.items()}
    for seed in range(first, last):
        print(json.dumps({"start": seed}), flush=True)
        source = random.Random(seed)
        kind, damaged = mutate(data, source)
        path = folder / "damaged.db"
        for name in ("damaged.db", "damaged.db-wal", "damaged.db-shm", "damaged.db-journal"):
            with contextlib.suppress(FileNotFoundError):
                (folder / name).unlink()
        path.write_bytes(damaged)
        signal.alarm(SECONDS)
        try:
            wrong = try_one(path, source, truth)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            wrong = [f"foreign exception {error!r}"]
        signal.alarm(0)
        print(json.dumps({"done": seed, "kind": kind, "wrong": wrong}), flush=True)


def run(folder: Path, mutations: int, seed: int) -> Tally:
    """So many mutations of one file, on all cores."""
    base = folder / "base.db"
    build(base, seed)
    first, end = seed * 1_000_000, seed * 1_000_000 + mutations
    starts = range(first, end, BATCH)
    tally = Tally()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(lambda start: run_batch(folder, base, start, min(start + BATCH, end)), starts):
            tally.tried += part.tried
            tally.failures += part.failures
            for kind, count in part.notes.items():
                tally.notes[kind] = tally.notes.get(kind, 0) + count
    return tally


def run_batch(folder: Path, base: Path, first: int, end: int) -> Tally:
    """The mutations ``first`` to ``end`` - 1 in a child, and another child for the rest when one has died."""
    tally = Tally()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        while first < end:
            child = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "torture.damage", place, str(base), str(first), str(end)],
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
            )
            started = first
            for line in child.stdout.splitlines():
                report = json.loads(line)
                if "start" in report:
                    started = report["start"]
                    continue
                tally.tried += 1
                tally.note(report["kind"])
                tally.failures += [f"mutation {report['done']} ({report['kind']}): {what}" for what in report["wrong"]]
            if not child.returncode:
                break
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(Path(place) / "damaged.db", folder / f"killer-{started}.db")
            tally.failures.append(f"mutation {started}: exit {child.returncode}: {child.stderr[-300:]}")
            tally.tried += 1
            first = started + 1
    return tally


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
