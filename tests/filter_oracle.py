"""What a filter means, in plain Python; random metadata and filters; a table of documents to try them on."""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

import apsw

from spladelite.documents.filters import compile_filter, matching_among, matching_doc_ids, prepare_filters

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
