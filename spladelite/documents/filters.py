r"""``where=``: a dict or a SQL condition, or both -> the documents that may be found.

**A dict** compares metadata. Keys are paths: a dot goes down into a nested object (``"author.name"``). ``"$id"`` and
``"$text"`` are the document's own; a key that itself has a dot or begins with a dollar sign is written with a
backslash (``r"v1\.2"``, ``r"\$price"``), and so are the metadata keys ``id``, ``text`` and ``doc``, which are easily
meant otherwise (``r"\id"``). Several keys, and several operators of one key, must all hold; ``{}`` holds for every
document.

============================  ======================================================================================
``{"a": x}``                  the same as ``{"a": {"$eq": x}}``
``$eq``                       same JSON type and equal: 1 equals 1.0, but neither ``true`` nor ``"1"``;
                              ``None``: the field is null or missing
``$gt $gte $lt $lte``         two numbers, or two strings (by code point); false for everything else
``$in``                       equal to one of the list's values; ``[]``: no document
``$exists``                   ``True``: the field is there, null included; ``False``: it is not
``$empty``                    ``True``: missing, null, ``""``, ``[]`` or ``{}``; ``False``: anything else
``$contains``                 a string that contains this string, or a list with an element that is equal to this value
``$icontains``                the same for a string without regard to case (Unicode case folding)
``$any``, ``$all``            a list that has at least one, or each, of these values
``$ne $nin $not_contains``    the exact complements of ``$eq``, ``$in``, ``$contains``: a missing field is no 1
``$not``                      the exact complement: ``{"$not": {"a": 1}}``, ``{"a": {"$not": {"$gt": 1}}}``
``$and``, ``$or``             a list of at least one dict
============================  ======================================================================================

Two strings that are both ISO 8601 with date, time and time zone are compared as moments:
``"2024-05-01T12:00:00+02:00"`` equals ``"2024-05-01T10:00:00Z"``. Values may be ``datetime``, ``date``, ``UUID``,
``Decimal`` and NumPy scalars too (:mod:`spladelite.json_values`). A field whose value is a list or an object equals
nothing; only ``$contains``, ``$icontains``, ``$any`` and ``$all`` look into lists. There is no ``$regex``: the time
that a pattern takes cannot be bounded.

**A string** is one SQL expression over the columns ``doc_id, id, text, metadata`` of the table ``document``, with ``?``
or ``:name`` for ``where_args``. It runs under an authorizer: built-in scalar functions and ``json_each`` are allowed,
nothing else. Conditions on ``metadata ->> 'year'`` use the index of ``create_metadata_index("year")``; conditions on
``metadata ->> '$."author"."name"'``, written just so, that of ``"author.name"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.documents.filter_dict import DictCompiler
from spladelite.documents.filter_sql import SqlValue, check_sql, run_authorized, sql_args
from spladelite.errors import CorruptIndex, InvalidFilter, WrongType
from spladelite.json_values import moment

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
        also: a second condition that must hold as well.
    """

    sql: str
    args: tuple[SqlValue, ...]
    names: tuple[str, ...] | None
    trusted: bool
    stamp: object = field(repr=False)
    also: Filter | None = None

    @property
    def bindings(self) -> tuple[SqlValue, ...] | dict[str, SqlValue]:
        """What to execute the statement with."""
        return self.args if self.names is None else dict(zip(self.names, self.args, strict=True))


def compile_filter(
    where: Mapping[str, object] | str | None, where_args: object = None, where_sql: str | None = None
) -> Filter | None:
    """The condition that ``where`` stands for; None where there is none.

    Args:
        where: a dict or a SQL expression; the module's docstring has the rules.
        where_args: values for a SQL expression's parameters: a sequence for ``?``, a mapping for ``:name``.
        where_sql: a SQL expression that must hold as well as the dict.

    Raises:
        InvalidFilter: anything that is not exactly a filter, naming the operator or the place. SQL that does not
            compile is found by :func:`matching_doc_ids`.
        WrongType: ``where`` is neither a dict nor a string.
    """
    if isinstance(where, str):
        if where_sql is not None:
            raise InvalidFilter("where is SQL already; give where_sql beside a dict, or join both with AND")
        where, where_sql = None, where
    sql = None if where_sql is None else _caller_sql(where_sql, where_args)
    if where_args is not None and sql is None:
        raise InvalidFilter("where_args are the values of a SQL condition; put a dict's values into the dict")
    if where is None:
        return sql
    if not isinstance(where, Mapping):
        raise WrongType(
            f"where is of type {type(where).__name__}; give a dict, such as {{'year': 2020}}, or a SQL string"
        )
    compiler = DictCompiler()
    text, values = compiler.conditions(where, 0), tuple(compiler.args)
    return Filter(text, values, None, True, tuple(map(type, values)), sql)


def _caller_sql(sql: object, where_args: object) -> Filter:
    if not isinstance(sql, str):
        raise WrongType(f"where_sql is of type {type(sql).__name__}; give a SQL expression as a str")
    check_sql(sql)
    names, args = sql_args(where_args)
    stamp: object = object() if _CLOCK.search(sql) else tuple(map(type, args))
    return Filter(sql, args, names, False, stamp)


def prepare_filters(connection: apsw.Connection) -> None:
    """Give a connection the functions that dicts are compiled to."""
    connection.create_scalar_function("moment", _sql_moment, 1, deterministic=True)
    connection.create_scalar_function("casefold", _sql_casefold, 1, deterministic=True)


def _sql_moment(*values: object) -> int | None:
    (value,) = values
    return moment(value) if isinstance(value, str) else None


def _sql_casefold(*values: object) -> str | None:
    (value,) = values
    return value.casefold() if isinstance(value, str) else None


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
    if condition.also is not None:
        return np.intersect1d(ids, matching_doc_ids(connection, condition.also), assume_unique=True)
    return ids


def matching_among(connection: apsw.Connection, condition: Filter, doc_ids: Sequence[int]) -> set[int]:
    """Those of a few documents that match; errors as above. No index is asked, and no other document read."""
    few = f"doc_id IN (SELECT value FROM json_each('{list(doc_ids)}'))"
    text = _run(connection, f"SELECT group_concat(doc_id) FROM document NOT INDEXED WHERE {few} AND", condition)
    found = {int(doc_id) for doc_id in text.split(",")} if text else set()
    if condition.also is not None and found:
        return matching_among(connection, condition.also, sorted(found))
    return found


def _run(connection: apsw.Connection, select: str, condition: Filter) -> str:
    # The line break keeps a comment at the end of the caller's SQL from swallowing the parenthesis.
    sql = f"{select} (\n{condition.sql}\n)"
    if not condition.trusted:
        return run_authorized(connection, sql, condition.bindings) or ""
    try:
        return connection.execute(sql, condition.args, can_cache=False).get or ""
    except apsw.SQLError as error:
        raise CorruptIndex(f"table document has metadata that is not JSON ({error}); run check()") from error
