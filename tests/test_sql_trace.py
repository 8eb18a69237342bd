"""The SQL that two calls issue, pinned: a statement more is a page read more, on every call, for every user."""

from __future__ import annotations

import re

import apsw
from raw_sql import connections_of

from spladelite import SpladeLite


def traced(db: SpladeLite) -> list[str]:
    """A list that grows by the verb and the table of every statement that this thread's connection runs."""
    statements: list[str] = []

    def note(_: apsw.Cursor, sql: str, __: object) -> bool:
        verb = sql.split()[0].upper()
        table = re.search(r"\b(?:FROM|INTO|UPDATE)\s+(\w+)", sql)
        statements.append(sql.strip() if verb == "PRAGMA" else f"{verb} {table[1]}" if table else verb)
        return True

    with connections_of(db).outside_transaction() as connection:
        connection.exec_trace = note
    return statements


def test_the_statements_of_a_search(db: SpladeLite) -> None:
    db.add(["A car crashed into a tree.", "Let the bread cool."], ids=["car", "bread"])
    db.search("warm up")
    statements = traced(db)
    assert db.search("automobile accident", mode="splade")[0].id == "car"
    # One transaction: has the file changed, then the documents. The lists of a tail are in memory.
    assert statements == ["BEGIN", "PRAGMA data_version", "SELECT carray", "ROLLBACK"]


def test_the_statement_that_reads_posting_lists_is_one(path: str) -> None:
    with SpladeLite(path, tail_size=1) as db:
        db.add(["A car crashed into a tree.", "Let the bread cool."], ids=["car", "bread"])
        db.search("warm up")
        statements = traced(db)
        assert db.search("automobile accident", mode="splade")[0].id == "car"
        assert statements == ["BEGIN", "PRAGMA data_version", "SELECT carray", "SELECT carray", "ROLLBACK"]
        statements.clear()
        assert db.search("automobile accident", mode="splade")[0].id == "car"
        assert statements == ["BEGIN", "PRAGMA data_version", "SELECT carray", "ROLLBACK"]  # the lists are cached


def test_the_statements_of_adding_one_text(db: SpladeLite) -> None:
    db.add("The first one pays for the vocabulary.", ids="first")
    statements = traced(db)
    db.add("A car crashed into a tree.", ids="car")
    looked_up = ["BEGIN", "SELECT meta", "SELECT carray", "ROLLBACK"]  # before the model runs, outside the write
    written = ["INSERT document", "INSERT passage", "INSERT document_words"]
    upkeep = ["SELECT segment", "SELECT passage", "SELECT segment", "SELECT segment", "SELECT passage"]
    upkeep += ["SELECT tombstone", "INSERT meta"]
    assert statements == [
        *looked_up,
        *("BEGIN", "SELECT meta", "SELECT carray", "SELECT sqlite_sequence"),
        *written,
        *upkeep,
        "COMMIT",
    ]
