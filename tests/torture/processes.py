"""Four processes write and four read at once: nobody sees an error, and every reader sees whole transactions."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from spladelite import SpladeLite
from torture import Tally
from torture.words import WordModel

MODEL = WordModel()
WRITERS = READERS = 4
ALL = dict.fromkeys(range(8), 1.0)


def write(path: Path, number: int, until: float) -> dict[str, object]:
    """Store, replace and delete pairs of documents, always both in one call."""
    source = random.Random(number)
    pairs: dict[int, int] = {}
    calls = 0
    with SpladeLite(path, MODEL) as db:
        while time.time() < until:
            pair = source.randrange(40)
            ids = [f"{number}-{pair}-a", f"{number}-{pair}-b"]
            if pair in pairs and source.random() < 0.4:
                assert db.delete(ids) == 2
                del pairs[pair]
            else:
                version = pairs.get(pair, -1) + 1
                texts = [f"{id} {version} w{source.randrange(8)}" for id in ids]
                db.upsert(texts, ids=ids)
                pairs[pair] = version
            if source.random() < 0.01:
                db.optimize()
            calls += 1
    return {"calls": calls, "pairs": {f"{number}-{pair}": version for pair, version in pairs.items()}}


def read(path: Path, number: int, until: float) -> dict[str, object]:
    """Look at the whole database again and again: of each pair there are both or none, of one version."""
    calls = 0
    with SpladeLite(path, MODEL, read_only=number % 2 == 0) as db:
        while time.time() < until:
            versions: dict[str, list[str]] = {}
            for hit in db.search(ALL, 10_000):
                versions.setdefault(hit.id[:-2], []).append(hit.text.split()[1])
            torn = {pair: found for pair, found in versions.items() if len(found) != 2 or found[0] != found[1]}
            assert not torn, f"a search saw half a transaction: {torn}"
            ids = list(db)
            assert len(ids) == len(set(ids)), "a listing names a document twice"
            assert len(ids) % 2 == 0, "a listing saw half a transaction"
            calls += 1
    return {"calls": calls}


def start(work: Callable[[Path, int, float], dict[str, object]], path: Path, number: int, until: float) -> int:
    """Run ``work`` in a child; returns where its report can be read."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            report = work(path, number, until)
        except BaseException as error:  # noqa: BLE001 - the parent reports it
            report = {"error": f"{work.__name__} {number}: {error!r}"}
        os.write(writing, json.dumps(report).encode())
        os._exit(0)
    os.close(writing)
    return reading


def run(folder: Path, seconds: int, seed: int) -> Tally:
    """For so many seconds."""
    tally = Tally()
    path = folder / "kb.db"
    SpladeLite(path, MODEL, tail_size=16, segment_size=64).close()
    until = time.time() + seconds
    pipes = [start(write, path, seed * 100 + number, until) for number in range(WRITERS)]
    pipes += [start(read, path, number, until) for number in range(READERS)]
    expected: dict[str, int] = {}
    for i, pipe in enumerate(pipes):
        with open(pipe, "rb") as stream:
            report = json.loads(stream.read() or b'{"error": "a child died"}')
        os.wait()
        if "error" in report:
            tally.failures.append(report["error"])
            continue
        tally.tried += report["calls"]
        tally.notes["writes" if i < WRITERS else "reads"] = (
            tally.notes.get("writes" if i < WRITERS else "reads", 0) + report["calls"]
        )
        expected |= report.get("pairs", {})
    with SpladeLite(path, MODEL) as db:
        stored = {}
        for id in db:
            document = db.get(id)
            assert document is not None
            stored[id] = int(document.text.split()[1])
        wanted = {f"{pair}-{half}": version for pair, version in expected.items() for half in "ab"}
        if stored != wanted and not tally.failures:
            tally.failures.append(f"{len(stored)} documents in the end instead of {len(wanted)}")
        tally.failures += [str(finding) for finding in db.check()]
    return tally
