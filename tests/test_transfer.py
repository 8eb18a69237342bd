"""The same collection in other engines: every engine is held against a file that gets the same calls."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster import servers
from test_filters import random_filter, random_metadata
from test_readme import assert_alike

from spladelite import SpladeLite
from spladelite.errors import (
    DocumentNotFound,
    IdConflict,
    InvalidFilter,
    InvalidInput,
    InvalidText,
    ModelMismatch,
    NotADatabase,
    ReadOnly,
    ServerError,
    Unfinished,
    Unsupported,
    UnsupportedFormat,
    WrongType,
)
from spladelite.transfer.bulk import search_body
from spladelite.transfer.connect import connect, open_engine
from spladelite.transfer.move import move
from spladelite.transfer.remote import Remote
from spladelite.transfer.verify import verify

# Of the client's local mode.
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")

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


@pytest.fixture(scope="module")
def running() -> Iterator[Servers]:
    started = Servers()
    yield started
    started.close()


@pytest.fixture(params=ENGINES)
def remote(request: pytest.FixtureRequest, running: Servers) -> Iterator[Remote]:
    """An empty collection in each engine."""
    with open_remote(request.param, running) as collection:
        yield collection


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


def exactly(db: Collection, query: Any, k: int = 10, **arguments: Any) -> list[Any]:
    """Hits with scores in float64, which a file's own are rounded from."""
    if isinstance(db, Remote):
        hits = db.search(query, k, **arguments)
    else:
        hits = [hit._replace(score=db.explain(query, hit.id, mode="splade").score)
                for hit in db.search(query, k, mode="splade", **arguments)]  # fmt: skip
    return [tuple(hit) for hit in hits]


def assert_same(db: SpladeLite, other: Remote, **arguments: Any) -> None:
    for query in QUERIES:
        ours, theirs = exactly(db, query, **arguments), exactly(other, query, **arguments)
        assert [(hit[0], *hit[2:7]) for hit in theirs] == [(hit[0], *hit[2:7]) for hit in ours]
        assert [hit[7] for hit in theirs] == pytest.approx([hit[7] for hit in ours], rel=1e-5)
        assert [hit[1] for hit in theirs] == pytest.approx([hit[1] for hit in ours], rel=1e-12)


def test_every_method_as_in_a_file(db: SpladeLite, remote: Remote) -> None:
    for collection in (db, remote):
        fill(collection)
        assert collection.add(TEXTS[:2], ids=IDS[:2]) == IDS[:2]
        with pytest.raises(IdConflict, match="'car'"):
            collection.add(["something else"], ids=["car"])
    assert_same(db, remote)
    for query in QUERIES:
        assert [hits[0].id for hits in remote.search_many([query, ""], 3) if hits] == [
            db.search(query, mode="splade")[0].id
        ]
    assert remote.search_many([{2482: 1.0, 4000: 0.5}])[0][0].id == db.search({2482: 1.0, 4000: 0.5})[0].id
    assert_same(db, remote, k=2)
    assert_same(db, remote, min_score=5.0)
    assert remote.search("zebra")[0].passage.text in db.search("zebra")[0].text
    assert remote.highlight(remote.search("zebra")[0]) == db.highlight(db.search("zebra", mode="splade")[0])
    for id in IDS:
        assert remote.get(id) == db.get(id)
        for query in QUERIES:
            ours, theirs = db.explain(query, id, mode="splade"), remote.explain(query, id)
            assert theirs.score == pytest.approx(ours.score)
            assert [term.term for term in theirs.terms] == [term.term for term in ours.terms]
            assert theirs.passage == ours.passage or ours.score == 0
    assert remote.get("nobody") is None
    assert remote.get(["bread", "nobody", "car"]) == db.get(["bread", "nobody", "car"])
    assert remote.vector("long") == db.vector("long")
    assert [hit.id for hit in remote.more_like("car", 3)] == [hit.id for hit in db.more_like("car", 3)]
    assert_same(db, remote, offset=1)
    bare = remote.search("zebra", 1, text=False)[0]
    assert (bare.text, bare.start, bare.end) == ("", *db.search("zebra", 1)[0][4:6])
    shortest: Any = {"rerank": lambda _, texts: [-len(text) for text in texts]}
    assert [h.id for h in remote.search("car", 2, **shortest)] == [h.id for h in db.search("car", 2, **shortest)]
    assert "car" in remote
    assert "nobody" not in remote
    assert list(remote) == list(db) == [document.id for document in remote.documents()]
    assert len(remote) == remote.count() == len(db)
    with pytest.raises(DocumentNotFound, match="nobody"):
        remote.explain("x", "nobody")

    for collection in (db, remote):
        added = collection.add(["A car.", "A new one."], ids=["car", None], on_conflict="skip")
        assert (len(added.new), added.replaced, added.unchanged) == (1, [], ["car"])
        assert collection.delete(added.new) == 1
        assert collection.update(where={"year": 2020}, metadata={"more": 1}, merge=True) == 2
        collection.upsert(["A red bicycle", TEXTS[1]], ids=["car", "bread"], metadata=[{"new": 1}, {"year": 3}])
        collection.update("accident", metadata={"year": 4})
        collection.update("long", text="Now it is a short text about an accident on the river.")
        with pytest.raises(DocumentNotFound):
            collection.update("nobody", text="x")
        assert collection.delete(["the same", "nobody"]) == 1
    assert_same(db, remote)
    assert list(remote) == list(db)
    assert [remote.get(id) for id in db] == [db.get(id) for id in db]
    assert remote.delete(where={"year": {"$gte": 4}}) == db.delete(where={"year": {"$gte": 4}}) == 1
    remote.optimize()
    assert_same(db, remote)
    figures = remote.stats()
    assert figures.documents == len(db)
    assert figures.passages == db.stats().passages
    assert figures.fingerprint == db.stats().fingerprint


