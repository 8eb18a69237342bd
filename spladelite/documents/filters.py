r"""``where=``: a dict or a SQL condition -> the documents that may be found.

**A dict** compares metadata. Keys are paths: a dot goes down into a nested object (``"author.name"``); a key that
itself has a dot or begins with a dollar sign is written with a backslash (``r"v1\.2"``, ``r"\$price"``). Several keys,
and several operators of one key, must all hold; ``{}`` holds for every document.

======================  ============================================================================================
``{"a": x}``            the same as ``{"a": {"$eq": x}}``
``$eq``                 same JSON type and equal: 1 equals 1.0, but neither ``true`` nor ``"1"``;
                        ``None``: the field is null or missing
``$gt $gte $lt $lte``   two numbers, or two strings (by code point); false for everything else
``$in``                 equal to one of the list's values; ``[]``: no document
``$exists``             ``True``: the field is there, null included; ``False``: it is not
``$ne``, ``$nin``       the exact complements of ``$eq`` and ``$in``: a missing field is not equal to 1
``$not``                the exact complement of a condition: ``{"$not": {"a": 1}}``, ``{"a": {"$not": {"$gt": 1}}}``
``$and``, ``$or``       a list of at least one dict
======================  ============================================================================================

A field whose value is a list or an object equals nothing, and lists are not descended into; ``$exists``, ``$ne``,
``$nin`` and ``$not`` see such a field.

**A string** is one SQL expression over the columns ``doc_id, id, text, metadata`` of the table ``document``, with ``?``
or ``:name`` for ``where_args``. It runs under an authorizer: built-in scalar functions and ``json_each`` are allowed,
nothing else. Conditions on ``metadata ->> 'year'`` use the index of ``create_metadata_index("year")``; conditions on
``metadata ->> '$."author"."name"'``, written just so, that of ``"author.name"``.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.documents.filter_sql import SqlValue, check_sql, is_list, items, run_authorized, scalar, show, sql_args
from spladelite.errors import CorruptIndex, InvalidFilter, WrongType

MAX_CONDITIONS = 500  # SQLite refuses expressions deeper than 1000, and each AND is one level
MAX_DEPTH = 32

_RANGES = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_OPERATORS = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $not"
_NUMBER = "IN ('integer', 'real')"
_TEXT = "= 'text'"
_PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_CLOCK = re.compile(r"\b(date|time|datetime|julianday|strftime|unixepoch|timediff|current_\w+)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition over the table ``document``, for :func:`matching_doc_ids`.

    Equal filters select the same documents of one state of the file; one that reads the clock equals itself only.

    Attributes:
        sql: an expression without surrounding parentheses.
        args: the values of its parameters, in order.
        names: the parameters' names, one a value, or None where they are ``?``.
        trusted: built here from a dict; otherwise the caller's own SQL, which runs under an authorizer.
        stamp: tells apart what would compare as equal: 1, 1.0 and True; two readings of the clock.
    """

    sql: str
    args: tuple[SqlValue, ...]
    names: tuple[str, ...] | None
    trusted: bool
    stamp: object = field(repr=False)

    @property
    def bindings(self) -> tuple[SqlValue, ...] | dict[str, SqlValue]:
        """What to execute the statement with."""
        return self.args if self.names is None else dict(zip(self.names, self.args, strict=True))


def compile_filter(where: Mapping[str, object] | str | None, where_args: object = None) -> Filter | None:
    """The condition that ``where`` stands for; None where there is none.

    Args:
        where: a dict or a SQL expression; the module's docstring has the rules.
        where_args: values for a SQL expression's parameters: a sequence for ``?``, a mapping for ``:name``.

    Raises:
        InvalidFilter: anything that is not exactly a filter, naming the operator or the place. SQL that does not
            compile is found by :func:`matching_doc_ids`.
        WrongType: ``where`` is neither a dict nor a string.
    """
    if isinstance(where, str):
        check_sql(where)
        names, args = sql_args(where_args)
        stamp: object = object() if _CLOCK.search(where) else tuple(map(type, args))
        return Filter(where, args, names, False, stamp)
    if where_args is not None:
        raise InvalidFilter(
            "where_args are the values of a where that is a SQL string; put a dict's values into the dict"
        )
    if where is None:
        return None
    if not isinstance(where, Mapping):
        raise WrongType(
            f"where is of type {type(where).__name__}; give a dict, such as {{'year': 2020}}, or a SQL string"
        )
    compiler = _Compiler()
    sql, values = compiler.conditions(where, 0), tuple(compiler.args)
    return Filter(sql, values, None, True, tuple(map(type, values)))


