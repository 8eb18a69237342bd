"""The caller's own SQL in a filter: checked before it is put into a statement, and run under an authorizer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

import apsw
import numpy as np

from spladelite.errors import InvalidFilter, InvalidInput
from spladelite.json_values import json_scalar

SqlValue = str | int | float | bytes | None

_READABLE = {
    "document": frozenset(("", "doc_id", "id", "text", "metadata")),
    "json_each": frozenset(("", "key", "value", "type", "atom", "id", "parent", "fullkey", "path", "json", "root")),
}
_READABLE["json_tree"] = _READABLE["json_each"]
_FUNCTION_NAMES = """
    abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat concat_ws cos cosh count date
    datetime degrees exp floor format glob group_concat hex ifnull iif if instr json json_array json_array_length
    json_extract json_object json_quote json_type json_valid julianday length like likelihood likely ln log log10
    log2 lower ltrim max min mod nullif octet_length pi pow power printf quote radians replace round rtrim sign sin
    sinh sqrt strftime substr substring sum tan tanh time timediff total trim trunc typeof unhex unicode unixepoch
    unlikely upper current_date current_time current_timestamp -> ->>
"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())

# Strings, quoted names and comments are skipped whole; `wrong` is what must not remain outside of them. The last
# alternative of it: SQLite reads `:a(...)` as one parameter up to the parenthesis, whatever stands inside.
_LEXER = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] | --[^\n]*\n? | /\*.*?\*/
    | (?P<paren>[()]) | (?P<wrong>; | ['"`\[] | /\* | [:@\#$][\w$:\x80-\U0010ffff]*\( ) | .""",
    re.VERBOSE | re.DOTALL,
)


def check_sql(sql: str) -> None:
    """Refuse what is not one expression, so that our parentheses around it stay ours."""
    if not sql.strip():
        raise InvalidFilter("where is an empty SQL expression; give None for no filter")
    if "\0" in sql or not _is_unicode(sql):
        raise InvalidFilter("where has a character that SQL cannot hold; pass values through where_args")
    depth = 0
    for token in _LEXER.finditer(sql):
        if wrong := token["wrong"]:
            raise InvalidFilter(
                f"where has {wrong!r} at character {token.start()}: give one SQL expression, with strings, names "
                f"and comments closed and no ';', and pass values through where_args"
            )
        if token["paren"]:
            depth += 1 if token["paren"] == "(" else -1
            if depth < 0:
                raise InvalidFilter(f"where closes a parenthesis at character {token.start()} that it did not open")
    if depth:
        raise InvalidFilter(f"where leaves {depth} parenthes{'is' if depth == 1 else 'es'} open")


def sql_args(
    where_args: object, name: str = "where_args", error: type[InvalidInput] = InvalidFilter
) -> tuple[tuple[str, ...] | None, tuple[SqlValue, ...]]:
    """Names (None for ``?``) and checked values of ``where_args``, or of another argument called ``name``.

    Raises:
        InvalidInput: of the kind ``error``; says which value is of a kind that SQL does not have.
    """
    if where_args is None:
        return None, ()
    if isinstance(where_args, Mapping):
        if not all(isinstance(key, str) for key in where_args):
            raise error(f"{name}: the names of parameters are strings, without the colon")
        return tuple(where_args), tuple(_sql_value(value, f"{name}[{n!r}]", error) for n, value in where_args.items())
    if not is_list(where_args) or isinstance(where_args, Set):
        raise error(f"{name} is {show(where_args)}; give a list for '?' or a dict for ':name'")
    return None, tuple(_sql_value(value, f"{name}[{i}]", error) for i, value in enumerate(items(where_args)))


def _sql_value(value: object, name: str, error: type[InvalidInput]) -> SqlValue:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    try:
        return scalar(value, "SQL", name)
    except InvalidFilter as problem:
        raise error(str(problem).removeprefix("'SQL': ")) from None


def run_authorized(
    connection: apsw.Connection, sql: str, bindings: tuple[SqlValue, ...] | dict[str, SqlValue]
) -> str | None:
    """The one value of a SELECT that holds the caller's expression; while it runs, nothing but reading is allowed."""
    denied: list[str] = []

    def authorize(
        action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None
    ) -> int:
        if action == apsw.SQLITE_SELECT:
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_READ and second in _READABLE.get(str(first), ()):
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_FUNCTION and str(second).lower() in _FUNCTIONS:
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_READ:
            denied.append(f"the column {first}.{second}" if second else f"the table {first}")
        elif action == apsw.SQLITE_FUNCTION:
            denied.append(f"the function {second}()")
        else:
            denied.append(str(apsw.mapping_authorizer_function[action]))
        return apsw.SQLITE_DENY

    before = connection.authorizer
    connection.authorizer = authorize
    try:
        text: str | None = connection.execute(sql, bindings, can_cache=False).get
        return text
    except (apsw.SQLError, apsw.AuthError, apsw.MismatchError, apsw.TooBigError) as error:
        if not denied:
            raise InvalidFilter(f"where is not a SQL expression that works here: {error}") from error
        raise InvalidFilter(
            f"where may not use {denied[0]}; it can read the columns doc_id, id, text and "
            f"metadata of document, and use SQLite's own scalar functions"
        ) from error
    except (apsw.BindingsError, KeyError) as error:
        raise InvalidFilter(f"where and where_args do not fit each other: {error}") from error
    finally:
        connection.authorizer = before


def scalar(operand: object, path: str, operator: str) -> str | int | float | bool | None:
    """The operand, if it is one JSON scalar that SQLite can compare."""
    operand = json_scalar(operand)
    if operand is None or isinstance(operand, bool):
        return operand
    if isinstance(operand, str):
        if not _is_unicode(operand):
            raise InvalidFilter(f"{path!r}: {operator} of {show(operand)}: a lone surrogate is not valid Unicode")
        return str(operand)
    if isinstance(operand, int):
        if not -(2**63) <= operand < 2**63:
            raise InvalidFilter(
                f"{path!r}: {operator} of {show(operand)}: integers have at most 64 bits, in metadata too"
            )
        return int(operand)
    if isinstance(operand, float):
        if not math.isfinite(operand):
            raise InvalidFilter(f"{path!r}: {operator} of {operand}: metadata holds finite numbers only")
        return float(operand)
    raise InvalidFilter(
        f"{path!r}: {operator} of {show(operand)}: values are strings, numbers, booleans, None or dates; "
        f"for several values use $in"
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_list(operand: object) -> bool:
    """Whether it is a list, tuple, set or array of values."""
    return isinstance(operand, Sequence | Set | np.ndarray) and not isinstance(operand, str | bytes)


def items(operand: Any) -> list[object]:
    """The values of what :func:`is_list` accepts."""
    return list(operand.tolist() if isinstance(operand, np.ndarray) else operand)


def show(value: object) -> str:
    """``repr`` for an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
