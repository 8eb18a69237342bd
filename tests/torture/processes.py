"""Four processes write and four read at once: nobody sees an error, and every reader sees whole transactions.

They do so in rounds, since all of them opening a closed file at one moment, and closing it, is a test of its own.
"""

from __future__ import annotations

import json
import os
import random
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from spladelite import SpladeLite
from torture import Tally
from torture.words import WordModel

MODEL = WordModel()
WRITERS = READERS = 4
ROUND = 0.1, 2.0  # seconds
FORKING = 0.05  # seconds in which all processes are there: then they begin together
ALL = dict.fromkeys(range(8), 1.0)


def write(path: Path, number: int, until: float, expected: Mapping[str, int]) -> dict[str, object]:
    """Store, replace and delete pairs of documents, always both in one call; ``expected`` is there already."""
    source = random.Random(f"{number} {until}")
    mine = f"{number}-"
    pairs = {int(pair.removeprefix(mine)): version for pair, version in expected.items() if pair.startswith(mine)}
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


def read(path: Path, number: int, until: float, _: Mapping[str, int]) -> dict[str, object]:
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


def start(
    work: Callable[[Path, int, float, Mapping[str, int]], dict[str, object]],
    path: Path,
    number: int,
    begin: float,
    until: float,
    expected: Mapping[str, int],
) -> int:
    """Run ``work`` in a child; returns where its report can be read."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            time.sleep(max(0.0, begin - time.time()))
            report = work(path, number, until, expected)
        except BaseException:  # noqa: BLE001 - the parent reports it
            when = f"{time.time() - begin:.2f} s after the beginning, {until - time.time():.2f} s before the end"
            report = {"error": f"{work.__name__} {number}, {when}:\n{traceback.format_exc()}"}
        with open(writing, "wb") as stream:
            stream.write(json.dumps(report).encode())
        os._exit(0)
    os.close(writing)
    return reading


def one_round(path: Path, seed: int, until: float, expected: Mapping[str, int], tally: Tally) -> dict[str, int]:
    """All processes at once, up to a point in time; returns the pairs that are there then, and their versions."""
    begin = time.time() + FORKING
    pipes = [start(write, path, seed * 100 + number, begin, until, expected) for number in range(WRITERS)]
    pipes += [start(read, path, number, begin, until, expected) for number in range(READERS)]
    pairs: dict[str, int] = {}
    for i, pipe in enumerate(pipes):
        with open(pipe, "rb") as stream:
            report = json.loads(stream.read() or b'{"error": "a child died"}')
        _, status = os.wait()
        if status:
            tally.failures.append(f"a child ended with status {os.waitstatus_to_exitcode(status)}")
        if "error" in report:
            tally.failures.append(report["error"])
            continue
        kind = "writes" if i < WRITERS else "reads"
        tally.tried += report["calls"]
        tally.notes[kind] = tally.notes.get(kind, 0) + report["calls"]
        pairs |= report.get("pairs", {})
    return pairs


def run(folder: Path, seconds: int, seed: int) -> Tally:
    """For so many seconds, or up to the first failure."""
    tally = Tally()
    path = folder / "kb.db"
    SpladeLite(path, MODEL, tail_size=16, segment_size=64).close()
    source = random.Random(seed)
    pairs: dict[str, int] = {}
    end = time.time() + seconds
    while time.time() < end and not tally.failures:
        until = min(end, time.time() + FORKING + source.uniform(*ROUND))
        pairs = one_round(path, seed, until, pairs, tally)
        tally.note("rounds")
        with SpladeLite(path, MODEL) as db:
            stored = {}
            for id in db:
                document = db.get(id)
                assert document is not None
                stored[id] = int(document.text.split()[1])
            wanted = {f"{pair}-{half}": version for pair, version in pairs.items() for half in "ab"}
            if stored != wanted and not tally.failures:
                tally.failures.append(f"{len(stored)} documents at the end of a round instead of {len(wanted)}")
            tally.failures += [str(finding) for finding in db.check()]
        beside = sorted(entry.name for entry in folder.iterdir())
        if beside != [path.name] or path.read_bytes()[18:20] != b"\1\1":
            tally.failures.append(f"not one plain file at the end of a round, but {beside}")
    return tally
