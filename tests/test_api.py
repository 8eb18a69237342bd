"""What adapters need of the API: listing, pages, results of add, updates by filter, likeness, diversity, relevance."""

from __future__ import annotations

import asyncio
import datetime
import threading
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelite import SpladeLite
from spladelite.errors import DocumentNotFound, IdConflict, InvalidFilter, InvalidInput, InvalidMetadata, WrongType
from spladelite.json_values import merge_patch
from spladelite.search.diversity import diversified

Vector = dict[int, float]


@pytest.fixture
def vectors(small: SpladeLite) -> SpladeLite:
    """Thirty documents d0 ... d29 with vectors of their own: term 1000 in all, weight falling with the number."""
    small.add(
        [f"text {i}" for i in range(30)],
        ids=[f"d{i}" for i in range(30)],
        metadata=[{"n": i, "even": i % 2 == 0} if i != 7 else {"even": False} for i in range(30)],
        vectors=[{1000: 3.0 - i / 20, 2000 + i // 3: 3.0} for i in range(30)],
    )
    return small


QUERY = {1000: 1.0}


def ids(found: Any) -> list[str]:
    return [one.id for one in found]


# --- documents, count, get --------------------------------------------------------------------------------------------


def test_documents_in_order_and_page_after_page(vectors: SpladeLite) -> None:
    assert ids(vectors.documents()) == [f"d{i}" for i in range(30)]
    assert ids(vectors.documents({"even": True}, limit=3, offset=2)) == ["d4", "d6", "d8"]
    assert ids(vectors.documents(order_by="-n", limit=2)) == ["d29", "d28"]
    assert ids(vectors.documents(order_by="n"))[-1] == "d7"  # missing values come last
    assert ids(vectors.documents(order_by="-n"))[-1] == "d7"
    assert ids(vectors.documents(order_by=["-even", "$id"], limit=3)) == ["d0", "d10", "d12"]
    assert ids(vectors.documents(ids=["d3", "nowhere", "d1", "d3"])) == ["d1", "d3"]
    assert ids(vectors.documents({"even": True}, ids=["d3", "d4"])) == ["d4"]
    assert ids(vectors.documents("id > ?", ["d8"], order_by="$id")) == ["d9"]
    assert ids(vectors.documents({"even": False}, where_sql="id > 'd8'")) == ["d9"]
    assert vectors.documents(limit=0) == []
    assert vectors.documents(offset=100) == []
    assert vectors.documents(ids=[]) == []
    (document,) = vectors.documents(ids=["d5"], text=False)
    assert (document.id, document.text, document.metadata) == ("d5", "", {"n": 5, "even": False})
    pages = [one for offset in range(0, 30, 7) for one in vectors.documents(limit=7, offset=offset)]
    assert pages == vectors.documents()


def test_count_and_get_of_many(vectors: SpladeLite) -> None:
    assert vectors.count() == len(vectors) == 30
    assert vectors.count({"even": True}) == 15
    assert vectors.count({"even": True}, where_sql="id = ?", where_args=["d4"]) == 1
    found = vectors.get(["d2", "nowhere", "d1", "d2"])
    assert [one and one.id for one in found] == ["d2", None, "d1", "d2"]
    assert found[0] == vectors.get("d2")
    assert vectors.get([]) == []
    assert vectors.get(iter(["d9"])) == [vectors.get("d9")]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"limit": -1}, InvalidInput, "limit is -1"),
        ({"offset": -1}, InvalidInput, "offset is -1"),
        ({"offset": None}, WrongType, "offset is None"),
        ({"limit": 1.5}, WrongType, "limit is"),
        ({"order_by": 7}, WrongType, "order_by is 7"),
        ({"order_by": [7]}, WrongType, "order_by is"),
        ({"order_by": 'a"b'}, InvalidFilter, "cannot be used"),
        ({"ids": [1]}, WrongType, r"ids\[0\]"),
        ({"where": {}, "where_args": [1]}, InvalidFilter, "where_args"),
    ],
)
def test_wrong_arguments_of_documents(db: SpladeLite, arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        db.documents(**arguments)


def test_get_of_many_refuses_what_is_no_id(db: SpladeLite) -> None:
    for wrong in (b"x", {"a": 1}, 7, [7]):
        with pytest.raises(WrongType, match="ids"):
            db.get(wrong)  # type: ignore[arg-type]


# --- add --------------------------------------------------------------------------------------------------------------


def test_add_says_what_became_of_each_id(db: SpladeLite) -> None:
    added = db.add(["one", "two"], ids=["a", "b"])
    assert added == ["a", "b"]
    assert (added.new, added.replaced, added.unchanged) == (["a", "b"], [], [])
    with pytest.raises(IdConflict, match="on_conflict"):
        db.add(["one", "other"], ids=["a", "b"])
    added = db.add(["one", "other", "three"], ids=["a", "b", "c"], on_conflict="skip")
    assert (added.new, added.replaced, added.unchanged) == (["c"], [], ["a", "b"])
    assert db.get("b").text == "two"  # type: ignore[union-attr]
    added = db.add(["one", "other", "three"], ids=["a", "b", "c"], on_conflict="replace")
    assert (added, added.new, added.replaced, added.unchanged) == (["a", "b", "c"], [], ["b"], ["a", "c"])
    assert db.get("b").text == "other"  # type: ignore[union-attr]
    assert db.upsert("one", "a", {"x": 1}).replaced == ["a"]
    with pytest.raises(InvalidInput, match="on_conflict is 'ignore'"):
        db.add("x", on_conflict="ignore")  # type: ignore[arg-type]


def test_a_conflict_is_decided_in_the_transaction_that_stores(path: str) -> None:
    """Two threads add other texts under one id: one is new, the other is left out, and nothing raises."""
    outcomes = []

    def add(text: str) -> None:
        with SpladeLite(path) as own:
            added = own.add([text] * 1, ids=["same"], vectors=[{1: 1.0}], on_conflict="skip")
            outcomes.append((len(added.new), len(added.unchanged)))

    SpladeLite(path).close()
    threads = [threading.Thread(target=add, args=(f"text {i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [(0, 1), (0, 1), (0, 1), (1, 0)]


def test_two_chunks_of_boilerplate_are_two_documents(db: SpladeLite) -> None:
    same = "All rights reserved."
    added = db.add([same, same, same], metadata=[{"file": "a"}, {"file": "b"}, {"file": "a"}])
    assert len(set(added)) == len(db) == 2
    assert added[0] == added[2]
    assert db.add(same, metadata={"file": "b"}).unchanged == [added[1]]
    assert db.add(same) == db.add(same, metadata={}) == db.add([same], ids=[None])
    assert len(db) == 3


def test_none_among_ids_means_make_one(db: SpladeLite) -> None:
    made, given_ = db.add(["text one", "text two"], ids=[None, "two"])
    assert given_ == "two"
    assert db.add("text one") == [made]


def test_values_of_python_are_stored_as_json(db: SpladeLite) -> None:
    when = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    db.add(
        "text",
        "a",
        {
            "when": when,
            "day": when.date(),
            "key": uuid.UUID(int=1),
            "price": Decimal("19.90"),
            "whole": Decimal(3),
            "numbers": [np.float32(0.5), np.int64(7), np.bool_(True), np.datetime64("2024-05-01T01", "h")],
        },
    )
    assert db.get("a").metadata == {  # type: ignore[union-attr]
        "when": "2024-05-01T12:00:00+00:00",
        "day": "2024-05-01",
        "key": "00000000-0000-0000-0000-000000000001",
        "price": 19.9,
        "whole": 3,
        "numbers": [0.5, 7, True, "2024-05-01T01:00:00"],
    }
    assert db.count({"when": when, "day": when.date(), "price": Decimal("19.9")}) == 1
    for value in ((1, 2), {1}, b"x", datetime.time(1), np.array([1]), 1j, Decimal("NaN"), np.timedelta64(1, "s")):
        with pytest.raises(InvalidMetadata):
            db.add("other", metadata={"x": value})


# --- update -----------------------------------------------------------------------------------------------------------


def test_update_of_all_that_match(vectors: SpladeLite) -> None:
    assert vectors.update(where={"even": True}, metadata={"n": None, "seen": {"by": "x"}}, merge=True) == 15
    assert vectors.get("d4").metadata == {"even": True, "seen": {"by": "x"}}  # type: ignore[union-attr]
    assert vectors.get("d5").metadata == {"n": 5, "even": False}  # type: ignore[union-attr]
    assert vectors.update("d4", metadata={"seen": {"at": 1}}, merge=True) == 1
    assert vectors.get("d4").metadata == {"even": True, "seen": {"by": "x", "at": 1}}  # type: ignore[union-attr]
    assert vectors.update("d4", text="new text", metadata={"even": None}, merge=True) == 1
    assert vectors.get("d4").metadata == {"seen": {"by": "x", "at": 1}}  # type: ignore[union-attr]
    assert vectors.update(where="id = 'd5'", metadata={"only": 1}) == 1
    assert vectors.get("d5").metadata == {"only": 1}  # type: ignore[union-attr]
    assert vectors.update(where={"$id": "nowhere"}, metadata={}) == 0
    assert vectors.check() == []


def test_updates_that_make_no_sense_are_refused(db: SpladeLite) -> None:
    with pytest.raises(InvalidInput, match="an id or where="):
        db.update(metadata={})
    with pytest.raises(InvalidInput, match="an id or where="):
        db.update("a", metadata={}, where={})
    with pytest.raises(InvalidInput, match="belongs to one document"):
        db.update(text="x", where={})
    with pytest.raises(InvalidInput, match="changes nothing"):
        db.update(where={})
    with pytest.raises(DocumentNotFound):
        db.update("a", metadata={}, merge=True)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # the examples of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


# --- pages, texts, likeness -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [None, {"even": True}])
def test_pages_of_a_search_are_the_whole(vectors: SpladeLite, where: Any) -> None:
    whole = vectors.search(QUERY, 30, where)
    assert ids(whole)[:2] == ["d0", "d1" if where is None else "d2"]
    for offset in (0, 1, 9, 29, 30, 500):
        assert vectors.search(QUERY, 5, where, offset=offset) == whole[offset : offset + 5]
        assert vectors.search_many([QUERY] * 3, 5, where, offset=offset) == [whole[offset : offset + 5]] * 3


def test_pages_of_other_modes(db: SpladeLite) -> None:
    db.add([f"the engine number {i} {'starts ' * i}" for i in range(8)], ids=[f"e{i}" for i in range(8)])
    for arguments in ({"mode": "bm25"}, {"mode": "hybrid"}, {"rerank": lambda _, texts: [len(text) for text in texts]}):
        whole = db.search("engine starts", 8, **arguments)
        assert len(whole) > 5
        assert db.search("engine starts", 2, offset=3, **arguments) == whole[3:5]


def test_hits_without_texts(db: SpladeLite) -> None:
    db.add(["The cat sleeps.", "The car crashed. " * 300], ids=["cat", "car"], metadata=[{"x": 1}, {}])
    for arguments in ({}, {"mode": "hybrid"}):
        whole = db.search("cat or car", **arguments)  # type: ignore[arg-type]
        bare = db.search("cat or car", text=False, **arguments)  # type: ignore[arg-type]
        assert [hit._replace(text="") for hit in whole] == bare
    assert db.search_many(["cat or car"], text=False) == [db.search("cat or car", text=False)]
    assert bare[0].passage.text == ""
    with pytest.raises(InvalidInput, match="rerank="):
        db.search("cat", text=False, rerank=lambda _, texts: [1.0] * len(texts))


def test_more_like_one_document(vectors: SpladeLite, path: str) -> None:
    """d12, d13 and d14 share a term; of the others the stronger ones are more alike."""
    found = vectors.more_like("d12", 4)
    assert ids(found) == ["d13", "d14", "d0", "d1"]
    assert found == [hit for hit in vectors.search(vectors.vector("d12"), 5) if hit.id != "d12"]
    assert ids(vectors.more_like("d12", 2, {"even": True})) == ["d14", "d0"]
    assert ids(vectors.more_like("d12", 2, offset=1)) == ["d14", "d0"]
    assert ids(vectors.more_like("d29", 3, min_score=100)) == []
    with pytest.raises(DocumentNotFound):
        vectors.more_like("nowhere")
    vectors.export(path + ".slim", slim=True)
    with SpladeLite(path + ".slim") as slim:
        assert slim.vector("d12") == pytest.approx(vectors.vector("d12"))
        assert ids(slim.more_like("d12", 4)) == ids(found)
        with pytest.raises(InvalidInput, match="slim export"):
            slim.search(QUERY, diversity=0.5)


def test_the_vector_of_a_document(db: SpladeLite) -> None:
    given_vector = {5: 0.25, 17: 2.0}
    db.add("text", "own", vectors=given_vector)
    assert db.vector("own") == pytest.approx(given_vector, abs=1 / 255)
    long = "A car crashed into a tree. " * 60 + "The cat sleeps. " * 60
    db.add(long, "long")
    expanded = {term.term_id: term.weight for term in db.expand(long)}
    assert db.vector("long") == pytest.approx(expanded, rel=0.1)
    with pytest.raises(DocumentNotFound):
        db.vector("nowhere")


def test_diverse_hits(vectors: SpladeLite) -> None:
    """Each three neighbours share a term: the plain ranking shows them together, a diverse one does not."""
    assert ids(vectors.search(QUERY, 3, diversity=0.0)) == ["d0", "d1", "d2"]
    diverse = vectors.search(QUERY, 6, diversity=0.5)
    assert diverse[0].id == "d0"
    assert len({int(hit.id[1:]) // 3 for hit in diverse}) == 6
    assert vectors.search(QUERY, 2, diversity=0.5, offset=2) == vectors.search(QUERY, 4, diversity=0.5)[2:]
    assert vectors.search_many([QUERY], 6, diversity=0.5) == [diverse]
    for wrong in (-0.1, 1.5, "much", True, float("nan")):
        with pytest.raises(InvalidInput, match="diversity is"):
            vectors.search(QUERY, diversity=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="leave diversity"):
        vectors.search("text", diversity=0.5, rerank=lambda _, texts: [1.0] * len(texts))


def test_diversity_is_the_greedy_choice_of_its_formula(vectors: SpladeLite) -> None:
    """Against the definition, written out in plain Python."""
    hits = vectors.search(QUERY, 30)
    stored = {hit.id: vectors.vector(hit.id) for hit in hits}
    length = {id: sum(w * w for w in vector.values()) ** 0.5 for id, vector in stored.items()}

    def cosine(a: str, b: str) -> float:
        dot = sum(w * stored[b].get(term, 0.0) for term, w in stored[a].items())
        return float(dot / (length[a] * length[b]))

    best = max(hit.relevance for hit in hits)
    for diversity in (0.2, 0.5, 0.8):
        left, chosen = {hit.id: hit.relevance / best for hit in hits}, list[str]()
        while len(chosen) < 6:
            gain = {
                id: (1 - diversity) * value - diversity * max((cosine(id, one) for one in chosen), default=0.0)
                for id, value in left.items()
            }
            chosen.append(max(gain, key=gain.__getitem__))
            del left[chosen[-1]]
        assert ids(vectors.search(QUERY, 6, diversity=diversity)) == chosen
    assert diversified(None, None, np.empty(0, np.int64), np.empty(0), 5, 0.5) == []  # type: ignore[arg-type]


# --- relevance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"encoder": "idf"},
        {"mode": "bm25"},
        {"mode": "hybrid"},
        {"mode": "hybrid", "fusion": "rrf"},
        {"mode": "hybrid", "weights": {"splade": 3, "bm25": 2}},
        {"mode": "hybrid", "weights": {"bm25": 2}},
        {"rerank": lambda _, texts: [len(text) - 30 for text in texts]},
    ],
)
def test_relevance_rises_with_the_score_from_0_to_1(db: SpladeLite, arguments: Any) -> None:
    db.add([f"An engine and a carburettor{' in a car' * i}." for i in range(6)] + ["engine", "the carburettor"])
    hits = db.search("engine carburettor", 20, **arguments)
    assert len(hits) > 5
    relevances = [hit.relevance for hit in hits]
    assert relevances == sorted(relevances, reverse=True)
    assert all(0 < relevance <= 1 for relevance in relevances)
    by_score = {hit.score: hit.relevance for hit in hits}
    assert len(set(by_score.values())) == len(by_score)


def test_relevance_of_splade_is_a_half_where_the_document_is_the_query(db: SpladeLite) -> None:
    db.add("x", vectors={3: 2.0, 9: 1.0})
    assert db.search({3: 2.0, 9: 1.0})[0].relevance == pytest.approx(0.5, abs=0.01)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_relevance_of_dense_scores_is_monotone(a: float, b: float) -> None:
    from spladelite.search.query_weights import Query
    from spladelite.search.relevance import relevance
    from spladelite.search.request import Request

    low, high = relevance(np.sort(np.array([a, b], np.float32)), Request("dense"), ("dense",), Query("", ()))
    assert 0 <= low <= high <= 1


# --- asyncio ----------------------------------------------------------------------------------------------------------


def test_fifty_tasks_at_once(path: str) -> None:
    """``asyncio.to_thread`` is all that a caller needs: writers and readers together, one handle."""
    with SpladeLite(path) as db:
        db.add("The first engine.", "first", vectors={1000: 1.0})

        async def task(number: int) -> int:
            added = await asyncio.to_thread(db.add, f"engine {number}", f"e{number}", vectors={1000: 1.0 + number})
            assert added.new == [f"e{number}"]
            hits = await asyncio.to_thread(db.search, {1000: 1.0}, 100)
            assert f"e{number}" in ids(hits)
            assert (await asyncio.to_thread(db.get, f"e{number}")) is not None
            return len(hits)

        async def main() -> list[int]:
            return await asyncio.gather(*map(task, range(50)))

        counts = asyncio.run(main())
        assert max(counts) == len(db) == 51
        assert db.check() == []