def test_lists_in_pages_and_with_filters(remote: Remote) -> None:
    fill(remote)
    assert [d.id for d in remote.documents(limit=2, offset=1)] == IDS[1:3]
    assert [d.id for d in remote.documents({"year": 2020})] == ["car", "the same"]
    assert [d.id for d in remote.documents({"year": 2020}, offset=1)] == ["the same"]
    assert [d.id for d in remote.documents(ids=["bread", "nobody", "car"])] == ["car", "bread"]
    assert [d.text for d in remote.documents(text=False, limit=1)] == [""]
    assert remote.documents(limit=0) == []
    assert remote.count({"flag": True}) == 1
    assert remote.count({}) == 6


def test_queries_without_a_model(db: SpladeLite, remote: Remote) -> None:
    for collection in (db, remote):
        fill(collection)
    if not remote.engine.can_count_terms:
        with pytest.raises(Unsupported, match="idf"):
            remote.search("car", encoder="idf")
        return
    for query in QUERIES:
        assert exactly(db, query, encoder="idf")[0][0] == exactly(remote, query, encoder="idf")[0][0]
        assert remote.search(query, encoder="idf")[0].score == pytest.approx(
            db.search(query, encoder="idf", mode="splade")[0].score
        )


@pytest.mark.parametrize("engine", ENGINES)
def test_random_filters_select_the_same_documents(engine: str, running: Servers, tmp_path: Path) -> None:
    rng = random.Random(5)
    rows = [random_metadata(rng) for _ in range(60)]
    ids = [f"id{i}" for i in range(len(rows))]
    vectors = [{i + 1: 1.0, 500: 0.5} for i in range(len(rows))]
    unsupported = some = 0
    with SpladeLite(tmp_path / "kb.db") as db, open_remote(engine, running) as remote:
        for collection in (db, remote):
            collection.add(ids, ids=ids, metadata=rows, vectors=vectors)
        for _ in range(300 if engine in ("postgres", "shards") else 150):
            where = random_filter(rng)
            expected = [hit.id for hit in db.search({500: 1.0}, 100, where=where)]
            try:
                found = [hit.id for hit in remote.search({500: 1.0}, 100, where=where)]
            except Unsupported:
                unsupported += 1
                continue
            assert found == expected, where
            assert remote.count(where) == len(expected), where
            some += 0 < len(expected) < len(rows)
    assert some > 10
    assert unsupported < (130 if engine == "qdrant" else 30)  # $icontains of $text; of Qdrant also parts, orders


