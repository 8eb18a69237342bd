"""Dense vectors that the caller gives, with documents and with queries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from five_texts import IDS, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from raw_sql import connections_of

from spladelite import IdConflict, InvalidInput, InvalidVector, ModelError, ModelMismatch, SpladeLite, WrongType

AXES = np.eye(5, dtype=np.float32)
QUERY = np.array([0, 0, 1, 0.5, 0], np.float32)  # "stock", then "cat"


@pytest.fixture
def axes(path: str) -> SpladeLite:
    db = SpladeLite(path, dense=5)
    db.add(TEXTS, ids=IDS, dense=AXES)
    return db


def best(db: SpladeLite, query: str = "", **arguments: Any) -> list[str]:
    return [hit.id for hit in db.search(query, k=2, mode="dense", dense=QUERY, **arguments)]


def test_vectors_of_texts_and_of_a_query(axes: SpladeLite, path: str) -> None:
    hits = axes.search("", mode="dense", dense=QUERY)
    assert [(hit.id, round(hit.score, 2)) for hit in hits[:2]] == [("stock", 1.0), ("cat", 0.5)]
    assert axes.search_many(["", "x"], mode="dense", dense=[QUERY, AXES[0]], k=1)[1][0].id == "car"
    fused = axes.search("the cat", dense=AXES[0])
    assert {"cat", "car"} <= {hit.id for hit in fused[:3]}
    parts = axes.explain("the cat", "car", dense=AXES[0]).parts
    assert {part.part: part.score for part in parts}["dense"] == pytest.approx(1.0, abs=0.01)
    assert best(axes, where="id <> 'stock'") == ["cat", "car"]
    axes.upsert("Interest rates rose.", ids="bread", dense=QUERY)
    axes.update("plant", text="Leaves.", dense=2 * QUERY)
    assert best(axes) == ["plant", "bread"]
    axes.close()
    with SpladeLite(path) as db:  # nothing has to be said again
        assert best(db) == ["plant", "bread"]
        db.add("One more.", ids="more", dense=[0, 0, 3, 3, 3])
        assert best(db) == ["more", "plant"]
        assert db.check() == []


@settings(max_examples=30)
@given(arrays.arrays(np.float32, (12, 4), elements=st.floats(-9, 9, width=32)), st.integers(0, 11))
def test_scores_are_inner_products(vectors: NDArray[np.float32], query: int) -> None:
    with SpladeLite(":memory:", dense=4, tail_size=4, segment_size=8) as db:
        db.add(
            [f"text {i}" for i in range(12)], ids=[str(i) for i in range(12)], dense=vectors, vectors=[{5: 1.0}] * 12
        )
        hits = db.search("", k=12, mode="dense", dense=vectors[query])
        expected = vectors.astype(np.float64) @ vectors[query]
        slack = np.abs(vectors).max(axis=1) / 254 * np.abs(vectors[query]).sum() + 1e-4  # half a step of 8 bits
        assert len(hits) == 12
        for hit in hits:
            assert abs(hit.score - expected[int(hit.id)]) <= slack[int(hit.id)]


def test_a_query_without_a_vector_asks_the_other_indexes(axes: SpladeLite) -> None:
    assert [part.part for part in axes.explain("the cat", "cat").parts] == ["splade", "bm25"]
    assert axes.search("the cat")[0].id == "cat"
    assert axes.sql("SELECT dense FROM hybrid('the cat', 1)") == [(None,)]
    for arguments in ({"mode": "dense"}, {"weights": {"splade": 1, "dense": 1}}):
        with pytest.raises(ModelError, match="dense= with each text and each query"):
            axes.search("the cat", **arguments)
    with pytest.raises(ModelError, match="dense= with each text and each query"):
        axes.add("A text alone.")
    assert len(axes) == 5


def test_content_is_text_and_vector(axes: SpladeLite) -> None:
    assert axes.add(TEXTS, ids=IDS, dense=AXES).unchanged == IDS
    with pytest.raises(IdConflict):
        axes.add(TEXTS[0], ids="car", dense=QUERY)
    assert axes.add(TEXTS[0], ids="car", dense=3 * QUERY, on_conflict="replace").replaced == ["car"]
    assert best(axes) == ["car", "stock"]
    (id,) = axes.add("The same text.", dense=QUERY)
    (other,) = axes.add("The same text.", dense=-QUERY)
    assert id != other


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda db: db.add("x", dense=[1, 2]), InvalidVector, r"dense\[0\] has 2 dimensions.* vectors of 5"),
        (lambda db: db.add("x", dense=[1, 2, np.nan, 4, 5]), InvalidVector, r"dense\[0\] has nan; give finite"),
        (lambda db: db.add("x", dense=[1, 2, 1e39, 4, 5]), InvalidVector, r"dense\[0\] has 1e\+39"),
        (lambda db: db.add(["x", "y"], dense=AXES), InvalidInput, "dense has 5 entries for 2 texts"),
        (lambda db: db.add(["x", "y"], dense=[AXES[0], None]), WrongType, r"dense\[1\] is None"),
        (lambda db: db.add(["x", "y"], dense=["a", "b"]), InvalidVector, r"dense\[0\].*give a vector of 5 numbers"),
        (lambda db: db.add(["x"], dense=7), WrongType, "dense is of type int"),
        (lambda db: db.add((t for t in "xy"), dense=iter(AXES)), InvalidInput, "dense has more than 2 entries"),
        (lambda db: db.update("car", metadata={}, dense=QUERY), InvalidInput, "without its text"),
        (lambda db: db.search("x", dense=[1, 2]), InvalidVector, "dense has 2 dimensions"),
        (lambda db: db.search("x", dense="abc"), InvalidVector, "give a vector of 5 numbers"),
        (lambda db: db.search("x", dense=QUERY, mode="bm25"), InvalidInput, "dense= is for the dense part"),
        (lambda db: db.search_many(["x", "y"], dense=QUERY), InvalidVector, "5 vectors for 2 queries"),
        (lambda db: db.search({5: 1.0}, dense=QUERY), WrongType, "need a text"),
    ],
)
def test_what_is_wrong_with_a_vector_is_said(
    axes: SpladeLite, call: Callable[[SpladeLite], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(axes)
    assert best(axes) == ["stock", "cat"]


def test_files_without_dense_vectors_take_none(db: SpladeLite) -> None:
    with pytest.raises(InvalidInput, match=r"SpladeLite\(path, dense=D\)"):
        db.add("x", dense=QUERY)
    with pytest.raises(InvalidInput, match="no dense vectors; leave dense out"):
        db.search("x", dense=QUERY)


@pytest.mark.parametrize("dense", [0, -1, 1 << 20])
def test_a_dimension_is_a_number_of_numbers(tmp_path: Path, dense: int) -> None:
    with pytest.raises(InvalidInput, match="give 1 to"):
        SpladeLite(tmp_path / "kb.db", dense=dense)
    assert list(tmp_path.iterdir()) == []


def test_opening_again_with_a_dimension_or_an_encoder(axes: SpladeLite, path: str) -> None:
    axes.close()
    SpladeLite(path, dense=5).close()
    with pytest.raises(InvalidInput, match="of 5 dimensions, not of 6"):
        SpladeLite(path, dense=6)

    def encode(texts: list[str]) -> NDArray[np.float32]:
        return np.array([QUERY for _ in texts])

    with SpladeLite(path, dense=encode) as db:  # it encodes the queries
        assert [hit.id for hit in db.search("money", k=2, mode="dense")] == ["stock", "cat"]
        db.add("Money.", ids="money")
        assert best(db) == ["money", "stock"]
    with SpladeLite(path, dense=lambda texts: np.ones((len(texts), 3))) as db, pytest.raises(ModelMismatch):
        db.search("money", mode="dense")


def test_an_encoder_and_given_vectors_in_one_batch(path: str) -> None:
    asked: list[list[str]] = []

    def encode(texts: list[str]) -> NDArray[np.float32]:
        asked.append(texts)
        return np.array([[len(text), 1.0] for text in texts])

    with SpladeLite(path, dense=encode) as db:
        asked.clear()
        db.add(["aa", "bb"], ids=["a", "b"], dense=[[1.0, 9.0], [9.0, 1.0]])
        assert asked == []
        db.add("ccc", ids="c")
        assert asked == [["ccc"]]
        assert [hit.id for hit in db.search("", mode="dense", dense=[1, 0])] == ["b", "c", "a"]
    with SpladeLite(path) as db:  # the function is not there: its queries can still be given
        assert [hit.id for hit in db.search("", mode="dense", dense=[0, 1], k=1)] == ["a"]


def test_every_passage_of_a_text_has_its_vector(path: str) -> None:
    with SpladeLite(path, dense=5) as db:
        db.add([" ".join(["word"] * 2000), "short"], ids=["long", "short"], dense=[QUERY, AXES[0]])
        assert db.stats().passages > 4
        assert best(db) == ["long", "short"]
        assert db.check() == []


def test_vectors_survive_what_the_model_does_not(axes: SpladeLite, path: str) -> None:
    axes.reencode(progress=False)
    assert best(axes) == ["stock", "cat"]
    axes.reencode(language="german", progress=False)
    with connections_of(axes).write() as connection:
        connection.execute(
            "UPDATE passage SET impacts = x'01' WHERE passage_id = (SELECT max(passage_id) FROM passage)"
        )
    assert any("encoded again" in finding.problem for finding in axes.check(repair=True))
    assert best(axes) == ["stock", "cat"]
    with connections_of(axes).write() as connection:
        connection.execute("UPDATE dense_block SET vectors = x'01'")
    findings = axes.check(repair=True)
    assert sum("dense vector of" in finding.problem for finding in findings) == 5
    assert len(axes) == 5
    assert axes.check() == []
    axes.close()
    SpladeLite(path).close()
