"""The views of terms, for any SQLite shell: what they say, and that a few rows come without reading all documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from small_file import raw

from spladelite import SpladeLite
from spladelite.errors import NotADatabase
from spladelite.file.migrations import migrations

Fetch = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 documents of up to 20 of 3,000 terms, frequent and rare; one has several passages."""
    path = tmp_path_factory.mktemp("views") / "kb.db"
    generator = np.random.default_rng(0)
    vectors = []
    for row in range(3000):
        terms = np.unique(2000 + generator.integers(0, 3000, row % 21) ** 2 // 3000)
        vectors.append(dict(zip(terms.tolist(), generator.uniform(0.3, 3, len(terms)).tolist(), strict=True)))
    with SpladeLite(path, bm25=False) as db:
        ids = [str(i) for i in range(len(vectors))]
        with pytest.warns(match="no term"):
            db.add(["text"] * len(vectors), ids=ids, vectors=vectors, progress=False)
        db.add(["a long text of several passages, " * 300, "short"], ids=["long", "short"], progress=False)
    return path


def engines(path: Path) -> list[tuple[str, Fetch]]:
    """The SQLite of Python and that of this package."""

    def of_python(sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def of_package(sql: str) -> list[tuple[Any, ...]]:
        with closing(apsw.Connection(str(path), apsw.SQLITE_OPEN_READONLY)) as connection:
            return connection.execute(sql).fetchall()

    return [("sqlite3", of_python), ("apsw", of_package)]


def test_both_views_have_the_same_rows(filled: Path) -> None:
    for _, fetch in engines(filled):
        by_document = fetch("SELECT term, id, passage_id, weight FROM document_term ORDER BY 3, 1")
        assert len(by_document) > 25_000
        assert fetch("SELECT term, id, passage_id, weight FROM term_document ORDER BY 3, 1") == by_document
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for row in by_document:
            rows.setdefault(row[0], []).append(row)
        for term in sorted(rows, key=lambda term: len(rows[term]))[:: len(rows) // 12]:
            some = fetch(f"SELECT * FROM term_document WHERE term = '{term.replace(chr(39), chr(39) * 2)}'")
            assert sorted(some, key=lambda row: row[2]) == rows[term]


def test_documents_of_terms_are_found_without_reading_everything(filled: Path) -> None:
    for name, fetch in engines(filled):

        def steps(condition: str, fetch: Fetch = fetch) -> str:
            plan = fetch(f"EXPLAIN QUERY PLAN SELECT * FROM term_document {condition}")
            return "\n".join(row[3] for row in plan)

        def comes_first(plan: str, *tables: str, name: str = name) -> None:
            places = [plan.index(table) for table in tables]
            assert places == sorted(places), f"{name}: {plan}"

        for condition in ("LIMIT 100", "WHERE weight > 1 LIMIT 100", "ORDER BY passage_id LIMIT 100"):
            comes_first(steps(condition), "SCAN p\n", "SEARCH d USING INTEGER PRIMARY KEY", "SCAN i ", "SEARCH t USING")
            assert "SEARCH t USING INTEGER PRIMARY KEY" in steps(condition)
            assert "TEMP B-TREE" not in steps(condition)
        one_term = steps("WHERE term = 'fever'")
        comes_first(
            one_term, "SCAN p\n", "SEARCH t USING AUTOMATIC PARTIAL COVERING INDEX (term=?)", "SCAN b VIRTUAL", "SCAN i"
        )
        one_document = steps("WHERE id = '7'")
        comes_first(one_document, "SEARCH d USING INDEX", "SEARCH p USING INTEGER PRIMARY KEY", "SCAN i", "SEARCH t")
        comes_first(steps("WHERE passage_id = 7"), "SEARCH p USING INTEGER PRIMARY KEY", "SCAN i", "SEARCH t")
        assert "SEARCH p USING INTEGER PRIMARY KEY (rowid>?)" in steps("WHERE term = 'fever' AND passage_id > 7")


def test_a_file_may_keep_a_view_as_an_older_release_made_it(file: Path) -> None:
    older = migrations()[0][migrations()[0].index("CREATE VIEW term_document") :].split(";")[0]
    ((newer,),) = raw(file, "SELECT sql FROM sqlite_schema WHERE name = 'term_document'")
    assert older != newer
    raw(file, "UPDATE sqlite_schema SET sql = ? WHERE name = 'term_document'", older)
    for read_only in (True, False):
        with SpladeLite(file, read_only=read_only) as db:
            assert db.check() == []
            assert db.sql("SELECT count(*) FROM term_document") == db.sql("SELECT count(*) FROM document_term")
    raw(file, "UPDATE sqlite_schema SET sql = replace(sql, 'p.scale', '2 * p.scale') WHERE name = 'term_document'")
    with pytest.raises(NotADatabase, match="term_document"):
        SpladeLite(file)