def test_ids_and_moments_in_filters(db: SpladeLite, remote: Remote) -> None:
    times = ["2024-05-01T12:00:00+02:00", "2024-05-01T10:00:00Z", "2024-05-01T10:00:01Z", "2024-05-01", "yesterday", 7]
    ids = [f"t{i}" for i in range(len(times))]
    for collection in (db, remote):
        collection.add([f"text {id}" for id in ids], ids=ids, metadata=[{"a": {"at": time}} for time in times])
    for where in (
        {"a.at": times[1]},
        {"a.at": {"$gt": times[0]}},
        {"a.at": {"$lte": times[1]}},
        {"a.at": {"$in": [times[0], "yesterday"]}},
        {"a.at": {"$ne": times[0]}},
        {"$id": "t3"},
        {"$id": {"$in": ["t1", "t5", "nobody"]}},
        {"$not": {"$id": "t3"}},
        {"$id": {"$gt": "t2"}},
    ):
        try:
            assert [d.id for d in remote.documents(where)] == [d.id for d in db.documents(where)], where
        except Unsupported:
            assert "qdrant" in remote.engine.server
    if "qdrant" in remote.engine.server:
        with pytest.raises(Unsupported, match="text"):
            remote.count({"$text": {"$contains": "x"}})
    else:
        assert remote.count({"$text": {"$contains": "t3"}}) == 1


def test_ties_go_to_the_document_that_was_stored_first(remote: Remote) -> None:
    rng = random.Random(3)
    ids = [f"id{i}" for i in range(300)]
    rng.shuffle(ids)
    terms = rng.sample(range(1000, 20000), 40)
    vector = {term: rng.random() + 0.1 for term in terms}
    remote.add([f"text {id}" for id in ids], ids=ids, vectors=[vector] * len(ids))
    query = {term: rng.random() for term in terms}
    assert [hit.id for hit in remote.search(query, 20)] == ids[:20]
    assert [hit.id for hit in remote.search(query, 299)] == ids[:299]
    assert len({hit.score for hit in remote.search(query, 299)}) == 1


def test_a_document_scores_as_its_best_passage(remote: Remote) -> None:
    """Many passages of few documents: more passages than k have to be looked at."""
    words = "river bank money tree car crash accident house red blue water sun day night city road".split()  # noqa: SIM905
    rng = random.Random(1)
    texts = [" ".join(rng.choices(words, k=3000)) for _ in range(4)] + ["a river", "a house"]
    remote.add(texts, ids=list("abcdef"))
    assert {hit.id for hit in remote.search("river house", 6)} == set("abcdef")
    for hit in remote.search("river house", 2):
        assert hit.score == pytest.approx(remote.explain("river house", hit.id).score)
        assert hit.passage == remote.explain("river house", hit.id).passage


# -- moving ------------------------------------------------------------------------------------------------------------


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
        for document, spans in zip(encoded.documents, encoded.spans, strict=True):
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
            rows.append((document.id, document.text, document.metadata, document.content_hash, list(spans), vectors))
        after = int(batch.numbers[-1])
    origin.close()
    return rows


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_there_and_back(engine: str, running: Servers, tmp_path: Path) -> None:
    path, back, url = str(tmp_path / "kb.db"), str(tmp_path / "back.db"), running.url(engine)
    random_database(tmp_path / "kb.db", 700)
    seen: list[tuple[int, int | None]] = []
    moved = move(path, url, progress=lambda done, total: seen.append((done, total)))
    assert (moved.documents, moved.new) == (602, 602)
    assert seen[-1] == (602, 602)
    assert content(url) == content(path)
    assert move(path, url).new == 0
    assert move(url, back).new == 602
    assert content(back) == content(path)
    assert not os.path.exists(back + ".moving")
    assert move(url, back).new == 0
    found = verify(path, url, queries=40)
    assert found.equal
    assert found.queries == 40
    assert found.worst < 1e-12
    with SpladeLite(back) as db:
        assert db.check() == []
        assert db.search("zebra", mode="bm25")[0].id == "long"
        db.add(["Another river"], ids=["another"])
        db.update("d1", metadata={"n": -1})
    with pytest.raises(IdConflict, match="'d1'"):
        move(back, url)
    with connect(url) as there:
        there.update("d1", metadata={"n": -1})
        assert not verify(path, url, queries=5).contents
    assert move(back, url).new == 1
    with connect(url) as there:
        assert there.get("another") is not None
        there.delete(["d2"])
    found = verify(back, url, queries=20)
    assert not found.equal
    assert found.documents == (603, 602)


CHILD = """
import sys
from spladelite.transfer.move import move
move(sys.argv[1], sys.argv[2])
"""


