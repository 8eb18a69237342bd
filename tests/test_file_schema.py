"""Schemas and rows that are not exactly ours, and the user's own tables beside them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from raw_sql import connections_of
from small_file import MODEL, edit, open_database, raw

from spladelite import SpladeLite
from spladelite.documents.table import document_checksum
from spladelite.errors import (
    CorruptIndex,
    NotADatabase,
    SpladeLiteError,
)

HOSTILE = {
    "trigger": "CREATE TRIGGER evil AFTER INSERT ON document BEGIN DELETE FROM document; END",
    "temp-like name": "CREATE TRIGGER sqliteXstat1 AFTER INSERT ON document BEGIN DELETE FROM passage; END",
    "view in the place of a function": "CREATE VIEW json_each AS SELECT 1 AS key, 2 AS value",
    "table in the place of a function": "CREATE TABLE Carray (value)",
    "index": "CREATE INDEX evil ON document (upper(text))",
    "virtual table": "CREATE VIRTUAL TABLE evil USING fts5(a)",
    "generated column": "ALTER TABLE document ADD COLUMN evil TEXT AS (upper(text))",
    "default": "ALTER TABLE passage ADD COLUMN evil INTEGER DEFAULT 7",
    "missing index": "ALTER TABLE tombstone RENAME TO grave",
    "missing view": "DROP VIEW document_term",
    "view for a table": "DROP TABLE term; CREATE VIEW term AS SELECT 1 AS term_id, 'a' AS term",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_schema_that_is_not_exactly_ours_is_refused_before_a_row_is_read(file: Path, kind: str) -> None:
    edit(file, HOSTILE[kind])
    for options in ({}, {"read_only": True}, {"immutable": True}):
        with pytest.raises(NotADatabase, match="schema"):
            open_database(file, **options)
    assert file.read_bytes()[18:20] == b"\1\1"  # nothing was changed


OWN = """
CREATE TABLE note (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT REFERENCES document (id), "my text" TEXT NOT NULL);
CREATE TABLE tag (name PRIMARY KEY, weight REAL CHECK (weight > 0), twice AS (2 * weight)) WITHOUT ROWID;
CREATE TABLE loose (rowid, a UNIQUE);
CREATE INDEX by_id ON note (id);
CREATE VIEW noted AS SELECT d.id, n."my text" FROM document d JOIN note n USING (id);
CREATE TRIGGER counted AFTER INSERT ON tag BEGIN INSERT INTO note (id, "my text") VALUES ('a', new.name); END;
INSERT INTO note (id, "my text") VALUES ('a', 'first'), ('b', 'second');
DELETE FROM note WHERE number = 2;
INSERT INTO tag VALUES ('x', 1.5);
INSERT INTO loose VALUES (7, 1), (7, 2);
DELETE FROM loose WHERE a = 1;
"""


def test_tables_of_the_users_own_stand_beside_ours_and_stay(file: Path, tmp_path: Path) -> None:
    edit(file, OWN)
    questions = (
        "SELECT * FROM noted ORDER BY 1, 2",
        "SELECT number, id FROM note",
        "SELECT * FROM tag",
        "SELECT _rowid_, * FROM loose",
        "SELECT name, sql FROM sqlite_schema WHERE tbl_name IN ('note', 'tag', 'loose', 'noted') ORDER BY name",
        "SELECT seq FROM sqlite_sequence WHERE name = 'note'",
    )

    def answers(db: SpladeLite) -> list[Any]:
        return [db.sql(question) for question in questions]

    with open_database(file) as db:
        before = answers(db)
        assert before[0] == [("a", "first"), ("a", "x")]
        db.add("w5", ids="e")
        db.optimize()
        assert answers(db) == before
        assert db.stats().sizes["your own"] > 0
        db.reencode(MODEL, progress=False)
        db.reencode(MODEL, progress=False)
        assert answers(db) == before
        with connections_of(db).write() as connection:
            connection.execute("DELETE FROM passage WHERE passage_id = 1")
        db.check(repair=True)
        assert answers(db) == before
        assert db.check() == []
        db.export(tmp_path / "slim.db", slim=True)
        db.export_rows(tmp_path / "rows.db")
    for options in ({}, {"read_only": True}, {"immutable": True}):
        with open_database(file, **options) as db:
            assert answers(db) == before
    with open_database(tmp_path / "slim.db") as slim:
        assert answers(slim) == before


def test_what_a_users_own_table_breaks_of_its_own_rules_is_no_damage(file: Path) -> None:
    edit(file, "CREATE TABLE mine (a INTEGER CHECK (a > 0), b)")
    edit(file, "PRAGMA ignore_check_constraints = 1; INSERT INTO mine SELECT -value, 0 FROM json_each('[1, 2, 3]')")
    with open_database(file) as db:
        assert db.check() == []
    raw(
        file,
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE mine (a INTEGER CHECK (a > 0), b NOT NULL)' WHERE name = 'mine'",
    )
    with open_database(file) as db:
        assert db.check() == []
        with connections_of(db).write() as connection:
            connection.execute("DELETE FROM passage")
        assert db.check() != []


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("passage", "UPDATE passage SET impacts = 'text'"),
        ("passage", "UPDATE passage SET scale = x'00', doc_id = 'x'"),
        ("segment", "UPDATE segment SET size = x'00'"),
        ("segment", "UPDATE segment SET last_passage_id = 'x'"),
        ("posting", "UPDATE posting SET count = 'x'"),
        ("document", "UPDATE document SET text = x'FF'"),
        ("document", "UPDATE document SET metadata = 7.5, passages = 'x'"),
    ],
)
def test_values_that_strict_tables_do_not_allow_are_damage(tmp_path: Path, table: str, statement: str) -> None:
    path = tmp_path / "kb.db"
    questions: list[Callable[[SpladeLite], object]] = [lambda db: db.search({2: 1.0}), lambda db: db.get("a"), list]
    with open_database(path, tail_size=1) as db:
        db.add(["w1 w2", "w2 w3"], ids=["a", "b"])
        answers = [question(db) for question in questions]
    (strict,) = [row[0] for row in raw(path, "SELECT sql FROM sqlite_schema WHERE name = ?", table)]
    loose = strict.replace(" STRICT,", "").replace(" STRICT", "")
    for schema, change in ((loose, statement), (strict, None)):
        raw(path, "UPDATE sqlite_schema SET sql = ? WHERE name = ?", schema, table)
        if change:
            raw(path, change)
    with open_database(path, read_only=True) as db:
        for question, answer in zip(questions, answers, strict=True):
            with suppress(SpladeLiteError):
                assert question(db) == answer
        assert db.check() != []


def test_a_metadata_index_that_lost_an_entry_is_noticed_before_a_filter_uses_it(file: Path) -> None:
    with open_database(file) as db:
        db.create_metadata_index("year")
        db.add([f"w1 w{i}" for i in range(20)], ids=[str(i) for i in range(20)], metadata=[{"year": 2020}] * 20)
        assert len(db.search({2: 1.0}, 50, where={"year": 2020})) == 20
        with connections_of(db).read() as connection:
            row = connection.execute("SELECT * FROM document WHERE id = '7'").get
            index = connection.execute("SELECT * FROM sqlite_schema WHERE name LIKE 'metadata year%'").get
    raw(file, "DELETE FROM document WHERE id = '7'")
    raw(file, "DELETE FROM sqlite_schema WHERE name = ?", index[1])
    raw(file, "INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?)", *row)  # the index does not learn of it
    raw(file, "INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", *index)
    with open_database(file) as db:
        for question in ("w1", {2: 1.0}):
            for mode in ("splade", "bm25"):
                if mode == "splade" or question == "w1":
                    with pytest.raises(CorruptIndex, match="entries"):
                        db.search(question, 200, where={"year": 2020}, mode=mode)
        assert db.check() != []
        db.check(repair=True)
        assert len(db.search({2: 1.0}, 50, where={"year": 2020})) == 20
        assert db.check() == []


def test_an_id_that_leads_to_another_document_is_damage(file: Path) -> None:
    """Two documents, undamaged in themselves, have exchanged their ids; the index on ids has not followed."""
    index = raw(file, "SELECT * FROM sqlite_schema WHERE name = 'sqlite_autoindex_document_1'")[0]
    with open_database(file) as db, connections_of(db).read() as connection:
        rows = connection.execute("SELECT doc_id, id, text, metadata, passages, content_hash FROM document").fetchall()
    (strict,) = raw(file, "SELECT sql FROM sqlite_schema WHERE name = 'document'")[0]
    without = "DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_document_1'"
    raw(file, f"UPDATE sqlite_schema SET sql = ? WHERE name = 'document'; {without}", strict.replace(" UNIQUE", ""))
    columns: list[Any] = list(zip(rows, reversed(rows), strict=True))
    for (doc_id, _, *rest), (_, other, *_) in columns:
        checksum = document_checksum(doc_id, other, *rest)
        raw(file, "UPDATE document SET id = ?, checksum = ? WHERE doc_id = ?", other, checksum, doc_id)
    restored = "INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)"
    raw(file, f"UPDATE sqlite_schema SET sql = ? WHERE name = 'document'; {restored}", strict, *index)
    with open_database(file) as db:
        for id in ("a", "b"):
            with pytest.raises(CorruptIndex, match="checksum"):
                db.get(id)
        assert db.check() != []


def test_names_in_the_schema_that_are_no_text(file: Path) -> None:
    raw(file, "UPDATE sqlite_schema SET name = x'FF' WHERE name = 'term_document'")
    raw(file, "UPDATE sqlite_schema SET tbl_name = 7 WHERE name = 'document_term'")
    with pytest.raises(SpladeLiteError):
        open_database(file)
