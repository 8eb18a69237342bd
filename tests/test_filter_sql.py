"""Filters that are SQL conditions, some of them by people who mean harm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw
import pytest
from filter_oracle import database, matches

from spladelite.documents.filters import compile_filter, matching_doc_ids
from spladelite.errors import InvalidFilter


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    connection = database([{"year": 2000 + i, "tags": ["x", f"t{i}"]} for i in range(5)])
    before = connection.execute("SELECT * FROM secret, document").fetchall()
    yield connection
    assert connection.execute("SELECT * FROM secret, document").fetchall() == before
    assert connection.authorizer is None


@pytest.mark.parametrize(
    ("where", "where_args", "expected"),
    [
        ("metadata ->> 'year' >= ?", [2003], [4, 5]),
        ("metadata ->> 'year' BETWEEN :a AND :b", {"a": 2001, "b": 2002}, [2, 3]),
        ("id IN ('id1', 'id3') -- a comment", None, [1, 3]),
        ("/* ) */ id = 'id1' OR text = '); DROP TABLE secret; --'", None, [1]),
        ("id LIKE 'ID%' AND NOT text GLOB '*2'", None, [1, 3, 4, 5]),
        ("doc_id IN (SELECT value FROM json_each(?))", ["[2, 4]"], [2, 4]),
        ("EXISTS (SELECT 1 FROM json_each(metadata, '$.tags') WHERE value = 't3')", None, [4]),
        ("doc_id % 2 = 0 AND length(text) = 6", (), [2, 4]),
        ("NULL", None, []),
        ("rowid > 4", None, [5]),
    ],
)
def test_sql_conditions(connection: apsw.Connection, where: str, where_args: object, expected: list[int]) -> None:
    assert matches(connection, where, where_args) == expected


INJECTIONS = [
    "1; DELETE FROM document",
    "1); DELETE FROM document; --",
    "1) OR (1",
    "1) UNION SELECT value FROM secret WHERE (1",
    "1) LIMIT (1",
    "1) -- ",
    "1 /*",
    "1) /*",
    "(1",
    "1)",
    "'",
    '"',
    "`",
    "[",
    "x'",
    "$a(')) LIMIT (1 --')",
    ":a(')) LIMIT (1 --')",
    "@a::b(')) LIMIT (1 --')",
    "1 = (SELECT count(*) FROM secret)",
    "EXISTS (SELECT 1 FROM secret)",
    "'hunter2' IN (SELECT value FROM secret)",
    "'hunter2' IN secret",
    "doc_id IN (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)",
    "doc_id IN (WITH document AS (SELECT * FROM secret) SELECT value FROM document)",
    "checksum = 7",
    "document.checksum = 7",
    "EXISTS (SELECT * FROM document)",
    "EXISTS (SELECT 1 FROM sqlite_schema)",
    "EXISTS (SELECT 1 FROM pragma_database_list)",
    "EXISTS (SELECT 1 FROM pragma_table_info('secret'))",
    "doc_id IN pragma_page_count",
    "load_extension('x')",
    "readfile('/etc/passwd') NOT NULL",
    "writefile('/tmp/x', 'y')",
    "edit('x')",
    "fts3_tokenizer('x')",
    "randomblob(9) NOT NULL",
    "zeroblob(9) NOT NULL",
    "sqlite_version() > ''",
    "ours(1)",
    "PRAGMA writable_schema = 1",
    "ATTACH 'x' AS y",
    "DROP TABLE secret",
    "INSERT INTO secret VALUES (1, 2)",
    "SELECT value FROM secret",
    "1 ORDER BY id",
    "1 LIMIT 1",
    "1 GROUP BY id",
    "count(*) > 1",
    "id, text",
    "nowhere = 1",
    "id MATCH 'x'",
    "id REGEXP 'x'",
    "1 = raise(ABORT, 'x')",
    "",
    " \n",
    "-- only a comment",
    "\x00",
    "id = '\x00'",
    "id = '\ud800'",
    "?",
    "id = :name",
]


@pytest.mark.parametrize("where", INJECTIONS)
def test_injections_are_refused(connection: apsw.Connection, where: str) -> None:
    connection.create_scalar_function("ours", lambda *_: 1)
    with pytest.raises(InvalidFilter):
        matches(connection, where)


def test_a_refusal_names_what_was_asked_for(connection: apsw.Connection) -> None:
    for where, name in [
        ("EXISTS (SELECT value FROM secret)", "secret.value"),
        ("checksum = 7", "document.checksum"),
        ("load_extension('x')", r"load_extension\(\)"),
        ("nowhere = 1", "no such column: nowhere"),
    ]:
        with pytest.raises(InvalidFilter, match=name):
            matches(connection, where)


def test_a_statement_cached_before_does_not_slip_past_the_authorizer(connection: apsw.Connection) -> None:
    condition = compile_filter("EXISTS (SELECT 1 FROM secret)")
    assert condition is not None
    sql = f"SELECT group_concat(doc_id + 10, '') FROM document WHERE (\n{condition.sql}\n)"
    assert connection.execute(sql).get is not None
    with pytest.raises(InvalidFilter, match="secret"):
        matching_doc_ids(connection, condition)


@pytest.mark.parametrize(
    ("where", "where_args", "message"),
    [
        ("id = ?", ["a", "b"], "do not fit"),
        ("id = ?", [], "do not fit"),
        ("id = :a", {"b": 1}, "do not fit"),
        ("id = ?", "a", "give a list"),
        ("id = ?", {"a"}, "give a list"),
        ("id = ?", [object()], r"where_args\[0\]"),
        ("id = ?", [[1]], r"where_args\[0\]"),
        ("id = ?", [2**64], "64 bits"),
        ("id = ?", [float("nan")], "finite"),
        ("id = :a", {1: 1}, "names of parameters are strings"),
        ({"a": 1}, [1], "put a dict's values into the dict"),
        (None, [1], "where_args are the values of a SQL condition"),
    ],
)
def test_arguments_that_do_not_fit(connection: apsw.Connection, where: Any, where_args: Any, message: str) -> None:
    with pytest.raises(InvalidFilter, match=message):
        matches(connection, where, where_args)


def test_equal_filters_are_those_that_select_the_same() -> None:
    assert compile_filter(None) is None
    assert compile_filter({"a": 1}) == compile_filter({"a": 1})
    assert compile_filter("id = ?", [1]) == compile_filter("id = ?", [1])
    dicts: list[dict[str, object]] = [{"a": 1}, {"a": 2}, {"a": "1"}, {"a": True}, {"b": 1}, {"a": {"$ne": 1}}]
    filters = [*map(compile_filter, dicts), *(compile_filter("id = ?", [value]) for value in ("1", 1, 1.0))]
    filters.append(compile_filter("id = :a", {"a": 1}))
    assert len(set(filters)) == len(filters)
    for clock in ("metadata ->> 'until' > datetime('now')", "metadata ->> 'until' > CURRENT_TIMESTAMP"):
        assert compile_filter(clock) != compile_filter(clock)