def kill_and_repeat(path: str, url: str, kills: int, rng: random.Random, longest: float = 1.5) -> int:
    """``move`` in a child that is killed at random moments, then undisturbed; how often it was killed in the middle."""
    killed = 0
    for _ in range(kills):
        child = subprocess.Popen([sys.executable, "-c", CHILD, path, url], stderr=subprocess.DEVNULL)
        try:
            child.wait(0.5 + rng.random() * longest)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            killed += 1
    move(path, url)
    return killed


@pytest.mark.parametrize("engine", ["postgres", "shards", "file"])
def test_a_move_that_is_killed_goes_on(engine: str, running: Servers, tmp_path: Path) -> None:
    path = str(tmp_path / "kb.db")
    random_database(tmp_path / "kb.db", 2500)
    if engine == "file":
        there = running.url("postgres")
        move(path, there)
        target = str(tmp_path / "back.db")
        path, there = there, path
    else:
        target = running.url(engine)
    kill_and_repeat(path, target, 3, random.Random(4))
    assert content(target) == content(path)


@pytest.mark.parametrize("engine", ["postgres", "clickhouse"])
def test_nothing_half_moved_is_searched(engine: str, running: Servers, tmp_path: Path) -> None:
    path, url = str(tmp_path / "kb.db"), running.url(engine)
    random_database(tmp_path / "kb.db", 1200)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(path, url, progress=stop)
    with connect(url) as half:
        assert isinstance(half, Remote)
        for call in (lambda: half.search("x"), lambda: half.get("d1"), lambda: half.count(), lambda: half.add(["x"])):
            with pytest.raises(Unfinished, match="repeat the same"):
                call()
    with pytest.raises(Unfinished):
        move(url, str(tmp_path / "back.db"))
    random_database(tmp_path / "other.db", 10)
    with pytest.raises(InvalidInput, match="is being filled from"):
        move(str(tmp_path / "other.db"), url)
    with SpladeLite(path) as db:  # what goes meanwhile, or changes, is not left behind
        db.delete(["d1", "d2"])
        db.upsert(["Another text of d3"], ids=["d3"])
        left = len(db)
    move(path, url)
    with connect(url) as there:
        assert len(there) == left
        assert there.get("d3") == SpladeLite(path, read_only=True).get("d3")
    assert verify(path, url, queries=20).equal


def test_search_while_others_write(running: Servers) -> None:
    """A reader sees whole batches only, on two shards without transactions."""
    url = running.url("shards")
    with connect(url) as one, connect(url) as two:
        assert isinstance(one, Remote)
        assert isinstance(two, Remote)
        batch = two.engine.numbers(3)
        from spladelite.arguments import new_documents
        from spladelite.documents.ingest import encode_documents
        from spladelite.transfer.engine import Batch

        documents = list(new_documents(TEXTS[:3], IDS[:3], None, None, 30522))
        encoded = encode_documents(documents, two._models)
        engine: Any = two.engine
        real = engine._batch
        engine._batch = lambda *_: None  # everything but the last row, which makes it visible
        engine.write(Batch(np.arange(batch, batch + 3), encoded), [])
        assert one.count() == 0
        assert one.search("car") == []
        assert one.get("car") is None
        real(batch, 0, 1)
        assert one.count() == 3
        assert [hit.id for hit in one.search("car", 1)] == ["car"]


# -- files for OpenSearch and Elasticsearch ----------------------------------------------------------------------------


def nine_bits(weight: float) -> float:
    """What Lucene's FeatureField keeps of a weight: the upper 17 bits of a float32 below its sign."""
    bits = np.float32(weight).view(np.int32)
    return float(np.int32((bits >> 15) << 15).view(np.float32))


def matches(source: dict[str, Any], condition: dict[str, Any]) -> bool:
    """A filter of the query language, for the few clauses that are written."""
    ((kind, body),) = condition.items()
    if kind == "term":
        ((field, value),) = body.items()
        return value in source[field]
    if kind in ("match_all", "match_none"):
        return bool(kind == "match_all")
    return (
        all(matches(source, part) for part in body.get("filter", []))
        and not any(matches(source, part) for part in body.get("must_not", []))
        and ("should" not in body or any(matches(source, part) for part in body["should"]))
    )


