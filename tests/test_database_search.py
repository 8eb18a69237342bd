"""Searching through the facade: hits, explanations, filters, SQL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from five_texts import METADATA, TEXTS

import spladelite
from spladelite import SpladeLite
from spladelite.documents import table
from spladelite.search import run


def test_a_query_finds_what_shares_no_word_with_it(filled: SpladeLite) -> None:
    hits = filled.search("automobile accident injury", k=3)
    assert hits[0].id == "car"
    assert hits[0].text == TEXTS[0]
    assert hits[0].metadata == METADATA[0]
    assert hits[0].passage.text == TEXTS[0]
    assert (hits[0].passage.start, hits[0].passage.end) == (0, len(TEXTS[0]))
    assert hits == sorted(hits, key=lambda hit: -hit.score)
    assert all(hit.score > 0 for hit in hits)


def test_filters_apply_before_the_top_k(filled: SpladeLite) -> None:
    everything = {hit.id for hit in filled.search("car bread market cat leaf", k=5)}
    assert len(everything) > 2
    for where, wanted in (
        ({"tags.kind": "home"}, {"bread", "cat"}),
        ({"year": {"$gte": 2001, "$lt": 2003}}, {"bread", "stock"}),
        ("id = :id", {"plant"}),
    ):
        hits = filled.search(
            "car bread market cat leaf", k=2, where=where, where_args={"id": "plant"} if where == "id = :id" else None
        )
        assert {hit.id for hit in hits} == wanted & everything
    filled.create_metadata_index("year")
    filled.create_metadata_index("year")
    assert {hit.id for hit in filled.search("car bread", where={"year": 2000})} == {"car"}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_filter_gives_the_same_hits_whether_it_meets_a_few_documents_or_all(path: str, chunked: bool) -> None:
    words = ["car", "bread", "plant", "stock"]
    texts = [" ".join(words[i % (n % 4 + 1)] for i in range(n % 300 if chunked else 5)) + "." for n in range(1, 61)]
    with SpladeLite(path, tail_size=16, segment_size=64) as db:
        db.add(texts, ids=list(map(str, range(60))), metadata=[{"n": n} for n in range(60)])
        ranked = db.search("car bread plant", k=1000)
        assert len(ranked) > 50
        for limit in (0, 1, 5, 15, 30, 60):
            for k in (1, 2, 5, 20):
                where = f"metadata ->> 'n' < {limit} -- {k}"  # the comment makes it a filter that is not known yet
                expected = [hit for hit in ranked if hit.metadata["n"] < limit][:k]
                assert db.search("car bread plant", k=k, where=where) == expected
                assert db.search_many(["car bread plant"] * 2, k=k, where=where) == [expected] * 2
                assert db.search("car bread plant", k=k, where=where) == expected
        with pytest.raises(spladelite.InvalidFilter):
            db.search("car", where="nonsense >")


def test_contributions_sum_to_the_score(filled: SpladeLite) -> None:
    for query in ("automobile accident injury", "green plants", {2482: 1.5, 3392: 0.25}):
        for hit in filled.search(query, mode="splade"):
            explanation = filled.explain(query, hit.id, mode="splade")
            assert math.isclose(sum(t.contribution for t in explanation.terms), hit.score, rel_tol=1e-5)
            assert math.isclose(explanation.score, hit.score, rel_tol=1e-5)
            assert explanation.passage == hit.passage
    crash = next(t for t in filled.explain("automobile accident", "car").terms if t.term == "crash")
    assert crash.expansion
    assert crash.query_expansion
    with pytest.raises(spladelite.DocumentNotFound):
        filled.explain("car", "nobody")


def test_the_announcements_example_expands(db: SpladeLite) -> None:
    terms = db.expand("automobile accident injury", side="query")
    added = {term.term for term in terms if term.expansion}
    assert {"car", "crash"} <= added
    assert {term.term for term in terms if not term.expansion} <= {"automobile", "accident", "injury"}
    assert [t.weight for t in terms] == sorted((t.weight for t in terms), reverse=True)
    assert min(t.weight for t in db.expand("automobile accident injury")) >= 0.3
    with pytest.raises(spladelite.InvalidInput, match="side"):
        db.expand("car", side="both")


def test_highlight_marks_words(filled: SpladeLite) -> None:
    hit = filled.search("vehicle crash", k=1)[0]
    marked = filled.highlight(hit)
    assert "**car** **crashed** into" in marked
    assert marked.replace("**", "") == hit.passage.text
    assert "<b>car</b>" in filled.highlight(hit, "<b>", "</b>")


def test_given_vectors_are_searched_without_a_model(db: SpladeLite) -> None:
    db.add(["a", "b"], ids=["a", "b"], vectors=[{7: 1.0, 9: 2.0}, {7: 0.01}])
    hits = db.search({7: 2.0})
    assert [hit.id for hit in hits] == ["a", "b"]
    assert hits[0].score == pytest.approx(2.0, rel=0.01)
    assert hits[1].score == pytest.approx(0.02)
    assert db.search({8: 1.0}) == []
    assert db.search({}) == []
    assert db.add("c", ids="c", vectors={1: 1.0}) == ["c"]
    pair: Any = ([3, 1], [0.5, 0.25])
    assert db.add(["d"], ids=["d"], vectors=[pair]) == ["d"]
    with pytest.raises(spladelite.IdConflict):
        db.add(["a"], ids=["a"], vectors=[{7: 3.0}])
    db.update("a", text="a", vector={8: 1.0})
    assert [hit.id for hit in db.search({8: 1.0})] == ["a"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"k": 0}, spladelite.InvalidInput),
        ({"k": -1}, spladelite.InvalidInput),
        ({"k": 2.5}, TypeError),
        ({"k": True}, spladelite.InvalidInput),
        ({"min_score": "high"}, TypeError),
        ({"min_score": math.nan}, spladelite.InvalidInput),
        ({"where": {"year": {"$near": 1}}}, spladelite.InvalidFilter),
        ({"where": "1; DROP TABLE document"}, spladelite.InvalidFilter),
        ({"encoder": "bert"}, spladelite.InvalidInput),
    ],
)
def test_bad_search_arguments(filled: SpladeLite, arguments: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        filled.search("car", **arguments)  # type: ignore[arg-type]
    assert isinstance(caught.value, spladelite.SpladeLiteError)
    assert len(filled) == 5


def test_queries_without_a_known_term_find_nothing(filled: SpladeLite) -> None:
    queries: tuple[str | dict[int, float], ...] = ("", "   ", "\u200b", {})
    for query in queries:
        assert filled.search(query) == []
    with pytest.raises(spladelite.WrongType):
        filled.search(7)  # type: ignore[arg-type]
    with pytest.raises(spladelite.InvalidText):
        filled.search("\ud800")
    assert len(filled.search("car", k=2**63)) >= 1


def test_min_score_and_search_many(filled: SpladeLite) -> None:
    queries = ["automobile", "bread", "", "sunlight"]
    many = filled.search_many(queries, k=2)
    assert many == [filled.search(query, k=2) for query in queries]
    best = many[0][0].score
    assert [hit.id for hit in filled.search("automobile", min_score=best)] == ["car"]
    assert filled.search("automobile", min_score=best * 1.01) == []
    with pytest.raises(spladelite.WrongType):
        filled.search_many("automobile")


@pytest.mark.parametrize("cores", [1, 3])
def test_many_queries_in_batches(path: str, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spladelite.search.searcher.usable_processors", lambda: cores)
    monkeypatch.setattr("spladelite.search.searcher.BATCH", 4)
    vectors = [{i % 7: 1.0 + i / 10, 7 + i % 5: 0.5} for i in range(40)]
    queries = [{}, *({i % 12: 1.0} for i in range(25)), {99: 1.0}, {0: 1.0, 8: 2.0}]
    with SpladeLite(path, tail_size=4, segment_size=16) as db:
        db.add([f"text {i}" for i in range(40)], vectors=vectors)
        for where in (None, "doc_id % 2"):
            expected = [db.search(query, where=where) for query in queries]
            assert len(expected[1]) > 2
            assert db.search_many(queries, where=where) == expected


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("mode", ["hybrid", "bm25", "splade"])
def test_many_queries_see_one_state(
    filled: SpladeLite, path: str, mode: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "usable_processors", lambda: cores)
    read_hits = table.read_hits
    with SpladeLite(path) as other:

        def then_add(*arguments: Any) -> Any:
            hits = read_hits(*arguments)
            other.add("a car crash", ids=f"new {len(other)}", progress=False)
            return hits

        monkeypatch.setattr(table, "read_hits", then_add)
        for before in (len(filled), None):
            many = filled.search_many(["car crash"] * 20, k=50, mode=mode, timeout=60)
            assert many == [many[0]] * 20
            assert before is None or len(many[0]) <= before
            assert len(other) > 5


@pytest.mark.parametrize("commits", [2, 1000])
def test_many_queries_begin_again_after_a_commit_between_their_transactions(
    filled: SpladeLite, path: str, commits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "usable_processors", lambda: 3)
    unmoved = run._unmoved
    begun: list[object] = []
    with SpladeLite(path) as other:

        @contextmanager
        def then_add(*arguments: Any) -> Iterator[Any]:
            with unmoved(*arguments) as view:
                if len(begun) < commits:
                    begun.append(other.add("a car crash", progress=False))
                yield view

        monkeypatch.setattr(run, "_unmoved", then_add)
        many = filled.search_many(["car crash"] * 9, k=100)
        assert many == [many[0]] * 9
        assert commits > 2 or many[0] == filled.search("car crash", k=100)


def test_idf_queries_use_literal_words_only(filled: SpladeLite) -> None:
    assert filled.search("bread", encoder="idf")[0].id == "bread"
    assert filled.search("spacecraft", encoder="idf") == []
    explanation = filled.explain("warm bread", "bread", encoder="idf")
    assert {t.term for t in explanation.terms} <= {"warm", "bread"}


def test_sql_reads_and_does_not_write(filled: SpladeLite) -> None:
    rows = filled.sql("SELECT id, text FROM document WHERE id = ?", ["car"])
    assert rows == [("car", TEXTS[0])]
    assert dict(rows[0]) == {"id": "car", "text": TEXTS[0]}
    assert rows[0]["id"] == "car"
    for statement in (
        "DELETE FROM document",
        "PRAGMA user_version = 3",
        "SELECT 1; DROP TABLE document",
        "CREATE TABLE x (y)",
    ):
        with pytest.raises(spladelite.InvalidInput):
            filled.sql(statement)
    assert len(filled) == 5
    with pytest.raises(spladelite.InvalidInput, match="no such table"):
        filled.sql("SELECT * FROM missing_table")
    with pytest.raises(spladelite.InvalidInput, match="one statement"):
        filled.sql("SELECT 1; SELECT 2")
    with pytest.raises(spladelite.InvalidInput, match="'id'"):
        filled.sql("SELECT * FROM document WHERE id = :id", {})
    with pytest.raises(spladelite.InvalidInput):
        filled.sql("SELECT ?", [])
    shown = filled.explain_sql("automobile")
    assert "SELECT topk(" in shown
    assert "car" in shown


def test_splade_inside_the_users_own_sql(filled: SpladeLite, tmp_path: Path) -> None:
    hits = filled.search("automobile accident", k=3, mode="splade")
    rows = filled.sql(
        "SELECT d.id, s.score FROM splade('automobile accident', 3) AS s JOIN document AS d USING (doc_id)"
        " ORDER BY score DESC"
    )
    assert rows == [(hit.id, hit.score) for hit in hits]
    scores: dict[str, float] = dict(
        filled.sql("SELECT id, splade_score(doc_id, ?) FROM document", ["automobile accident"])
    )
    assert all(scores[hit.id] == hit.score for hit in hits)
    assert scores["bread"] == 0
    assert filled.sql("SELECT splade_score(12345, 'car')") == [(None,)]
    mine = str(tmp_path / "mine.db")
    with apsw.Connection(mine) as connection:
        connection.execute(
            "CREATE TABLE price (id TEXT, price REAL); INSERT INTO price VALUES ('car', 9.5), ('cat', 1)"
        )
    connection.close()
    filled.sql("ATTACH ? AS mine", [mine])
    joined = filled.sql(
        "SELECT p.price FROM splade('vehicle', 5) s JOIN document d USING (doc_id) JOIN mine.price p USING (id)"
        " WHERE price > 2"
    )
    assert joined == [(9.5,)]
    with pytest.raises(spladelite.InvalidInput, match="k is 0"):
        filled.sql("SELECT * FROM splade('car', 0)")
    with pytest.raises(spladelite.InvalidInput, match="text"):
        filled.sql("SELECT * FROM splade(7)")