def matching_doc_ids(connection: apsw.Connection, condition: Filter) -> NDArray[np.int64]:
    """``doc_id`` of the documents that match, ascending, int64 ``(n,)``.

    The ids come as one string of fixed-width numbers: fetching rows would cost three times as much.

    Raises:
        InvalidFilter: the caller's SQL does not compile, reaches for what it may not, or fails on a document.
    """
    low, high = connection.execute(
        "SELECT coalesce((SELECT min(doc_id) FROM document), 1), coalesce((SELECT max(doc_id) FROM document), 1)"
    ).get
    if low < 1 or high >= 10**17:
        raise CorruptIndex(f"table document has a doc_id of {low if low < 1 else high}; run check()")
    width = len(str(high)) + 1
    offset = 10 ** (width - 1)
    text = _run(connection, f"SELECT group_concat(doc_id + {offset}, '') FROM document WHERE", condition)
    found = np.frombuffer(text.encode(), np.uint8)
    if len(found) % width:
        raise CorruptIndex("table document: doc_ids are out of order; run check(repair=True)")
    digits = found.reshape(-1, width)
    ids = np.zeros(len(digits), np.int64)
    for place in range(1, width):
        ids *= 10
        ids += digits[:, place] - ord("0")
    ids.sort()
    return ids


def matching_among(connection: apsw.Connection, condition: Filter, doc_ids: Sequence[int]) -> set[int]:
    """Those of a few documents that match; errors as above. No index is asked, and no other document read."""
    few = f"doc_id IN (SELECT value FROM json_each('{list(doc_ids)}'))"
    text = _run(connection, f"SELECT group_concat(doc_id) FROM document NOT INDEXED WHERE {few} AND", condition)
    return {int(doc_id) for doc_id in text.split(",")} if text else set()


def _run(connection: apsw.Connection, select: str, condition: Filter) -> str:
    # The line break keeps a comment at the end of the caller's SQL from swallowing the parenthesis.
    sql = f"{select} (\n{condition.sql}\n)"
    if not condition.trusted:
        return run_authorized(connection, sql, condition.bindings) or ""
    try:
        return connection.execute(sql, condition.args, can_cache=False).get or ""
    except apsw.SQLError as error:
        raise CorruptIndex(f"table document has metadata that is not JSON ({error}); run check()") from error