def lucene(rows: list[dict[str, Any]], body: dict[str, Any], keep: Callable[[float], float]) -> list[str]:
    """The ids that a search body finds, by its definition."""
    query = body["query"]
    condition: dict[str, Any] = {"match_all": {}}
    if "bool" in query:
        (condition,) = query["bool"]["filter"]
        (query,) = query["bool"]["must"]
    tokens = (
        query["neural_sparse"]["splade"]["query_tokens"]
        if "neural_sparse" in query
        else query["sparse_vector"]["query_vector"]
    )
    scored = [
        (-sum(weight * keep(row["splade"].get(token, 0.0)) for token, weight in tokens.items()), row["number"],
         row["ordinal"], row["id"])
        for row in rows if matches(row, condition)
    ]  # fmt: skip
    return list(dict.fromkeys(id for score, _, _, id in sorted(scored) if score < 0))[: body["size"]]


@pytest.mark.parametrize("flavour", ["opensearch", "elasticsearch"])
def test_bulk_files_hold_what_a_search_needs(flavour: str, tmp_path: Path, db: SpladeLite) -> None:
    """Never run against a server: the entries are searched here, by what the query language means."""
    fill(db)
    db.add([f"{word} and water" for word in ("river", "bread", "car", "road", "tree")])
    folder = tmp_path / "export"
    moved = move(db.path, f"{flavour}://{folder}")
    assert (moved.documents, moved.left) == (11, ("bm25",))
    mapping = json.loads((folder / "index.json").read_text())["mappings"]["properties"]
    lines = [json.loads(line) for line in (folder / "bulk-0001.ndjson").read_text().splitlines()]
    rows = lines[1::2]
    assert len({action["index"]["_id"] for action in lines[::2]}) == len(rows) == db.stats().passages
    assert all(row.keys() <= mapping.keys() for row in rows)
    assert not any("." in token for row in rows for token in row["splade"])
    for query in QUERIES:
        for where in (
            None,
            {"year": 2020},
            {"year": {"$nin": [2020, "2020"]}},
            {"a.b": {"$exists": True}},
            {"a": None},
        ):
            hits = db.search(query, 5, where=where, mode="splade")
            if hits:
                body = search_body(flavour, hits[0].query, 5, where)
                assert lucene(rows, body, float) == [hit.id for hit in hits]
                assert len(lucene(rows, body, nine_bits)) == len(hits)
    with pytest.raises(Unsupported, match="equality"):
        search_body(flavour, {1: 1.0}, where={"year": {"$gt": 1}})
    with pytest.raises(InvalidInput, match="exists"):
        move(db.path, f"{flavour}://{folder}")


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/kb", "unknown scheme 'mysql'"),
        ("http://user:secret@host/kb", "unknown scheme"),
        ("clickhouse://host", "name of the database"),
        ("qdrant://host:6333", "name of the collection"),
        ("postgresql://host/a/b", "name of the database"),
        ("qdrant://host:port/kb", "not a URL"),
        ("qdrant://host:1/kb?password=secret", "unknown option 'password'"),
        ("clickhouse://", "three slashes and a folder"),
        ("clickhouse://host/kb;drop", "cannot name"),
        ("postgresql://host/kb?schema=a.b", "cannot be used"),
        ("opensearch://host/kb", "opensearch:///folder"),
    ],
)
def test_urls_that_cannot_be_used(url: str, message: str) -> None:
    for extra in ("clickhouse_driver", "qdrant_client", "psycopg"):
        pytest.importorskip(extra)
    with pytest.raises((InvalidInput, ServerError), match=message) as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_connect_to_a_path_is_a_file(path: str) -> None:
    with connect(path) as db:
        assert isinstance(db, SpladeLite)
    with pytest.raises(WrongType):
        connect(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="backup"):
        move(path, path + "2")


@pytest.mark.parametrize("scheme", ["clickhouse", "qdrant", "postgresql"])
def test_a_server_that_is_down(scheme: str) -> None:
    pytest.importorskip({"clickhouse": "clickhouse_driver", "qdrant": "qdrant_client"}.get(scheme, "psycopg"))
    (port,) = servers.free_ports(1)
    start = time.monotonic()
    with pytest.raises(ServerError, match=rf"{scheme}://127.0.0.1:{port}.*does not answer") as caught:
        connect(f"{scheme}://me:secret@127.0.0.1:{port}/kb")
    assert "secret" not in str(caught.value)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("engine", ["postgres", "clickhouse"])
