"""Filters against a plain Python oracle, against a real SQLite file, and against people who mean harm."""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from spladelite.documents.filters import Filter, compile_filter, matching_among, matching_doc_ids, prepare_filters
from spladelite.documents.metadata_index import metadata_index_sql
from spladelite.errors import CorruptIndex, InvalidFilter, WrongType

SCHEMA = """
CREATE TABLE document (
  doc_id INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL, metadata TEXT NOT NULL,
  checksum INTEGER NOT NULL DEFAULT 7) STRICT;
CREATE TABLE secret (key TEXT, value TEXT);
INSERT INTO secret VALUES ('password', 'hunter2');
"""


def database(metadata: list[dict[str, Any]], ascii_only: bool = False) -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    prepare_filters(connection)
    connection.execute(SCHEMA)
    connection.executemany(
        "INSERT INTO document (id, text, metadata) VALUES (?, ?, ?)",
        [(f"id{i}", f"text {i}", json.dumps(row, ensure_ascii=ascii_only)) for i, row in enumerate(metadata, 1)],
    )
    return connection


def matches(connection: apsw.Connection, where: Mapping[str, object] | str, where_args: object = None) -> list[int]:
    condition = compile_filter(where, where_args)
    assert condition is not None
    ids: list[int] = matching_doc_ids(connection, condition).tolist()
    every_other = range(1, 1000, 2)
    assert matching_among(connection, condition, every_other) == set(ids).intersection(every_other)
    return ids


# -- the oracle ----------------------------------------------------------------------------------------------------

MISSING = object()


def lookup(metadata: object, path: str) -> object:
    for label in path.split("."):
        if not isinstance(metadata, dict) or label not in metadata:
            return MISSING
        metadata = metadata[label]
    return metadata


def kind(value: object) -> str:
    if value is MISSING or value is None:
        return "null"
    return {bool: "bool", int: "number", float: "number", str: "text"}.get(type(value), "container")


