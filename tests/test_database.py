"""The facade, with the bundled model and real files."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from raw_sql import connections_of

import spladelite
from spladelite import SpladeLite

TEXTS = [
    "A car crashed into a tree and the driver was hurt.",
    "Bake the bread for an hour and let it cool.",
    "The stock market fell sharply on Monday.",
    "The cat sleeps on the warm windowsill.",
    "Photosynthesis turns sunlight into sugar in green leaves.",
]
IDS = ["car", "bread", "stock", "cat", "plant"]
METADATA = [{"year": 2000 + i, "tags": {"kind": "news" if i % 2 == 0 else "home"}} for i in range(5)]


@pytest.fixture
def filled(db: SpladeLite) -> SpladeLite:
    db.add(TEXTS, ids=IDS, metadata=METADATA)
    return db


def test_a_query_finds_what_shares_no_word_with_it(filled: SpladeLite) -> None:
    hits = filled.search("automobile accident injury", k=3)
    assert hits[0].id == "car"
    assert hits[0].text == TEXTS[0]
    assert hits[0].metadata == METADATA[0]
    assert hits[0].passage.text == TEXTS[0]
    assert (hits[0].passage.start, hits[0].passage.end) == (0, len(TEXTS[0]))
    assert hits == sorted(hits, key=lambda hit: -hit.score)
    assert all(hit.score > 0 for hit in hits)


def test_ids_default_to_the_content_and_adding_twice_is_a_no_op(db: SpladeLite) -> None:
    first = db.add(TEXTS)
    assert db.add(TEXTS) == first
    assert db.add(TEXTS[0]) == [first[0]]
    assert len(db) == len(set(first)) == 5
    assert list(db) == first


def test_the_same_content_is_not_encoded_again(path: str) -> None:
    counted = _Counting()
    with SpladeLite(path, counted) as db:
        db.add(TEXTS, ids=IDS)
        assert counted.encoded == 5
        db.add(TEXTS, ids=IDS)
        db.upsert(TEXTS, ids=IDS, metadata=METADATA)
        assert counted.encoded == 5
        assert db.get("car") == spladelite.Document("car", TEXTS[0], METADATA[0])
        db.upsert(["Another text."], ids=["car"])
        assert counted.encoded == 6
        assert db.get("car") == spladelite.Document("car", "Another text.", {})


class _Counting:
    """The bundled model, counting what it encodes."""

    def __init__(self) -> None:
        from spladelite.encoders.registry import load_encoder

        self._model = load_encoder()
        self.name, self.fingerprint = self._model.name, self._model.fingerprint
        self.vocabulary, self.window = self._model.vocabulary, self._model.window
        self.tokenize = self._model.tokenize
        self.encode_queries = self._model.encode_queries
        self.encoded = 0

    def encode_documents(self, texts: list[str]) -> spladelite.SparseVectors:
        self.encoded += len(texts)
        return self._model.encode_documents(texts)


def test_conflicting_ids_raise_and_store_nothing(filled: SpladeLite) -> None:
    with pytest.raises(spladelite.IdConflict, match=r"'car'.*upsert"):
        filled.add(["new one", "other text"], ids=["new", "car"])
    with pytest.raises(spladelite.IdConflict, match=r"'x'.*twice"):
        filled.add(["one", "two"], ids=["x", "x"])
    with pytest.raises(spladelite.IdConflict, match=r"'car'.*metadata"):
        filled.add([TEXTS[0]], ids=["car"], metadata=[{"year": 1}])
    assert len(filled) == 5
    assert filled.add(["one", "one"], ids=["x", "x"]) == ["x", "x"]
    assert filled.add([TEXTS[0]], ids=["car"]) == ["car"]
    assert filled.get("car").metadata == METADATA[0]  # type: ignore[union-attr]


def test_update_text_metadata_or_both(filled: SpladeLite) -> None:
    filled.update("bread", text="The spacecraft landed on Mars.")
    assert filled.search("space mission", k=1)[0].id == "bread"
    assert filled.get("bread").metadata == METADATA[1]  # type: ignore[union-attr]
    filled.update("bread", metadata={"year": 1})
    assert filled.get("bread") == spladelite.Document("bread", "The spacecraft landed on Mars.", {"year": 1})
    filled.update("bread", text="Bread again.", metadata={})
    assert filled.get("bread") == spladelite.Document("bread", "Bread again.", {})
    assert filled.check() == []
    with pytest.raises(spladelite.DocumentNotFound, match="nobody"):
        filled.update("nobody", text="x y z")
    with pytest.raises(spladelite.InvalidInput, match="changes nothing"):
        filled.update("bread")


def test_delete_by_id_and_by_filter(filled: SpladeLite) -> None:
    assert filled.delete(["car", "unknown", "car"]) == 1
    assert "car" not in filled
    assert all(hit.id != "car" for hit in filled.search("automobile accident"))
    assert filled.delete(where={"tags.kind": "news"}) == 2
    assert list(filled) == ["bread", "cat"]
    assert filled.delete(where="json_extract(metadata, '$.year') > ?", where_args=[2002]) == 1
    assert filled.delete("bread") == 1
    assert len(filled) == 0
    assert filled.search("bread") == []
    assert filled.check() == []
    with pytest.raises(spladelite.InvalidInput, match="one of them"):
        filled.delete()


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


def test_a_long_document_becomes_passages_and_is_found_by_its_end(db: SpladeLite) -> None:
    filler = "The committee met again and talked about the minutes of the last meeting. " * 120
    ending = "Penguins huddle together to survive the Antarctic winter."
    db.add([filler + ending, "A short text about committees."], ids=["long", "short"])
    hit = db.search("penguins in the cold", k=1)[0]
    assert hit.id == "long"
    assert ending in hit.passage.text
    assert hit.text[hit.passage.start : hit.passage.end] == hit.passage.text
    assert db.stats().passages > 4
    assert [h.id for h in db.search("committee meeting", k=10)].count("long") == 1
    assert db.delete("long") == 1
    assert db.stats().passages == 1


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


@pytest.mark.parametrize("given", [repr, iter], ids=["list", "generator"])
@pytest.mark.parametrize(
    ("texts", "more", "error", "says"),
    [
        (["fine", ""], {}, spladelite.InvalidText, r"texts\[1\] is empty"),
        (["fine", " \n"], {}, spladelite.InvalidText, r"texts\[1\] is blank"),
        (["fine", None], {}, TypeError, r"texts\[1\] is None"),
        (["fine", b"bytes"], {}, TypeError, r"texts\[1\] is of type bytes"),
        (["fine", "\ud800"], {}, spladelite.InvalidText, "surrogate"),
        (["fine", "good"], {"ids": ["one"]}, spladelite.InvalidInput, "ids"),
        (["fine", "good"], {"ids": ["1", "2", "3"]}, spladelite.InvalidInput, "ids has"),
        (["fine", "good"], {"ids": ["1", 2]}, TypeError, r"ids\[1\].*'2'"),
        (["fine", "good"], {"ids": ["1", ""]}, spladelite.InvalidInput, r"ids\[1\]"),
        (["fine", "good"], {"metadata": [{}]}, spladelite.InvalidInput, "metadata"),
        (["fine", "good"], {"metadata": [{}, 3]}, TypeError, r"metadata\[1\]"),
        (["fine", "good"], {"metadata": [{}, {"a": {1, 2}}]}, spladelite.InvalidMetadata, r"metadata\[1\]"),
        (["fine", "good"], {"metadata": [{}, {1: 2}]}, spladelite.InvalidMetadata, "str keys"),
        (["fine", "good"], {"metadata": [{}, {"a": math.nan}]}, spladelite.InvalidMetadata, r"metadata\[1\]"),
        (["fine", "good"], {"vectors": [{1: 1.0}]}, spladelite.InvalidInput, "vectors"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1: math.nan}]}, spladelite.InvalidVector, "NaN"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1: math.inf}]}, spladelite.InvalidVector, r"vectors\[1\]"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1: -1.0}]}, spladelite.InvalidVector, "above 0"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1: 0.0}]}, spladelite.InvalidVector, "above 0"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {30522: 1.0}]}, spladelite.InvalidVector, "30522"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {-1: 1.0}]}, spladelite.InvalidVector, "-1"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1.5: 1.0}]}, spladelite.InvalidVector, "int"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1: "x"}]}, spladelite.InvalidVector, "float"),
    ],
)
def test_bad_documents_are_named_and_nothing_is_stored(
    db: SpladeLite, given: object, texts: list[object], more: dict[str, object], error: type[Exception], says: str
) -> None:
    db.add(["kept"], ids=["kept"])
    with pytest.raises(error, match=says) as caught:
        db.add(iter(texts) if given is iter else texts, **more)  # type: ignore[arg-type]
    assert isinstance(caught.value, spladelite.SpladeLiteError)
    assert list(db) == ["kept"]
    assert db.check() == []


@pytest.mark.parametrize("texts", [3, None, b"bytes", {"a": "b"}])
def test_texts_of_a_wrong_type(db: SpladeLite, texts: object) -> None:
    with pytest.raises(spladelite.WrongType, match="texts"):
        db.add(texts)  # type: ignore[arg-type]


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
def test_many_queries_in_batches_and_transactions(path: str, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spladelite.search.searcher.usable_processors", lambda: cores)
    monkeypatch.setattr("spladelite.search.searcher.BATCH", 4)
    monkeypatch.setattr("spladelite.search.run.TRANSACTION", 10)
    vectors = [{i % 7: 1.0 + i / 10, 7 + i % 5: 0.5} for i in range(40)]
    queries = [{}, *({i % 12: 1.0} for i in range(25)), {99: 1.0}, {0: 1.0, 8: 2.0}]
    with SpladeLite(path, tail_size=4, segment_size=16) as db:
        db.add([f"text {i}" for i in range(40)], vectors=vectors)
        for where in (None, "doc_id % 2"):
            expected = [db.search(query, where=where) for query in queries]
            assert len(expected[1]) > 2
            assert db.search_many(queries, where=where) == expected


def test_idf_queries_use_literal_words_only(filled: SpladeLite) -> None:
    assert filled.search("bread", encoder="idf")[0].id == "bread"
    assert filled.search("spacecraft", encoder="idf") == []
    explanation = filled.explain("warm bread", "bread", encoder="idf")
    assert {t.term for t in explanation.terms} <= {"warm", "bread"}


def test_reopening_needs_no_arguments(path: str) -> None:
    with SpladeLite(path, min_weight=0.1) as db:
        db.add(TEXTS, ids=IDS)
        before = db.search("automobile")
    with SpladeLite(path) as db:
        assert db.stats().min_weight == 0.1
        assert db.search("automobile") == before
    with pytest.raises(spladelite.InvalidInput, match=r"min_weight=0.1"):
        SpladeLite(path, min_weight=0.2)


def test_another_model_is_refused(path: str) -> None:
    with SpladeLite(path) as db:
        db.add(TEXTS)
    other = _Counting()
    other.fingerprint, other.name = "0" * 64, "other-model"
    with pytest.raises(spladelite.ModelMismatch, match=r"splade-tiny.*other-model"):
        SpladeLite(path, other)


def test_a_closed_database_is_one_plain_file(path: str) -> None:
    with SpladeLite(path) as db:
        db.add(TEXTS)
        assert os.path.exists(path + "-wal")
    assert os.listdir(os.path.dirname(path)) == ["kb.db"]
    assert Path(path).read_bytes()[18] == 1  # not a WAL file
    db.close()
    with pytest.raises(spladelite.DatabaseError, match="closed"):
        db.search("car")


def test_read_only_never_writes(path: str) -> None:
    with pytest.raises(spladelite.NotADatabase, match="does not exist"):
        SpladeLite(path, read_only=True)
    with SpladeLite(path) as db:
        db.add(TEXTS, ids=IDS)
    before = Path(path).read_bytes()
    with SpladeLite(path, read_only=True) as db:
        assert db.search("automobile")[0].id == "car"
        for write in (
            lambda: db.add("x y"),
            lambda: db.delete("car"),
            lambda: db.update("car", metadata={}),
            db.optimize,
        ):
            with pytest.raises(spladelite.ReadOnly, match="read-only"):
                write()
    assert Path(path).read_bytes() == before


def test_what_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(spladelite.NotADatabase, match="directory"):
        SpladeLite(tmp_path)
    with pytest.raises(spladelite.NotADatabase, match="folder"):
        SpladeLite(tmp_path / "missing" / "kb.db")
    text = tmp_path / "notes.txt"
    text.write_text("These are my notes. " * 100)
    with pytest.raises(spladelite.NotADatabase, match="not a SQLite database"):
        SpladeLite(text)
    assert text.read_text().startswith("These are my notes.")
    foreign = tmp_path / "foreign.db"
    with apsw.Connection(str(foreign)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(spladelite.NotADatabase, match="not one of SpladeLite's"):
        SpladeLite(foreign)
    assert foreign.read_bytes() == before
    for wrong in (3, None, b"kb.db", ""):
        with pytest.raises(spladelite.WrongType, match="path"):
            SpladeLite(wrong)  # type: ignore[arg-type]
    with pytest.raises(spladelite.WrongType, match="model"):
        SpladeLite(tmp_path / "kb.db", model=5)
    assert not (tmp_path / "kb.db").exists()


def test_a_newer_format_is_refused(path: str) -> None:
    SpladeLite(path).close()
    connection = apsw.Connection(path)
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(spladelite.UnsupportedFormat, match=r"format 99.*update"):
        SpladeLite(path)


def test_another_process_reads_while_this_one_writes(path: str) -> None:
    script = (
        "import sys; from spladelite import SpladeLite\n"
        "with SpladeLite(sys.argv[1], read_only=True) as db:\n"
        "    print(len(db), [h.id for h in db.search('automobile', k=1)])\n"
    )
    with SpladeLite(path) as db:
        db.add(TEXTS, ids=IDS)
        with connections_of(db).write() as connection:  # a write transaction stays open meanwhile
            connection.execute("DELETE FROM document")
            seen = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
            assert seen.stdout == "5 ['car']\n"
            connection.execute("ROLLBACK")
            connection.execute("BEGIN")
        assert len(db) == 5


def test_terms_are_readable_in_any_sqlite_shell(small: SpladeLite, path: str) -> None:
    small.add(TEXTS, ids=IDS)
    expected = {(t.term, round(t.weight, 1)) for t in small.expand(TEXTS[1])}
    small.close()
    import sqlite3

    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT term, weight FROM document_term WHERE id = 'bread' ORDER BY weight DESC"
    ).fetchall()
    assert rows[0][0] in ("bread", "bake", "hour")
    assert {(term, round(weight, 1)) for term, weight in rows} & expected
    assert len(rows) == len(expected)
    found = connection.execute("SELECT id FROM term_document WHERE term = 'bread' ORDER BY weight DESC").fetchall()
    assert found[0] == ("bread",)
    connection.close()


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


def test_backup_and_export(filled: SpladeLite, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    filled.backup(tmp_path / "copy.db", progress=lambda done, total: seen.append((done, total)))
    filled.export(tmp_path / "ship.db")
    assert seen[-1][0] == seen[-1][1] > 0
    for name in ("copy.db", "ship.db"):
        with SpladeLite(tmp_path / name, read_only=True) as copy:
            assert copy.search("automobile") == filled.search("automobile")
            assert copy.check() == []
    with pytest.raises(spladelite.InvalidInput, match="itself"):
        filled.backup(filled.path)
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "kb.db", "kb.db-shm", "kb.db-wal", "ship.db"]


def test_progress_is_called_and_ctrl_c_leaves_what_was_committed(path: str) -> None:
    seen: list[tuple[int, int | None]] = []

    def texts() -> Iterator[str]:
        for i in range(1100):
            if i == 1050:
                raise KeyboardInterrupt
            yield f"text number {i}"

    with SpladeLite(path) as db:
        with pytest.raises(KeyboardInterrupt):
            db.add(texts(), progress=lambda done, total: seen.append((done, total)))
        assert len(db) == 1024
        assert seen == [(512, None), (1024, None)]
        assert db.check() == []
        assert len(db.search("number")) == 10


def test_memory_database_among_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with SpladeLite(":memory:") as db:
        db.add(TEXTS, ids=IDS)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: db.search("automobile", k=1)[0].id, range(40)))
        assert found == ["car"] * 40


def test_optimize_drops_the_dead(small: SpladeLite) -> None:
    small.add(
        [f"text {i}" for i in range(50)], ids=[str(i) for i in range(50)], vectors=[{i % 7: 1.0 + i} for i in range(50)]
    )
    assert small.stats().segments > 1
    small.delete([str(i) for i in range(0, 50, 3)])
    before = small.search(dict.fromkeys(range(7), 1.0), k=50)
    small.optimize()
    assert small.search(dict.fromkeys(range(7), 1.0), k=50) == before
    stats = small.stats()
    assert (stats.dead, stats.tail, stats.documents) == (0, 0, 33)
    assert stats.segments == 3  # 33 passages, 16 a segment
    assert small.check() == []


def test_sqlite_out_of_memory_is_an_error_of_ours(path: str) -> None:
    """A damaged record may claim gigabytes: found by damaging 50,000 files under a memory limit."""
    from spladelite.file.sqlite import translated

    with pytest.raises(spladelite.DatabaseError, match="memory"), translated(path):
        raise apsw.NoMemError


def test_importing_is_light() -> None:
    script = (
        "import sys, spladelite\n"
        "heavy = set('torch transformers onnxruntime tokenizers sqlite3 tqdm click'.split()) & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


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


def test_a_slim_export_is_searched_and_explained_but_not_changed(small: SpladeLite, tmp_path: Path) -> None:
    long = " ".join(f"Sentence number {i} is about the weather in spring." for i in range(150))
    small.add([*TEXTS, long], ids=[*IDS, "long"])
    small.delete("stock")
    small.export(tmp_path / "slim.db", slim=True)
    with SpladeLite(tmp_path / "slim.db") as slim:
        assert slim.check() == []
        assert slim.sql("SELECT count(terms), count(impacts) FROM passage") == [(0, 0)]
        for query in ("automobile accident", "bread", "spring weather"):
            assert slim.search(query) == small.search(query)
            assert slim.explain(query, slim.search(query)[0].id) == small.explain(query, small.search(query)[0].id)
            assert slim.sql("SELECT score FROM splade(?)", [query]) == small.sql("SELECT score FROM splade(?)", [query])
        assert slim.sql("SELECT splade_score(doc_id, 'spring') FROM document") == small.sql(
            "SELECT splade_score(doc_id, 'spring') FROM document"
        )
        with pytest.raises(spladelite.ReadOnly, match="slim"):
            slim.add("new text")
        with pytest.raises(spladelite.ReadOnly, match="slim"):
            slim.delete("car")
        with pytest.raises(spladelite.InvalidInput, match="slim"):
            slim.export_rows(tmp_path / "rows.db")


def test_exported_rows_give_the_same_ranking_in_plain_sql(small: SpladeLite, tmp_path: Path) -> None:
    import json
    import sqlite3

    long = " ".join(f"Sentence number {i} is about the weather in spring." for i in range(150))
    small.add([*TEXTS, long], ids=[*IDS, "long"], metadata=[*METADATA, {}])
    small.delete("stock")
    small.export_rows(tmp_path / "rows.db")
    connection = sqlite3.connect(tmp_path / "rows.db")
    (sql,) = connection.execute("SELECT sql FROM readme").fetchone()
    for query in ("automobile accident", "bread", "spring weather", "warm leaves"):
        weights = {term.term_id: term.weight for term in small.expand(query, side="query")}
        rows = connection.execute(sql, {"query": json.dumps(weights), "k": 10}).fetchall()
        hits = small.search(query, mode="splade")
        assert [row[0] for row in rows] == [hit.id for hit in hits]
        assert [row[1] for row in rows] == pytest.approx([hit.score for hit in hits], rel=1e-5)
    connection.close()


def test_metadata_of_another_type_is_other_metadata(db: SpladeLite) -> None:
    db.add("text", ids="a", metadata={"flag": 1, "other": 2})
    db.add("text", ids="a", metadata={"other": 2, "flag": 1})
    with pytest.raises(spladelite.IdConflict, match="other metadata"):
        db.add("text", ids="a", metadata={"flag": True, "other": 2})
    db.upsert("text", ids="a", metadata={"flag": True, "other": 2})
    assert [hit.id for hit in db.search("text", where={"flag": True})] == ["a"]
    with pytest.raises(spladelite.IdConflict, match="twice"):
        db.add(["b", "b"], ids=["b", "b"], metadata=[{"x": 0}, {"x": False}])


def test_an_id_with_a_nul_is_refused_by_name(db: SpladeLite) -> None:
    for call in (lambda: db.add("text", ids="a\0b"), lambda: db.get("a\0b"), lambda: db.delete("a\0b")):
        with pytest.raises(spladelite.InvalidInput, match="NUL"):
            call()
    assert "a\0b" not in db
    assert len(db) == 0


def test_progress_of_another_type_is_refused(db: SpladeLite) -> None:
    progress: Any = 5
    with pytest.raises(spladelite.WrongType, match="progress is 5"):
        db.add("text", progress=progress)
    assert len(db) == 0


def test_one_batch_is_encoded_while_another_is_written(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spladelite.documents.ingest.BATCH_ENCODED", 4)
    with SpladeLite(path) as db:
        ids = db.add((f"text number {i}" for i in range(30)), ids=(str(i) for i in range(30)))
        assert ids == list(db) == [str(i) for i in range(30)]
        # An id again in the very next batch: compared with what the batch before stores.
        db.upsert([f"other {i}" for i in range(8)], ids=["a", "b", "c", "d", "d", "c", "e", "f"])
        assert db.get("d") == spladelite.Document("d", "other 4", {})
        with pytest.raises(spladelite.IdConflict, match="'x'"):
            db.add([f"more {i}" for i in range(8)], ids=["u", "v", "w", "x", "x", "y", "z", "q"])
        assert "w" in db
        assert "y" not in db
        with pytest.raises(spladelite.InvalidText):
            db.add(iter(["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", ""]), ids=(f"p{i}" for i in range(10)))
        assert [f"p{i}" in db for i in range(10)] == [True] * 8 + [False] * 2
        assert db.check() == []