def test_a_wrong_password(engine: str, running: Servers) -> None:
    url = running.url(engine).replace(":secret@", ":wrong!word@")
    with pytest.raises(ServerError, match="refuses the login") as caught:
        connect(url)
    assert "wrong!word" not in str(caught.value)


def test_a_shard_that_is_down_is_an_error_and_not_a_shorter_list(running: Servers) -> None:
    url = running.url("shards")
    shards = running.start("clickhouse")
    with connect(url) as remote:
        texts = [f"A river called {name} " for name in ("Elbe", "Rhine", "Weser", "Spree", "Havel", "Oder")] * 5
        remote.add([f"{text}{i}" for i, text in enumerate(texts)])
        full = [hit.id for hit in remote.search("river", 30)]
        assert len(full) == 30
        shards[1].kill()
        try:
            for call in (
                lambda: remote.search("river", 30, timeout=5),
                lambda: len(remote),
                lambda: remote.add(["x"]),
                lambda: list(remote),
            ):
                start = time.monotonic()
                with pytest.raises(ServerError, match="shard"):
                    call()
                assert time.monotonic() - start < 15
        finally:
            shards[1].start()
        assert [hit.id for hit in remote.search("river", 30)] == full


def test_another_model_another_format_another_owner(remote: Remote) -> None:
    fill(remote)
    from spladelite.encoders.objects import from_functions
    from spladelite.encoders.registry import bundled_encoder

    bundled = bundled_encoder()
    other = from_functions(bundled.encode_documents, bundled.encode_queries, tokenizer=bundled.tokenizer, name="other")
    with pytest.raises(ModelMismatch, match="splade-tiny"):
        Remote(remote.engine, other)
    with pytest.raises(ReadOnly, match="read_only"):
        Remote(remote.engine, read_only=True).add(["x"])
    remote.engine.set_meta({"format": "99"})
    with pytest.raises(UnsupportedFormat, match="newer"):
        Remote(remote.engine)


def test_a_move_into_a_collection_of_another_model(running: Servers, tmp_path: Path) -> None:
    url = running.url("postgres")
    random_database(tmp_path / "kb.db", 10)
    with connect(url) as remote:
        remote.engine.set_meta({"fingerprint": "f" * 64})  # type: ignore[union-attr]
    with pytest.raises(ModelMismatch, match="give an empty collection"):
        move(tmp_path / "kb.db", url)


