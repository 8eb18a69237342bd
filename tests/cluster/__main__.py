"""``make cluster``: real passages in real engines, held against the file that they came from.

    python -m cluster FOLDER [PASSAGES] [QUERIES]

``FOLDER`` is a BEIR folder (``corpus.jsonl``, plain or .gz). What is not installed is skipped, with the command that
would install it. Ends with status 1 if any answer differs.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from remotes import modes

from cluster import servers
from spladelite import SpladeLite
from spladelite.errors import ServerError, Unsupported
from spladelite.records import Hit
from spladelite.transfer.connect import connect, without_password
from spladelite.transfer.move import move
from spladelite.transfer.remote import Remote
from spladelite.transfer.verify import Verification, compare, draw, exact

BUILD = Path(__file__).parents[2] / "build" / "cluster"
CHUNK = 500
KILLS = 10
MODES = ("hybrid", "bm25", "splade")
TIMED = 200
MOVE = "import sys; from spladelite.transfer.move import move; move(sys.argv[1], sys.argv[2])"


class Failed(Exception):
    """An answer that differs."""


def say(text: str) -> None:
    print(text, flush=True)


def check(holds: object, what: str) -> None:
    if not holds:
        raise Failed(what)


def corpus(folder: Path) -> Iterator[dict[str, Any]]:
    """Documents of a BEIR folder."""
    plain, packed = folder / "corpus.jsonl", folder / "corpus.jsonl.gz"
    with gzip.open(packed, "rt") if packed.exists() else plain.open() as file:
        for line in file:
            yield json.loads(line)


def build(folder: Path, count: int) -> Path:
    """A database of the first passages, made once."""
    path = BUILD / f"{folder.name}-{count}.db"
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        rows = list(islice(corpus(folder), count))
        texts = [f"{row['title']}. {row['text']}" if row.get("title") else row["text"] for row in rows]
        with SpladeLite(f"{path}.new") as db:
            db.add(
                texts,
                ids=[row["_id"] for row in rows],
                metadata=[
                    {"n": i, "half": i / 2, "letter": text[:1].lower(), "words": {"count": text.count(" ") + 1}}
                    | ({"even": True} if i % 2 == 0 else {"none": None} if i % 3 == 0 else {})
                    for i, text in enumerate(texts)
                ],
            )
            db.optimize()
        os.replace(f"{path}.new", path)
    return path


def change(db: SpladeLite | Remote, ids: Sequence[str]) -> None:
    """30 % of the documents deleted, 30 % replaced by others with vectors of their own; the same for every engine."""
    rng = random.Random(8)
    order = list(ids)
    rng.shuffle(order)
    third = int(len(order) * 0.3)
    db.delete(order[:third])
    replaced = order[third : 2 * third]
    for start in range(0, len(replaced), CHUNK):
        part = replaced[start : start + CHUNK]
        vectors = [{rng.randrange(1000, 30_000): rng.random() * 3 + 0.01 for _ in range(90)} for _ in part]
        db.upsert([f"Another text of {id}" for id in part], ids=part, vectors=vectors, progress=False)


def random_filter(rng: random.Random, count: int) -> dict[str, Any]:
    """Over the metadata that :func:`build` gives."""

    def one(depth: int) -> dict[str, Any]:
        roll = rng.random()
        if depth < 2 and roll < 0.15:
            return {rng.choice(("$and", "$or")): [one(depth + 1) for _ in range(rng.randint(1, 3))]}
        if depth < 2 and roll < 0.25:
            return {"$not": one(depth + 1)}
        field, value = rng.choice(
            [
                ("n", rng.randrange(count)),
                ("half", rng.randrange(count) / 2),
                ("words.count", rng.randrange(3, 120)),
                ("letter", rng.choice("abcdefst")),
                ("even", rng.choice([True, None])),
                ("none", None),
            ]
        )
        if field in ("even", "none"):
            return rng.choice([{field: value}, {field: {"$exists": rng.random() < 0.5}}, {field: {"$ne": value}}])
        if field == "letter":
            return {field: rng.choice([value, {"$in": ["a", value]}, {"$nin": [value, "t"]}, {"$ne": value}])}
        return {field: rng.choice([{rng.choice(["$gt", "$gte", "$lt", "$lte"]): value}, {"$ne": value}, value])}

    return one(0)


class Reference:
    """What the file answers, asked once for all engines."""

    def __init__(self, path: Path, queries: int) -> None:
        self.path = str(path)
        with SpladeLite(self.path, read_only=True) as db:
            self.count = len(db)
            self.texts = draw(db, queries)
            self.hits: dict[str, list[list[Hit]]] = {mode: [] for mode in MODES}
            for start in range(0, len(self.texts), CHUNK):
                for mode, hits in self.hits.items():
                    hits += exact(db, self.texts[start : start + CHUNK], 10, mode)
            rng = random.Random(6)
            self.filters = [random_filter(rng, self.count) for _ in range(queries)]
            self.filtered = [
                {
                    mode: [hit.id for hit in exact(db, [text], 10, mode, where=where)[0]]
                    for mode in {MODES[i % 3], "splade"}
                }
                for i, (text, where) in enumerate(zip(self.texts, self.filters, strict=True))
            ]

    def verify(self, remote: Remote, what: str, worst: float, queries: int | None = None) -> None:
        asked = self.texts[:queries]
        verified = []
        for mode in modes(remote):
            found = Verification(mode, 0, (self.count, len(remote)), 0, 0, 0.0, [])
            for start in range(0, len(asked), CHUNK):
                texts = asked[start : start + CHUNK]
                expected = self.hits[mode][start : start + len(texts)]
                found = compare(found, texts, expected, remote.search_many(texts, 10, mode=mode))
            verified.append(found)
        lists = ", ".join(f"{found.mode} {found.differing} ({found.worst:.1e})" for found in verified)
        say(f"    {what}: top-10 lists that differ of {len(asked)} (relative score error at most): {lists}")
        check(all(found.equal and found.worst <= worst for found in verified), f"{what}: {verified}")

    def verify_filters(self, remote: Remote) -> None:
        differ = unsupported = 0
        for i, where in enumerate(self.filters):
            mode = MODES[i % 3] if remote.meta.layout.bm25 else "splade"
            try:
                found = [hit.id for hit in remote.search(self.texts[i], 10, where=where, mode=mode)]
                differ += found != self.filtered[i][mode]
            except Unsupported:
                unsupported += 1
        say(f"    filters: {differ} of {len(self.filters) - unsupported} differ ({unsupported} unsupported)")
        check(differ == 0, "filters")


def latency(db: SpladeLite | Remote, queries: Sequence[str]) -> list[str]:
    """Median and 99th percentile of a search from text, in milliseconds, in each mode."""
    cells = []
    for mode in MODES if isinstance(db, SpladeLite) else modes(db):
        times = []
        for query in queries:
            tries = []
            for _ in range(3):  # the best: other work on the machine is not what is measured
                start = time.perf_counter()
                db.search(query, 10, mode=mode)
                tries.append((time.perf_counter() - start) * 1000)
            times.append(min(tries))
        cells.append(f"{statistics.median(times):.1f} / {sorted(times)[int(len(times) * 0.99)]:.1f}")
    return ["–"] * (len(MODES) - len(cells)) + cells


def kill_and_repeat(path: str, url: str, seconds: float) -> int:
    """``move`` killed at random moments of the time that it takes; how often it was not done yet."""
    rng, killed = random.Random(2), 0
    for _ in range(KILLS):
        child = subprocess.Popen([sys.executable, "-c", MOVE, path, url], stderr=subprocess.DEVNULL)
        try:
            child.wait(1 + rng.random() * seconds / KILLS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            killed += 1
    move(path, url, progress=False)
    return killed


def engines(stack: ExitStack) -> Iterator[tuple[str, str, str, list[servers.Shard]]]:
    """Name, URL of a first and of a second empty collection, and shards, of all that can run here."""
    if find_spec("clickhouse_driver") and servers.clickhouse_there():
        shards = stack.enter_context(servers.clickhouse())
        url = f"clickhouse://default:secret@127.0.0.1:{shards[0].port}"
        yield "ClickHouse, two shards", f"{url}/c?cluster=two", f"{url}/d?cluster=two", shards
        yield "ClickHouse server", f"{url}/a", f"{url}/b", []
    else:
        say(f"  ClickHouse servers: skipped. {servers.MISSING_CLICKHOUSE}; pip install '.[clickhouse]'")
    if find_spec("psycopg") and servers.postgres_programs():
        url = stack.enter_context(servers.postgres())
        yield "PostgreSQL", f"{url}?schema=a", f"{url}?schema=b", []
    else:
        say(f"  PostgreSQL: skipped. {servers.MISSING_POSTGRES}")
    if find_spec("qdrant_edge"):
        yield "Qdrant in process (edge)", f"qdrant://{BUILD / 'qdrant'}", "", []
    else:
        say("  Qdrant in process: skipped. pip install '.[engines]'")
    if find_spec("chdb"):
        yield "ClickHouse in process (chdb)", f"clickhouse://{BUILD / 'chdb'}", "", []
    else:
        say("  ClickHouse in process: skipped. pip install '.[engines]'")


def shard_down(remote: Remote, shards: Sequence[servers.Shard], reference: Reference) -> None:
    shards[1].kill()
    start = time.monotonic()
    try:
        remote.search(reference.texts[0], timeout=10)
    except ServerError as error:
        say(f"    one shard killed: {type(error).__name__} after {time.monotonic() - start:.1f} s: {str(error)[:90]}…")
    else:
        raise Failed("one shard was down, and a search gave an answer")
    finally:
        shards[1].start()


def try_engine(
    name: str,
    url: str,
    second: str,
    shards: list[servers.Shard],
    before: Reference,
    after: Reference,
    ids: Sequence[str],
) -> list[str]:
    """Everything on one engine; a line of the table."""
    say(f"  {name}: {without_password(url)}")
    worst = 1e-6 if "Qdrant" in name else 1e-12
    start = time.monotonic()
    move(before.path, url, progress=False)
    seconds = time.monotonic() - start
    say(f"    moved {before.count:,} documents in {seconds:.1f} s")
    check(move(before.path, url, progress=False).new == 0, "moving twice changes something")
    with connect(url) as remote:
        assert isinstance(remote, Remote)
        before.verify(remote, "moved", worst)
        before.verify_filters(remote)
        times = latency(remote, before.texts[:TIMED])
        figures = remote.stats()
        postings = POSTINGS[0] if figures.postings is None else figures.postings + (figures.word_postings or 0)
        size = sum(figures.sizes.values())
        if shards:
            shard_down(remote, shards, before)
            before.verify(remote, "shard back", worst, 50)
        change(remote, ids)
        after.verify(remote, "30 % deleted, 30 % replaced", worst, 50)
    with connect(url, read_only=True) as remote:
        assert isinstance(remote, Remote)
        after.verify(remote, "30 % deleted, 30 % replaced, opened again", worst)
    with connect(url) as remote:
        assert isinstance(remote, Remote)
        remote.optimize()
        after.verify(remote, "optimised", worst, 50)
    if second:
        killed = kill_and_repeat(before.path, second, seconds)
        with connect(second, read_only=True) as remote:
            assert isinstance(remote, Remote)
            before.verify(remote, f"killed {KILLS} times, {killed} of them in the middle, then moved", worst, 200)
    return [name, *times, f"{size / postings:.1f}", f"{before.count / seconds:,.0f}"]


POSTINGS = [0]  # of SPLADE alone


def main() -> int:
    if len(sys.argv) < 2 or not sys.argv[1]:
        say("skipped: it needs real passages. make cluster DATA=/path/to/a/BEIR/folder [PASSAGES=20000] [QUERIES=1000]")
        return 0
    folder = Path(sys.argv[1])
    count, queries = (int(value) for value in [*sys.argv[2:], "20000", "1000"][:2])
    path = build(folder, count)
    for left in ("chdb", "qdrant"):
        shutil.rmtree(BUILD / left, ignore_errors=True)
    say(f"{path}, {queries} queries")
    changed = BUILD / "changed.db"
    shutil.copy(path, changed)
    with SpladeLite(changed) as db:
        ids = list(db)
        change(db, ids)
    before, after = Reference(path, queries), Reference(changed, queries)
    table, failures = [], 0
    with SpladeLite(path, read_only=True) as db:
        stats = db.stats()
        POSTINGS[0] = round(stats.passages * stats.active_terms)
        size = sum(stats.sizes[part] for part in ("postings", "vectors", "text"))
        latency(db, before.texts[:TIMED])
        times = latency(db, before.texts[:TIMED])
        table.append(["SpladeLite", *times, f"{size / (POSTINGS[0] + stats.word_postings):.1f}", ""])
    with ExitStack() as stack:
        for name, url, second, shards in engines(stack):
            try:
                table.append(try_engine(name, url, second, shards, before, after, ids))
            except (Failed, ServerError) as error:
                failures += 1
                say(f"    FAILED: {error}")
    say("\n| engine | hybrid p50 / p99 ms | BM25 | SPLADE | bytes a posting, texts and vectors with it | moved/s |")
    say("| --- | --- | --- | --- | --- | --- |")
    for row in table:
        say(f"| {' | '.join(row)} |")
    say(f"\n{len(table) - 1} engines, {failures} failures")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
