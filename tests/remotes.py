"""Other engines as the tests use them: servers started once, collections, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster import servers

from spladelite import SpladeLite
from spladelite.transfer.connect import connect
from spladelite.transfer.remote import Remote
from spladelite.transfer.verify import exact

ENGINES = ("qdrant", "postgres", "clickhouse", "shards")
Collection = SpladeLite | Remote


class Servers:
    """Starts what a test asks for, once a session; a fresh collection each time."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[Any, Any]] = {}
        self.count = 0

    def start(self, name: str) -> Any:
        if name not in self.running:
            context = servers.postgres() if name == "postgres" else servers.clickhouse()
            self.running[name] = context, context.__enter__()
        return self.running[name][1]

    def url(self, engine: str) -> str:
        """Of an empty collection; skips where the engine is not installed."""
        self.count += 1
        if engine == "postgres":
            pytest.importorskip("psycopg", reason=servers.MISSING_POSTGRES)
            if servers.postgres_programs() is None:
                pytest.skip(servers.MISSING_POSTGRES)
            return f"{self.start('postgres')}?schema=kb{self.count}"
        if engine in ("clickhouse", "shards"):
            pytest.importorskip("clickhouse_driver", reason="pip install '.[clickhouse]'")
            if not servers.clickhouse_there():
                pytest.skip(servers.MISSING_CLICKHOUSE)
            shard = self.start("clickhouse")[0]
            cluster = "?cluster=two" if engine == "shards" else ""
            return f"clickhouse://default:secret@127.0.0.1:{shard.port}/kb{self.count}{cluster}"
        raise AssertionError(engine)

    def close(self) -> None:
        for context, _ in self.running.values():
            context.__exit__(None, None, None)


def open_remote(engine: str, running: Servers) -> Remote:
    if engine == "qdrant":
        client = pytest.importorskip("qdrant_client", reason="pip install '.[qdrant]'")
        from spladelite.transfer.qdrant import Qdrant
        from spladelite.transfer.qdrant_clients import ServerClient

        return Remote(Qdrant(ServerClient(client.QdrantClient(":memory:"), "kb", "qdrant://memory/kb")))
    found = connect(running.url(engine))
    assert isinstance(found, Remote)
    return found


TEXTS = [
    "A car crashed into a tree.",
    "Bake the bread for an hour.",
    "The automobile accident happened at night.",
    "Rivers carry sand to the sea.\0 A NUL, \x01 and 𝔘nicode.",
    "A car crashed into a tree.",
    "The bank by the river lends no money. " * 120 + "At the end a zebra crosses.",
]
IDS = ["car", "bread", "accident", 'river\'s \\ "id"; DROP TABLE', "the same", "long"]
METADATA: list[dict[str, Any] | None] = [
    {"year": 2020, "a": {"b": "x"}},
    {"year": 2021.5, "a": None},
    None,
    {"year": "2020", "nul": "a\0b", "deep": {"é": [1, {"b": 2}]}, "big": 2**62, "large": 1e300},
    {"year": 2020},
    {"flag": True},
]
QUERIES = ["automobile accident", "zebra", "bread and water", "river bank", "car"]


def fill(collection: Collection) -> None:
    assert collection.add(TEXTS, ids=IDS, metadata=METADATA) == IDS


def modes(remote: Remote) -> tuple[str, ...]:
    """In which it can be searched."""
    return ("hybrid", "bm25", "splade") if remote.meta.layout.bm25 else ("splade",)


def assert_same(
    db: SpladeLite,
    other: Remote,
    queries: Sequence[Any] = QUERIES,
    k: int = 10,
    mode: str | None = None,
    **arguments: Any,
) -> None:
    """The same hits, in every mode if none is given; scores to the last bits of a float64."""
    for one in modes(other) if mode is None else (mode,):
        expected = exact(db, queries, k, one, **arguments)
        for query, ours, theirs in zip(queries, expected, exact(other, queries, k, one, **arguments), strict=True):
            assert [(hit.id, *hit[2:7]) for hit in theirs] == [(hit.id, *hit[2:7]) for hit in ours], (one, query)
            assert [h.score for h in theirs] == pytest.approx([h.score for h in ours], rel=1e-12), (one, query)
            assert [h.relevance for h in theirs] == pytest.approx([h.relevance for h in ours], rel=1e-5), (one, query)


def random_database(path: Path, count: int, seed: int = 1, **settings: Any) -> None:
    """Documents with vectors that no model made, some of them deleted, some with several passages."""
    rng = np.random.default_rng(seed)
    vectors: list[Any] = []
    for _ in range(count):
        terms = np.unique((rng.pareto(1.0, 60) * 40).astype(np.int32) % 30_000)
        vectors.append((terms, rng.gamma(2, 0.5, len(terms)).astype(np.float32) + 0.01))
    ids = [f"d{i}" for i in range(count)]
    with SpladeLite(path, **settings) as db:
        db.add([f"text number {i} of a river" for i in range(count)], ids=ids, vectors=vectors,
               metadata=[{"n": i} for i in range(count)])  # fmt: skip
        db.delete(ids[::7])
        db.add(["A long text about sand. " * 200 + "A zebra.", "A short one."], ids=["long", "short"])


def content(source: str) -> list[tuple[Any, ...]]:
    """Everything that a move carries, bit by bit, without the numbers of documents."""
    from spladelite.transfer.move import open_source

    origin, rows, after = open_source(source), [], -1
    while len(batch := origin.batch(after, 100)):
        encoded = batch.encoded
        place = 0
        for document, spans, unread in zip(encoded.documents, encoded.spans, encoded.unread, strict=True):
            vectors = []
            for _ in spans:
                entries = slice(encoded.vectors.indptr[place], encoded.vectors.indptr[place + 1])
                vectors.append(
                    (
                        encoded.vectors.terms[entries].tobytes(),
                        encoded.vectors.impacts[entries].tobytes(),
                        encoded.vectors.scales[place].tobytes(),
                    )
                )
                place += 1
            rows.append(
                (document.id, document.text, document.metadata, document.content_hash, list(spans), unread, vectors)
            )
        after = int(batch.numbers[-1])
    origin.close()
    return rows
