"""The export of rows: any SQLite finds in it what the database finds."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import Stemmer
from five_texts import IDS, METADATA, TEXTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spladelite import Hit, SpladeLite

WORDS = [
    "a",
    "the",
    "Car",
    "cars",
    "accident",
    "café",
    "Straße",
    "東京都",
    "東",
    "v1.2.3",
    "snake_case",
    "camelCase",
    "bread",
    "breads",
    "running",
    "e-mail",
]
texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


class Outsider:
    """Searches the export with no part of SpladeLite."""

    def __init__(self, path: Path, language: str = "english") -> None:
        self.rows = sqlite3.connect(path)
        self.sql = dict(self.rows.execute("SELECT mode, sql FROM readme"))
        self.stop_words = self.column("SELECT word FROM stop_word") if "bm25" in self.sql else set()
        self.stem = Stemmer.Stemmer(language).stemWord

    def column(self, sql: str) -> set[str]:
        return {value for (value,) in self.rows.execute(sql)}

    def splade(self, weights: dict[int, float], k: int) -> list[tuple[str, float]]:
        rows = self.rows.execute(self.sql["splade"], {"query": json.dumps(weights), "k": k}).fetchall()
        return [(id, score) for id, score, _ in rows]

    def bm25(self, query: str, k: int) -> list[tuple[str, float]]:
        words = query.lower().split()
        words = [word for word in words if word not in self.stop_words] or words
        given = json.dumps([self.stem(word) for word in words])
        return self.rows.execute(self.sql["bm25"], {"words": given, "k": k}).fetchall()


def agree(rows: list[tuple[str, float]], hits: list[Hit]) -> None:
    """The same ids, in the same order up to what two precisions of a sum may tell apart, with the same scores."""
    assert [score for _, score in rows] == pytest.approx([hit.score for hit in hits], rel=1e-5)
    assert dict(rows) == pytest.approx({hit.id: hit.score for hit in hits}, rel=1e-5)


def test_the_statements_of_the_readme_find_what_the_database_finds(small: SpladeLite, tmp_path: Path) -> None:
    long = " ".join(f"Sentence number {i} is about the weather in spring." for i in range(300))
    small.add([*TEXTS, long], ids=[*IDS, "long"], metadata=[*METADATA, {}])
    small.delete("stock")
    small.export_rows(tmp_path / "rows.db")
    outsider = Outsider(tmp_path / "rows.db")
    for query in ("automobile accident", "bread", "Spring weather", "warm leaves", "the sentence about a car", "the"):
        weights = {term.term_id: term.weight for term in small.expand(query, side="query")}
        agree(outsider.splade(weights, 10), small.search(query, mode="splade"))
        agree(outsider.bm25(query, 10), small.search(query, mode="bm25"))
        assert outsider.bm25(query, 10) or query == "automobile accident"
    outsider.rows.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(texts, st.dictionaries(st.integers(0, 40), st.floats(0.3, 3.0), min_size=1, max_size=5)), max_size=30
    ),
    st.sets(st.integers(0, 29)),
    st.lists(
        st.sampled_from(["the", "car", "cars", "accident", "bread", "running", "nothing"]), min_size=1, max_size=4
    ),
    st.dictionaries(st.integers(0, 40), st.floats(0.1, 3.0), min_size=1, max_size=5),
)
def test_any_documents_give_the_same_scores(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[tuple[str, dict[int, float]]],
    deleted: set[int],
    words: list[str],
    weights: dict[int, float],
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.db"
    with SpladeLite(":memory:", tail_size=4, segment_size=16) as db:
        ids = [str(i) for i in range(len(documents))]
        db.add([text or "." for text, _ in documents], ids=ids, vectors=[vector for _, vector in documents])
        db.delete([str(i) for i in deleted if i < len(documents)])
        db.export_rows(path)
        outsider = Outsider(path)
        agree(outsider.splade(weights, 50), db.search(weights, k=50, mode="splade"))
        agree(outsider.bm25(" ".join(words), 50), db.search(" ".join(words), k=50, mode="bm25"))
        outsider.rows.close()


def test_a_language_without_stems_and_one_that_is_not_english(tmp_path: Path) -> None:
    for language, text, query in (("german", "Die Häuser sind groß", ["haus"]), (None, "Running shoes", ["running"])):
        path = tmp_path / f"{language}.db"
        with SpladeLite(":memory:", language=language) as db:
            db.add(text, ids="x")
            db.export_rows(path)
        with closing(sqlite3.connect(path)) as rows:
            readme, sql = rows.execute("SELECT text, sql FROM readme WHERE mode = 'bm25'").fetchone()
            assert ("Snowball's german stemmer" in readme) == (language == "german")
            assert rows.execute(sql, {"words": json.dumps(query), "k": 5}).fetchall()


def test_an_empty_database_has_all_tables(tmp_path: Path) -> None:
    with SpladeLite(":memory:") as db:
        db.export_rows(tmp_path / "rows.db")
    outsider = Outsider(tmp_path / "rows.db")
    tables = ["document", "passage", "posting", "readme", "stop_word", "term", "word", "word_posting"]
    assert sorted(outsider.column("SELECT name FROM sqlite_schema WHERE type = 'table'")) == tables
    assert outsider.splade({2482: 1.0}, 10) == outsider.bm25("car", 10) == []
    outsider.rows.close()


def test_without_bm25_there_are_no_words(tmp_path: Path) -> None:
    with SpladeLite(":memory:", bm25=False) as db:
        db.add(TEXTS, ids=IDS)
        db.export_rows(tmp_path / "rows.db")
        outsider = Outsider(tmp_path / "rows.db")
        assert outsider.column("SELECT name FROM sqlite_schema WHERE type = 'table'") == {
            "document",
            "passage",
            "posting",
            "readme",
            "term",
        }
        assert [row[1] for row in outsider.rows.execute("PRAGMA table_info(document)")][-1] == "metadata"
        weights = {term.term_id: term.weight for term in db.expand("car", side="query")}
        agree(outsider.splade(weights, 10), db.search("car", mode="splade"))
        outsider.rows.close()


def test_an_export_that_fails_leaves_no_file(filled: SpladeLite, tmp_path: Path) -> None:
    def give_up(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled.export_rows(tmp_path / "rows.db", progress=give_up)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("rows")] == []