def test_an_engine_that_is_too_old(running: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, module, oldest in (("postgres", "postgres", 990_000), ("clickhouse", "clickhouse", (99, 1))):
        url = running.url(engine)
        monkeypatch.setattr(f"spladelite.transfer.{module}.OLDEST", oldest)
        with pytest.raises(ServerError, match=r"99.*oldest known"):
            open_engine(url)


def test_a_full_disk_is_named(running: Servers) -> None:
    """The drivers' own words for it, and that the batch is gone."""
    from spladelite.transfer.clickhouse_clients import refusal

    url = running.url("postgres")
    with connect(url) as remote:
        assert isinstance(remote, Remote)
        fill(remote)
        engine: Any = remote.engine
        import psycopg

        def fill_up() -> None:
            with engine._transaction() as cursor:
                cursor.execute(f"DELETE FROM {engine._schema}.document")
                raise psycopg.errors.DiskFull("could not extend file: No space left on device")

        with pytest.raises(ServerError, match="no room left"):
            fill_up()
        assert remote.count() == len(TEXTS)
    assert "no room" in str(refusal("clickhouse://host/kb", 243, "Cannot reserve 1.00 MiB, not enough space"))


def test_bad_arguments_are_the_same_errors_as_in_a_file(remote: Remote) -> None:
    fill(remote)
    for call, error in BAD:
        with pytest.raises(error):
            call(remote)
    assert remote.count() == len(TEXTS)


BAD: list[tuple[Callable[[Remote], object], type[Exception]]] = [
    (lambda r: r.search("x", k=0), InvalidInput),
    (lambda r: r.search(7), WrongType),  # type: ignore[arg-type]
    (lambda r: r.search("x", where={"a": {"$what": 1}}), InvalidFilter),
    (lambda r: r.search("x", where="year > 2000"), Unsupported),
    (lambda r: r.search("x", mode="bm25"), Unsupported),
    (lambda r: r.search("x", encoder="magic"), InvalidInput),
    (lambda r: r.search("x", timeout=-1), InvalidInput),
    (lambda r: r.add([""]), InvalidText),
    (lambda r: r.add(["x"], ids=["a\0b"]), InvalidInput),
    (lambda r: r.add(["x"], vectors=[{1: float("nan")}]), InvalidInput),
    (lambda r: r.add(["x"], vectors=[{1: -1.0}]), InvalidInput),
    (lambda r: r.delete(), InvalidInput),
    (lambda r: r.update("car"), InvalidInput),
    (lambda r: r.documents(order_by="year"), Unsupported),
    (lambda r: r.documents(limit=-1), InvalidInput),
    (lambda r: r.search("x", diversity=0.5), Unsupported),
    (lambda r: r.search("x", offset=-1), InvalidInput),
    (lambda r: r.search("x", where={"$text": {"$icontains": "a"}}), Unsupported),
    (lambda r: r.add(["x"], on_conflict="what"), InvalidInput),  # type: ignore[arg-type]
]


def test_a_collection_that_is_not_ours() -> None:
    client = pytest.importorskip("qdrant_client").QdrantClient(":memory:")
    from spladelite.transfer.qdrant import Qdrant
    from spladelite.transfer.qdrant_clients import ServerClient

    client.create_collection("kb", vectors_config={})
    with pytest.raises(NotADatabase, match="did not make"):
        Remote(Qdrant(ServerClient(client, "kb", "qdrant://memory/kb")))
    with pytest.raises(NotADatabase, match="holds no"):
        Remote(Qdrant(ServerClient(client, "kc", "qdrant://memory/kc")), read_only=True)


def test_the_command_line(running: Servers, tmp_path: Path) -> None:
    url = running.url("postgres")
    random_database(tmp_path / "kb.db", 40)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "spladelite", *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120
        )

    assert "36 documents, 36 of them new" in run("move", "kb.db", url).stdout
    assert "36 documents, 0 of them new" in run("move", "kb.db", url).stdout
    done = run("verify", "kb.db", url, "--queries", "20")
    assert re.match(r"0 of 20 top-10 lists differ; .* 36 and 36 documents", done.stdout), done.stderr
    assert done.returncode == 0
    with connect(url) as remote:
        remote.delete(["d1"])
    assert run("verify", "kb.db", url, "--queries", "20", "--json").returncode == 1
    assert "A short one" in run("search", url, "short", "-k", "2").stdout
    assert json.loads(run("get", url, "d2", "--json").stdout)[0]["metadata"] == {"n": 2}
    assert run("delete", url, "d2").returncode == 0
    assert run("add", url, "-").returncode == 2
    assert "documents  34" in re.sub(" +", "  ", run("stats", url).stdout)
    assert run("move", "kb.db", "nosuch://x/y").returncode == 2
    assert run("move", "kb.db", "postgresql://me:secret@127.0.0.1:1/kb").returncode == 3


# -- docs/scale.md -----------------------------------------------------------------------------------------------------


def test_the_page_does_what_it_says(running: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands and its Python, with a server of the tests' own in place of the one that it names."""
    page = (Path(__file__).parents[1] / "docs" / "scale.md").read_text("utf-8")
    url = running.url("postgres")
    monkeypatch.chdir(tmp_path)
    with SpladeLite("kb.db") as db:
        texts = ["A car crashed into a tree.", "Let the bread cool for an hour.", "The cat sleeps on the windowsill."]
        db.add(texts, ids=["car", "bread", "cat"], metadata=[{"topic": t} for t in ("news", "food", "pets")])
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.replace(PAGE_URL, url), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    ran = 0
    for (language, code), (_, following) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language == "console":
            for command in code.removeprefix("$ ").split("\n$ "):
                line, _, expected = command.partition("\n")
                done = subprocess.run(
                    [sys.executable, "-m", *shlex.split(line)], capture_output=True, text=True, timeout=120
                )
                assert done.returncode == 0, done.stderr
                if expected:
                    assert_alike(SMALL.sub("#", done.stdout.strip()), SMALL.sub("#", expected.strip()))
                ran += 1
        elif language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "scale.md", "exec"), names)
            assert_alike(printed.getvalue(), following)
            ran += 1
    assert ran == 5


PAGE_URL = "postgresql://me@localhost/kb"
SMALL = re.compile(r"\d\.\de[-+]\d+")
