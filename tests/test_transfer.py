"""The same collection in other engines: every engine is held against a file that gets the same calls."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filter_oracle import random_filter, random_metadata
from remotes import ENGINES, IDS, QUERIES, TEXTS, Servers, assert_same, fill, modes, open_remote

from spladelite import SpladeLite
from spladelite.errors import (
    DocumentNotFound,
    IdConflict,
    InvalidInput,
    UnreadText,
    Unsupported,
)
from spladelite.index.words import analyzer
from spladelite.transfer.connect import connect
from spladelite.transfer.move import move
from spladelite.transfer.remote import Remote


def test_every_method_as_in_a_file(db: SpladeLite, remote: Remote) -> None:
    for collection in (db, remote):
        fill(collection)
        assert collection.add(TEXTS[:2], ids=IDS[:2]) == IDS[:2]
        with pytest.raises(IdConflict, match="'car'"):
            collection.add(["something else"], ids=["car"])
    assert_same(db, remote)
    for query in QUERIES:
        assert [hits[0].id for hits in remote.search_many([query, ""], 3) if hits] == [
            db.search(query, mode=modes(remote)[0])[0].id
        ]
    assert remote.search_many([{2482: 1.0, 4000: 0.5}])[0][0].id == db.search({2482: 1.0, 4000: 0.5})[0].id
    assert_same(db, remote, k=2)
    assert_same(db, remote, min_score=5.0)
    assert remote.search("zebra")[0].passage.text in db.search("zebra")[0].text
    for mode in modes(remote):
        assert remote.highlight(remote.search("zebra", mode=mode)[0]) == db.highlight(db.search("zebra", mode=mode)[0])
    for id in IDS:
        assert remote.get(id) == db.get(id)
        for query in QUERIES:
            for mode in modes(remote):
                ours, theirs = db.explain(query, id, mode=mode), remote.explain(query, id, mode=mode)
                assert theirs.score == pytest.approx(ours.score, rel=1e-5)
                assert [term.term for term in theirs.terms] == [term.term for term in ours.terms]
                assert theirs.passage == ours.passage or ours.score == 0
                assert theirs.unread == ours.unread
                for part, other in zip(ours.parts, theirs.parts, strict=True):
                    assert (part.part, part.words.keys()) == (other.part, other.words.keys())
                    assert [other.score, *other.words.values()] == pytest.approx(
                        [part.score, *part.words.values()], rel=1e-5
                    )
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
    assert figures.bm25 == (figures.word_postings is not None)
    assert figures.language == (db.stats().language if figures.bm25 else None)


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
    assert_same(db, remote, encoder="idf", mode="splade")
    assert_same(db, remote, encoder="idf", mode="hybrid")


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


WORDS = "river bank money tree car crash accident house red blue water sun day night city road 日本 東京".split()  # noqa: SIM905


def random_text(rng: random.Random) -> str:
    """A few words of few; now and then several passages, one word 300 times, or what the model cannot read."""
    kind = rng.random()
    if kind < 0.05:
        return "東京は日本の首都です。" + "".join(rng.choices("京都大阪神戸川山", k=rng.randint(20, 60)))
    if kind < 0.1:
        return " ".join(rng.choices(WORDS, k=700))
    if kind < 0.15:
        return rng.choice(WORDS[:4]) + " sun" * 300
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))


def random_writes(rng: random.Random, collections: tuple[SpladeLite, Remote], count: int) -> None:
    """The same documents added, replaced, changed and deleted everywhere."""
    ids = [f"d{i}" for i in range(60)]
    for _ in range(count):
        some = rng.sample(ids, rng.randint(1, 12))
        texts = [random_text(rng) for _ in some]
        metadata = [{"n": rng.randrange(9)} for _ in some]
        there = [id for id in collections[0] if id in some]
        roll = rng.random()
        for collection in collections:
            if roll < 0.6 or not there:
                collection.upsert(texts, ids=some, metadata=metadata)
            elif roll < 0.75:
                collection.update(there[0], text=texts[0])
            elif roll < 0.9:
                collection.delete(some)
            else:
                collection.delete(where={"n": metadata[0]["n"]})


@pytest.mark.filterwarnings("ignore::spladelite.errors.UnreadText")
@pytest.mark.parametrize("engine", ENGINES[1:])
def test_words_and_hybrids_after_random_writes(engine: str, running: Servers, tmp_path: Path) -> None:
    """idf and average length are those of what is alive, on both shards together; every kind of search."""
    rng = random.Random(12)
    with SpladeLite(tmp_path / "kb.db", tail_size=40) as db, open_remote(engine, running) as remote:
        for round in range(4 if engine == "postgres" else 2):
            random_writes(rng, (db, remote), 6)
            queries = [random_text(rng) for _ in range(6)] + ["sun river", "nothing of it", "東京 river"]
            assert_same(db, remote, queries)
            assert_same(db, remote, queries, k=3, where={"n": {"$lt": 5}})
            assert_same(db, remote, queries, mode="hybrid", weights={"splade": 0.3, "bm25": 1.0}, offset=2)
            assert_same(db, remote, queries, mode="hybrid", fusion="rrf")
            assert_same(db, remote, queries, mode="hybrid", min_score=0.4)
            assert_same(db, remote, queries, k=2, mode="hybrid", weights={"bm25": 1.0})
            ids = list(db)
            assert list(remote) == ids
            for id in rng.sample(ids, min(3, len(ids))):
                ours, theirs = db.explain(queries[round], id), remote.explain(queries[round], id)
                assert theirs.score == pytest.approx(ours.score, rel=1e-5)
                assert theirs.unread == ours.unread
            figures, stats = remote.stats(), db.stats()
            assert (figures.documents, figures.passages) == (stats.documents, stats.passages)
        remote.optimize()
        assert_same(db, remote, queries)
        assert figures.word_postings is not None
        db.optimize()
        assert remote.stats().word_postings == db.stats().word_postings


def test_a_collection_without_bm25_and_one_of_another_language(running: Servers) -> None:
    url = running.url("postgres")
    with connect(url, bm25=False) as remote:
        assert isinstance(remote, Remote)
        remote.add(TEXTS, ids=IDS)
        assert remote.search("zebra")[0].query == remote.search("zebra", mode="splade")[0].query
        assert (remote.stats().bm25, remote.stats().language, remote.stats().word_postings) == (False, None, 0)
        for wrong in ("bm25", "hybrid"):
            with pytest.raises(InvalidInput, match="bm25=False"):
                remote.search("zebra", mode=wrong)
    with pytest.raises(InvalidInput, match="created with bm25=False, not True"):
        connect(url, bm25=True)
    url = running.url("postgres")
    with connect(url, language="german") as remote:
        remote.add(["Das Haus und die Häuser", "Ein Baum"], ids=["a", "b"])
        assert [hit.id for hit in remote.search("Haus", mode="bm25")] == ["a"]
        assert "**Häuser**" in remote.highlight(remote.search("Haus", mode="bm25")[0])
    with connect(url) as again:
        assert again.stats().language == "german"
    with pytest.raises(InvalidInput, match="has language='german', not None"):
        connect(url, language=None)


def test_an_engine_that_cannot_have_words_says_so(db: SpladeLite, running: Servers) -> None:
    with open_remote("qdrant", running) as remote:
        for collection in (db, remote):
            fill(collection)
        assert [hit.id for hit in remote.search("car")] == [hit.id for hit in db.search("car", mode="splade")]
        for arguments in ({"mode": "bm25"}, {"mode": "hybrid"}, {"weights": {"bm25": 1}}):
            with pytest.raises(Unsupported, match=r"how common words are.*PostgreSQL or ClickHouse"):
                remote.search("car", **arguments)
        with pytest.raises(Unsupported, match="bm25=True"):
            Remote(remote.engine, bm25=True)
        assert not remote.stats().bm25


@pytest.mark.parametrize("engine", ["postgres", "clickhouse"])
def test_what_the_model_cannot_read_is_told_and_left_to_words(engine: str, running: Servers, path: str) -> None:
    """Also after moves, of which the flag is part."""
    text = "東京は日本の首都です。京都は古い都です。"
    with open_remote(engine, running) as remote, SpladeLite(path) as db:
        for collection in (db, remote):
            with pytest.warns(UnreadText, match="such as 'tokyo'"):
                collection.add([text, "A car in the city"], ids=["tokyo", "car"])
        assert_same(db, remote, ["東京 car", "日本の首都", "car"])
        assert remote.explain("car", "tokyo").unread == ("document",)
    url = running.url(engine)
    move(path, url)
    with connect(url) as moved, SpladeLite(path) as db:
        assert isinstance(moved, Remote)
        assert_same(db, moved, ["東京 car", "日本の首都", "car"])
    move(url, path + "2")
    with SpladeLite(path + "2", read_only=True) as back:
        assert back.stats().unread == 1


def test_totals_are_right_after_writers_at_one_moment(running: Servers) -> None:
    """What PostgreSQL counts on with each write is what there is."""
    url = running.url("postgres")
    connect(url).close()

    def write(seed: int) -> None:
        rng = random.Random(seed)
        with connect(url) as remote:
            for _ in range(12):
                ids = rng.sample([f"d{i}" for i in range(12)], 4)
                if rng.random() < 0.3:
                    remote.delete(ids)
                else:
                    texts = [" ".join(rng.choices(WORDS[:9], k=rng.randint(1, 9))) for _ in ids]
                    remote.upsert(texts, ids=ids, vectors=[{5: 1.0}] * 4)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    with connect(url) as remote:
        assert isinstance(remote, Remote)
        documents = remote.documents()
        counts = analyzer("english").count([document.text for document in documents])
        words = np.unique(counts.terms)
        found = remote.engine.frequencies([*words.tolist(), 5])
        assert found.counts == [*(counts.terms == words[:, None]).sum(axis=1).tolist(), len(documents)]
        assert (found.documents, found.passages) == (len(documents), len(documents))
        assert found.words == counts.lengths.sum()
