"""The user's SQL reads, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import apsw
import pytest
from small_file import edit, names, open_database

from spladelite.errors import (
    DatabaseError,
    InvalidInput,
)

REFUSED = [
    "INSERT INTO document VALUES (1, 'x', 'x', '{}', 1, x'', 0)",
    "DELETE FROM document",
    "UPDATE meta SET value = ''",
    "DROP TABLE document",
    "CREATE TEMP TABLE t (a)",
    "CREATE TABLE t (a)",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA query_only = 0",
    "BEGIN IMMEDIATE",
    "VACUUM",
    "VACUUM INTO 'stolen.db'",
    "REINDEX",
    "ANALYZE",
    "SELECT load_extension('evil')",
    "SELECT writefile('a', 'b')",
    "SELECT topk(1, 2, 3, 4, 5)",
    "ATTACH 'missing.db' AS missing",
    "SELECT 1; DELETE FROM document",
    "nonsense",
    "SELECT * FROM no_such_table",
    "SELECT zeroblob(2000000000)",
    "",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_user_sql_reads_and_nothing_else(
    file: Path, tmp_path: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_database(file) as db:
        with suppress(InvalidInput, DatabaseError):
            assert db.sql(statement) == []
        assert list(db) == ["a", "b"]
        db.add("w5", ids="e")
        assert db.check() == []
    assert names(file) == ["kb.db"]


def test_an_attached_file_takes_no_part_in_our_transactions(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    edit(other, "CREATE TABLE t (a)", "INSERT INTO t VALUES (7)", "CREATE VIEW v AS SELECT splade_score(1, 'w1') AS s")
    with open_database(file) as db:
        db.sql("ATTACH ? AS other", [str(other)])
        assert db.sql("SELECT a FROM other.t") == [(7,)]
        with pytest.raises(InvalidInput):
            db.sql("SELECT s FROM other.v")  # a stranger's view may not call our functions
        with pytest.raises(InvalidInput):
            db.sql("INSERT INTO other.t VALUES (8)")
        writer = apsw.Connection(str(other))
        writer.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES (9)")
        db.add("w5", ids="e")  # not held up by the other file's lock
        writer.execute("COMMIT")
        writer.close()
        db.sql("ATTACH ? AS myself", [str(file)])
        assert db.sql("SELECT count(*) FROM myself.document") == [(3,)]
    with open_database(file) as db:
        assert db.check() == []