@dataclass(slots=True)
class _Compiler:
    """Builds the SQL from left to right, so that ``args`` are in the order of their ``?``."""

    args: list[SqlValue] = field(default_factory=list)
    count: int = 0

    def conditions(self, where: object, depth: int) -> str:
        if not isinstance(where, Mapping):
            raise InvalidFilter(
                f"{show(where)} stands where a filter was expected; give a dict, such as {{'year': 2020}}"
            )
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"the filter is nested more than {MAX_DEPTH} deep")
        parts = []
        for key, operand in where.items():
            if not isinstance(key, str):
                raise InvalidFilter(f"{show(key)} is not a metadata key; keys are strings")
            if key in ("$and", "$or"):
                if not is_list(operand) or not operand:
                    raise InvalidFilter(f"{key} takes a list of at least one dict, not {show(operand)}")
                joined = f" {key[1:].upper()} ".join(self.conditions(item, depth + 1) for item in items(operand))
                parts.append(f"({joined})")
            elif key == "$not":
                parts.append(_complement(self.conditions(operand, depth + 1)))
            elif key.startswith("$"):
                raise InvalidFilter(
                    f"{key!r} is not an operator that holds conditions; known are $and, $or, $not "
                    f"(inside a key: {_OPERATORS}; a key that begins with $ is written '\\\\{key}')"
                )
            else:
                parts.append(self.field(key, operand, depth))
        return f"({' AND '.join(parts)})" if parts else "TRUE"

    def field(self, path: str, operand: object, depth: int) -> str:
        columns = columns_of(path)
        if not isinstance(operand, Mapping):
            return self.equal(columns, operand, path, "$eq")
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"the filter is nested more than {MAX_DEPTH} deep")
        if not operand:
            raise InvalidFilter(f"{path!r}: an empty dict has no operator; use one of {_OPERATORS}")
        parts = []
        for operator, value in operand.items():
            match operator:
                case "$eq":
                    parts.append(self.equal(columns, value, path, operator))
                case "$ne":
                    parts.append(_complement(self.equal(columns, value, path, operator)))
                case "$in":
                    parts.append(self.member(columns, value, path, operator))
                case "$nin":
                    parts.append(_complement(self.member(columns, value, path, operator)))
                case "$exists":
                    if not isinstance(value, bool):
                        raise InvalidFilter(f"{path!r}: $exists takes True or False, not {show(value)}")
                    self.counted()
                    parts.append(f"{columns[1]} IS {'NOT ' if value else ''}NULL")
                case "$not":
                    if not isinstance(value, Mapping):
                        raise InvalidFilter(f"{path!r}: $not takes a dict of operators, not {show(value)}; or use $ne")
                    parts.append(_complement(self.field(path, value, depth + 1)))
                case "$gt" | "$gte" | "$lt" | "$lte":
                    continue
                case _:
                    raise InvalidFilter(
                        f"{path!r}: unknown operator {show(operator)}; known are {_OPERATORS}; "
                        f"a field of a nested object is reached by a dot: 'a.b'"
                    )
        parts += self.ranges(columns, {o: value for o, value in operand.items() if o in _RANGES}, path)
        return f"({' AND '.join(parts)})"

    def ranges(self, columns: tuple[str, str], bounds: Mapping[str, object], path: str) -> Iterable[str]:
        """Conditions of all ``$gt $gte $lt $lte`` of a field, one for numbers and one for strings."""
        by_kind: dict[str, dict[str, SqlValue]] = {}
        for operator, value in bounds.items():
            if value is None or isinstance(value, bool | np.bool_):
                raise InvalidFilter(f"{path!r}: {operator} compares numbers or strings; {value!r} has no order")
            checked = scalar(value, path, operator)
            by_kind.setdefault(_TEXT if isinstance(checked, str) else _NUMBER, {})[operator] = checked
        for kind, operands in by_kind.items():
            self.counted(len(operands) + 1)
            parts = [f"{columns[0]} {_RANGES[operator]} ?" for operator in operands]
            self.args.extend(operands.values())
            # In SQLite every number comes before every string: these bounds keep a search of the index short.
            if kind == _NUMBER and operands.keys().isdisjoint(("$lt", "$lte")):
                parts.append(f"{columns[0]} < ''")
            elif kind == _TEXT and operands.keys().isdisjoint(("$gt", "$gte")):
                parts.append(f"{columns[0]} >= ''")
            yield f"({' AND '.join(parts)} AND {columns[1]} {kind})"

    def equal(self, columns: tuple[str, str], operand: object, path: str, operator: str) -> str:
        value, kind = columns
        checked = scalar(operand, path, operator)
        self.counted()
        if checked is None:
            return f"{value} IS NULL"
        if isinstance(checked, bool):  # SQLite reads true as 1
            return f"({value} = {int(checked)} AND {kind} = '{str(checked).lower()}')"
        self.args.append(checked)
        return f"({value} = ? AND {kind} {_TEXT if isinstance(checked, str) else _NUMBER})"

    def member(self, columns: tuple[str, str], operand: object, path: str, operator: str) -> str:
        if not is_list(operand):
            raise InvalidFilter(f"{path!r}: {operator} takes a list of values, not {show(operand)}")
        value, kind = columns
        values = [scalar(item, path, operator) for item in items(operand)]
        parts = [
            self.equal(columns, special, path, operator)
            for special in (None, True, False)
            if any(item is special for item in values)
        ]
        texts = [item for item in values if isinstance(item, str)]
        numbers = [item for item in values if isinstance(item, int | float) and not isinstance(item, bool)]
        for same_kind, condition in ((texts, _TEXT), (numbers, _NUMBER)):
            if same_kind:
                self.counted()
                self.args.append(json.dumps(same_kind, ensure_ascii=False))
                parts.append(f"({value} IN (SELECT value FROM json_each(?)) AND {kind} {condition})")
        return f"({' OR '.join(parts)})" if parts else "FALSE"

    def counted(self, conditions: int = 1) -> None:
        self.count += conditions
        if self.count > MAX_CONDITIONS:
            raise InvalidFilter(f"the filter has more than {MAX_CONDITIONS} conditions; use $in for a list of values")


def _complement(sql: str) -> str:
    return f"({sql} IS NOT TRUE)"  # NOT would keep what is neither true nor false: NULL


def labels_of(path: str) -> list[str]:
    """The keys that a path names, from the outside in."""
    return [re.sub(r"\\([.$])", r"\1", label) for label in re.split(r"(?<!\\)\.", path)]


def columns_of(path: str) -> tuple[str, str]:
    """The two SQL expressions of a metadata path: its value, and its JSON type (NULL where it is missing)."""
    labels = labels_of(path)
    for label in labels:
        if any(character in '"\\' or unicodedata.category(character) in ("Cc", "Cs") for character in label):
            raise InvalidFilter(
                f"the metadata key {label!r} cannot be used in a filter: SQLite's JSON paths have no quotes, "
                f"backslashes or control characters"
            )
    literal = "$" + "".join(f'."{label}"' for label in labels)
    literal = literal.replace("'", "''")
    # A plain name as people write it in SQL, so that their conditions use the same index.
    name = path if _PLAIN.fullmatch(path) else literal
    return f"metadata ->> '{name}'", f"json_type(metadata, '{literal}')"
