"""Filters that are dicts, against a plain Python oracle and a real SQLite table."""

from __future__ import annotations

import datetime
import json
import random
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from filter_oracle import KEYS, database, holds, matches, random_filter, random_metadata

from spladelite.documents.filters import Filter, compile_filter, matching_among, matching_doc_ids
from spladelite.documents.metadata_index import metadata_index_sql
from spladelite.errors import CorruptIndex, InvalidFilter, WrongType


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