def moment(value: object) -> datetime.datetime | None:
    """A text with date, time and time zone."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)", value):
        with contextlib.suppress(ValueError):
            return datetime.datetime.fromisoformat(value)
    return None


def same(value: object, operand: object) -> bool:
    if moment(value) and moment(operand):
        return moment(value) == moment(operand)
    return kind(value) == kind(operand) and (kind(value) == "null" or value == operand)


def folded(value: object) -> object:
    if isinstance(value, list):
        return [folded(item) for item in value]
    return value.casefold() if isinstance(value, str) else value


def contains(value: object, operand: object) -> bool:
    if isinstance(value, list):
        return any(same(item, operand) for item in value)
    return isinstance(value, str) and isinstance(operand, str) and operand in value


ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}


def holds(metadata: object, where: Any) -> bool:
    for key, operand in where.items():
        if key == "$and":
            ok = all(holds(metadata, item) for item in operand)
        elif key == "$or":
            ok = any(holds(metadata, item) for item in operand)
        elif key == "$not":
            ok = not holds(metadata, operand)
        else:
            ok = field_holds(lookup(metadata, key), operand)
        if not ok:
            return False
    return True


def field_holds(value: object, operand: Any) -> bool:
    if not isinstance(operand, dict):
        return same(value, operand)
    return all(operator_holds(value, operator, right) for operator, right in operand.items())


def operator_holds(value: object, operator: str, right: Any) -> bool:
    match operator:
        case "$eq":
            return same(value, right)
        case "$ne":
            return not same(value, right)
        case "$in":
            return any(same(value, item) for item in right)
        case "$nin":
            return not any(same(value, item) for item in right)
        case "$exists":
            return bool((value is not MISSING) == right)
        case "$empty":
            return bool((value is MISSING or value in (None, "", [], {})) == right)
        case "$contains":
            return contains(value, right)
        case "$not_contains":
            return not contains(value, right)
        case "$icontains":
            return contains(folded(value), folded(right))
        case "$any":
            return isinstance(value, list) and any(contains(value, item) for item in right)
        case "$all":
            return isinstance(value, list) and all(contains(value, item) for item in right)
        case "$not":
            return not field_holds(value, right)
    a, b = moment(value), moment(right)
    if a and b:
        return ORDER[operator](a, b)
    return bool(kind(value) == kind(right) and kind(value) in ("number", "text") and ORDER[operator](value, right))


LOOK_INSIDE = ["$empty", "$contains", "$not_contains", "$icontains", "$any", "$all"]
KEYS = ["$id", "$text", "a", "b", "c_1", "a.b", "b.c", "a.b.c", "naïve 'key'", "[0]"]
SCALARS: list[Any] = [None, True, False, 0, 1, -1, 2, 0.5, 1.0, 2**53 + 1, float(2**53), 2**63 - 1, 1e300, -0.0, 0.1]
SCALARS += [
    "",
    "a",
    "b",
    "A",
    "1",
    "true",
    "null",
    "é",
    "😀",
    "\ufffd",
    "it's",
    '"',
    "\\",
    "\x00",
    "a\x00b",
    "[1]",
    "{}",
    "z",
]


MOMENTS = [
    "2024-05-01T12:00:00+02:00",
    "2024-05-01T10:00:00Z",
    "2024-05-01T10:00Z",
    "2024-05-01T10:00:00.000001+00:00",
    "2024-05-02T09:59:59+23:59",
    "2024-04-30T10:00:00-23:59",
    "2024-05-01T10:00:00",
    "2024-05-01",
    "2024-13-01T10:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
]
SCALARS += [*MOMENTS, "ID1", "id1", "text 1", "ext", "STRASSE", "straße", "id2"]
COMMON: list[Any] = [None, True, 1, 2, "a", "b", *MOMENTS[:2], "Straße"]


def random_scalar(rng: random.Random) -> Any:
    return rng.choice(COMMON if rng.random() < 0.6 else SCALARS)


def random_metadata(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key in rng.sample(["a", "b", "c", "c_1", "naïve 'key'", "[0]"], rng.randrange(1, 6)):
        roll = rng.random()
        if roll < 0.25 and depth < 3:
            row[key] = random_metadata(rng, depth + 1)
        elif roll < 0.33:
            row[key] = [random_scalar(rng) for _ in range(rng.randrange(4))] + [{"b": 1}] * rng.randrange(2)
        elif roll < 0.36:
            row[key] = {}
        else:
            row[key] = random_scalar(rng)
    return row


def random_filter(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    where: dict[str, Any] = {}
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        roll = rng.random()
        if roll < 0.12 and depth < 3:
            where["$and"] = [random_filter(rng, depth + 1) for _ in range(rng.randrange(1, 3))]
        elif roll < 0.24 and depth < 3:
            where["$or"] = [random_filter(rng, depth + 1) for _ in range(rng.randrange(1, 4))]
        elif roll < 0.32 and depth < 3:
            where["$not"] = random_filter(rng, depth + 1)
        elif roll < 0.45:
            where[rng.choice(KEYS)] = random_scalar(rng)
        else:
            where[rng.choice(KEYS)] = random_operators(rng)
    return where


def random_operators(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    operators: dict[str, Any] = {}
    for _ in range(rng.choice([1, 1, 2, 3])):
        operator = rng.choice(["$eq", "$ne", "$in", "$nin", "$exists", "$not", *ORDER, *ORDER, *LOOK_INSIDE])
        if operator in ("$in", "$nin", "$any", "$all"):
            operators[operator] = [random_scalar(rng) for _ in range(rng.randrange(5))]
        elif operator == "$icontains":
            operators[operator] = rng.choice([value for value in SCALARS if isinstance(value, str)])
        elif operator in ("$exists", "$empty"):
            operators[operator] = rng.random() < 0.5
        elif operator == "$not":
            operators[operator] = random_operators(rng, depth + 1) if depth < 2 else {"$eq": 1}
        elif operator in ORDER:
            operators[operator] = rng.choice([v for v in SCALARS if v is not None and not isinstance(v, bool)])
        else:
            operators[operator] = random_scalar(rng)
    return operators


@pytest.mark.parametrize("indexed", [False, True])
def test_10_000_random_filters_equal_the_oracle(indexed: bool) -> None:
    rng = random.Random(7)
    rows = [random_metadata(rng) for _ in range(60)]
    connection = database(rows, ascii_only=indexed)
    if indexed:
        for key in KEYS[2:]:
            connection.execute(metadata_index_sql(key))
    documents = [row | {"$id": f"id{i}", "$text": f"text {i}"} for i, row in enumerate(rows, 1)]
    found = 0
    for _ in range(5_000):
        where = random_filter(rng)
        expected = [i for i, document in enumerate(documents, 1) if holds(document, where)]
        assert matches(connection, where) == expected, where
        found += 0 < len(expected) < len(rows)
    assert found > 1_000  # many filters do select


# -- stated semantics ----------------------------------------------------------------------------------------------


def test_types_do_not_mix() -> None:
    connection = database([{"a": True}, {"a": 1}, {"a": "1"}, {"a": None}, {}, {"a": [1]}, {"a": 1.0}])
    assert matches(connection, {"a": True}) == [1]
    assert matches(connection, {"a": 1}) == [2, 7]
    assert matches(connection, {"a": "1"}) == [3]
    assert matches(connection, {"a": None}) == [4, 5]
    assert matches(connection, {"a": {"$ne": 1}}) == [1, 3, 4, 5, 6]
    assert matches(connection, {"a": {"$exists": True}}) == [1, 2, 3, 4, 6, 7]
    assert matches(connection, {"a": {"$in": [True, "1", None]}}) == [1, 3, 4, 5]
    assert matches(connection, {"a": {"$in": []}}) == []
    assert matches(connection, {"a": {"$nin": []}}) == [1, 2, 3, 4, 5, 6, 7]
    assert matches(connection, {"a": {"$gte": 0}}) == [2, 7]
    assert matches(connection, {"a": {"$gte": ""}}) == [3]
    assert matches(connection, {"a": {"$gte": 0, "$lte": "z"}}) == []
    assert matches(connection, {}) == [1, 2, 3, 4, 5, 6, 7]


def test_the_table_in_the_docs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "filters.md").read_text("utf-8")
    table = [
        [cell.strip() for cell in line[1:-1].split("|")]
        for line in page[page.index('| `{"a": …}` |') :].split("\n\n")[0].splitlines()
    ]
    fields = [{} if cell == "*missing*" else {"a": json.loads(cell.strip("`"))} for cell in table[0][1:]]
    connection = database(fields)
    assert len(table) > 20
    for condition, *cells in table[2:]:
        expected = [i for i, cell in enumerate(cells, 1) if cell == "yes"]
        assert set(cells) <= {"yes", ""}
        assert matches(connection, {"a": json.loads(condition.strip("`"))}) == expected, condition


def test_keys_with_dots_and_dollars_are_written_with_a_backslash() -> None:
    connection = database([{"a.b": 1}, {"a": {"b": 1}}, {"$x": 1}, {"": 1}])
    assert matches(connection, {r"a\.b": 1}) == [1]
    assert matches(connection, {"a.b": 1}) == [2]
    assert matches(connection, {r"\$x": 1}) == [3]
    assert matches(connection, {"": 1}) == [4]


def test_the_documents_own_id_and_text_are_fields_with_a_dollar_sign() -> None:
    connection = database([{"id": "x", "doc": {"id": 1}}, {"text": "y"}])
    assert matches(connection, {"$id": {"$in": ["id1", "id3"]}}) == [1]
    assert matches(connection, {"$text": {"$icontains": "TEXT 2"}}) == [2]
    assert matches(connection, {r"\id": "x"}) == [1]
    assert matches(connection, {r"\text": "y"}) == [2]
    assert matches(connection, {r"\doc.id": 1}) == [1]


def test_a_dict_and_sql_hold_together() -> None:
    connection = database([{"a": i % 2} for i in range(6)])
    condition = compile_filter({"a": 1}, ["id4"], "id >= ?")
    assert condition is not None
    assert matching_doc_ids(connection, condition).tolist() == [4, 6]
    assert matching_among(connection, condition, [1, 2, 3, 4]) == {4}
    assert condition != compile_filter({"a": 1}, ["id5"], "id >= ?")
    with pytest.raises(InvalidFilter, match="where is SQL already"):
        compile_filter("id = 1", None, "id = 2")
    with pytest.raises(WrongType, match="where_sql is of type dict"):
        compile_filter({}, None, {})  # type: ignore[arg-type]


def test_dates_and_other_values_of_python() -> None:
    noon = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    key = uuid.UUID(int=7)
    connection = database(
        [{"a": noon.isoformat()}, {"a": "2024-05-01T10:00:00Z"}, {"a": "2024-05-01"}, {"a": str(key)}, {"a": 2.5}]
    )
    assert matches(connection, {"a": noon}) == [1, 2]
    assert matches(connection, {"a": {"$in": [noon.astimezone(datetime.UTC)]}}) == [1, 2]
    assert matches(connection, {"a": noon.date()}) == [3]
    assert matches(connection, {"a": {"$lt": noon}}) == [3, 4]  # texts that are no moments are compared as texts
    assert matches(connection, {"a": {"$lt": noon, "$gt": noon - datetime.timedelta(1)}}) == [3]
    assert matches(connection, {"a": key}) == [4]
    assert matches(connection, {"a": Decimal("2.50")}) == [5]
    assert matches(connection, {"a": np.datetime64("2024-05-01", "D")}) == [3]
    with pytest.raises(InvalidFilter, match="nan"):
        matches(connection, {"a": Decimal("NaN")})


def test_numpy_scalars_and_arrays_are_values() -> None:
    connection = database([{"a": 1}, {"a": 2.5}, {"a": True}])
    assert matches(connection, {"a": np.int64(1)}) == [1]
    assert matches(connection, {"a": {"$in": np.array([1, 2.5])}}) == [1, 2]
    assert matches(connection, {"a": np.bool_(True)}) == [3]
    assert matches(connection, "metadata ->> 'a' = ?", [np.float64(2.5)]) == [2]


def test_ids_are_read_whole_whatever_their_length() -> None:
    connection = database([])
    assert matches(connection, {}) == []
    ids = [1, 9, 10, 99, 100, 10**9, 10**17 - 1]
    connection.executemany(
        "INSERT INTO document (doc_id, id, text, metadata) VALUES (?1, ?1 || '', '', '{}')", [(i,) for i in ids]
    )
    assert matches(connection, {}) == ids
    connection.execute("INSERT INTO document (doc_id, id, text, metadata) VALUES (-5, 'x', '', '{}')")
    with pytest.raises(CorruptIndex, match="-5"):
        matches(connection, {})


def test_damaged_metadata_is_named_as_damage() -> None:
    connection = database([{"a": 1}])
    connection.execute("UPDATE document SET metadata = '{'")
    with pytest.raises(CorruptIndex, match="not JSON"):
        matches(connection, {"a": 1})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"a": {"$regex": "x"}}, r"no \$regex"),
        ({"a": {"$like": "x"}}, r"unknown operator '\$like'"),
        ({"id": "x"}, r"'id' is easily meant otherwise: the document's own is '\$id'"),
        ({"text": {"$contains": "x"}}, r"'\$text'"),
        ({"doc.year": 1}, r"'doc.year' is easily meant otherwise: and the metadata key"),
        ({"a": {"$icontains": 1}}, r"\$icontains takes a string"),
        ({"a": {"$empty": 1}}, r"\$empty takes True or False"),
        ({"a": {"$any": "x"}}, r"\$any takes a list"),
        ({"a": {"$all": [[1]]}}, r"\$all of \[1\]"),
        ({"a": {"$contains": [1]}}, r"\$contains of \[1\]"),
        ({"a": {"b": 1}}, "unknown operator 'b'.*'a.b'"),
        ({"$nor": [{}]}, r"'\$nor' is not an operator"),
        ({"$and": []}, r"\$and takes a list of at least one dict"),
        ({"$or": {"a": 1}}, r"\$or takes a list"),
        ({"$and": [1]}, "1 stands where a filter was expected"),
        ({"$not": 1}, "a filter was expected"),
        ({"a": {"$not": 1}}, r"\$not takes a dict"),
        ({"a": {}}, "empty dict"),
        ({"a": {"$in": "abc"}}, r"\$in takes a list"),
        ({"a": {"$nin": 1}}, r"\$nin takes a list"),
        ({"a": {"$in": [[1]]}}, r"\$in of \[1\]"),
        ({"a": [1]}, r"\$eq of \[1\]"),
        ({"a": {"$gt": None}}, r"\$gt.*no order"),
        ({"a": {"$lt": True}}, r"\$lt.*no order"),
        ({"a": {"$exists": 1}}, r"\$exists takes True or False"),
        ({"a": float("nan")}, r"\$eq of nan"),
        ({"a": {"$lt": float("inf")}}, r"\$lt of inf"),
        ({"a": {"$in": [2**63]}}, r"\$in of 9223372036854775808"),
        ({"a": b"x"}, r"\$eq of b'x'"),
        ({"a": object}, r"\$eq of <class"),
        ({"a": "\ud800"}, "surrogate"),
        ({1: 1}, "1 is not a metadata key"),
        ({'a"b': 1}, "cannot be used in a filter"),
        ({"a\\b": 1}, "cannot be used in a filter"),
        ({"a\nb": 1}, "cannot be used in a filter"),
        ({"\ud800": 1}, "cannot be used in a filter"),
        ({"$or": [{"a": i} for i in range(501)]}, "more than 500 conditions"),
    ],
)
def test_what_is_no_filter_is_refused_by_name(where: Any, message: str) -> None:
    with pytest.raises(InvalidFilter, match=message):
        compile_filter(where)


@pytest.mark.parametrize("where", [7, [("a", 1)], b"1", True])
def test_where_of_another_type_is_a_type_error(where: Any) -> None:
    with pytest.raises(WrongType, match=f"where is of type {type(where).__name__}"):
        compile_filter(where)
    with pytest.raises(WrongType, match="the metadata field is of type"):
        metadata_index_sql(where)


@pytest.mark.parametrize("wrap", [lambda w: {"$not": w}, lambda w: {"$and": [w]}])
def test_nesting_has_a_limit_and_sqlite_takes_all_below_it(wrap: Callable[[Any], Any]) -> None:
    where: Any = {"$and": [{"a": {"$ne": i}} for i in range(500)]}
    for _ in range(31):
        where = wrap(where)
    assert matches(database([{"a": 5}, {"a": 501}]), where) == ([1] if "$not" in where else [2])
    with pytest.raises(InvalidFilter, match="nested"):
        compile_filter(wrap(wrap(where)))
    operators: Any = {"$eq": 1}
    for _ in range(2000):
        operators = {"$not": operators}
    with pytest.raises(InvalidFilter, match="nested"):
        compile_filter({"a": operators})


def test_a_hundred_thousand_values_are_one_parameter() -> None:
    connection = database([{"a": 99_999}, {"a": "x5"}, {"a": -1}])
    assert matches(connection, {"a": {"$in": [*range(100_000), *(f"x{i}" for i in range(100_000))]}}) == [1, 2]


# -- indexes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        {"year": 5},
        {"year": "x"},
        {"year": True},
        {"year": None},
        {"year": {"$gte": 5}},
        {"year": {"$lt": 5}},
        {"year": {"$gt": 5, "$lt": 9}},
        {"year": {"$gt": "a", "$lte": "b"}},
        {"year": {"$lt": "b"}},
        {"year": {"$in": [1, 2, 3]}},
        {"year": {"$in": ["a"]}},
        {"year": {"$in": ["a", 1]}},
        {"year": "2024-05-01T12:00:00+02:00"},
        {"year": {"$gte": "2024-05-01T12:00:00+02:00", "$lt": "2024-06-01T12:00:00+02:00"}},
        {"year": {"$in": ["2024-05-01T12:00:00+02:00", "2024-06-01T12:00:00+02:00"]}},
        {"year": 5, "lang": "en"},
        {"$or": [{"year": 5}, {"year": 7}]},
        "metadata ->> 'year' > ?",
    ],
)
def test_an_index_is_searched(where: Any) -> None:
    connection = database([])
    connection.execute(metadata_index_sql("year"))
    condition = compile_filter(where, [1] if isinstance(where, str) else None)
    assert condition is not None
    plan = explain(connection, condition)
    assert "SEARCH" in plan
    assert "SCAN document" not in plan
    if isinstance(where, dict) and where.keys() == {"year"} and not isinstance(where["year"], dict):
        assert "COVERING INDEX" in plan


def test_the_index_of_a_nested_field_is_searched() -> None:
    connection = database([])
    connection.execute(metadata_index_sql("author.name"))
    for where in ({"author.name": "x"}, "metadata ->> '$.\"author\".\"name\"' = 'x'"):
        condition = compile_filter(where)
        assert condition is not None
        assert "SEARCH" in explain(connection, condition)


def explain(connection: apsw.Connection, condition: Filter) -> str:
    sql = f"EXPLAIN QUERY PLAN SELECT doc_id FROM document WHERE ({condition.sql})"
    return "\n".join(row[-1] for row in connection.execute(sql, condition.bindings))


def test_index_statements_are_stored_as_given_and_do_not_collide() -> None:
    connection = database([])
    statements = [metadata_index_sql(path) for path in ["a", "A", "a.b", r"a\.b", "it's", "naïve [0]", "", "$", "😀"]]
    for sql in statements:
        connection.execute(sql)
    stored = [
        row[0] for row in connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL")
    ]
    assert stored == statements


@pytest.mark.parametrize("path", ['a"', "a\\", "\x00", "a\n", "\udfff"])
def test_an_index_on_what_a_path_cannot_say_is_refused(path: str) -> None:
    with pytest.raises(InvalidFilter, match="cannot be used"):
        metadata_index_sql(path)


# -- SQL -----------------------------------------------------------------------------------------------------------


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
