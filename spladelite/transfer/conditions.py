"""``where=`` for engines that are not SQLite: one parsed form, which each engine translates.

A condition is a tree of :class:`Not`, :class:`All` and :class:`AnyOf` over :class:`Test`. Unlike SQL's, its logic has
two values: a test of a field that is missing is false, so that ``Not`` is the plain complement. What the dict forms
mean is defined in :mod:`spladelite.documents.filters`, which also checks them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spladelite.documents.filter_dict import labels_of
from spladelite.documents.filter_sql import items, scalar
from spladelite.documents.filters import compile_filter
from spladelite.errors import Unsupported
from spladelite.json_values import moment

Scalar = str | int | float | bool | None
Operator = Literal["eq", "lt", "lte", "gt", "gte", "exists", "contains"]
# Keys that no filter can name stand for what is not metadata, and for what is derived of a value: beside "key" there is
# "key\x01m", the moment that a text is, and so on.
ID_PATH = ("\x01id",)
TEXT_PATH = ("\x01text",)
MOMENT, FOLDED, EMPTY, LIST, ELEMENT, FOLDED_ELEMENT = "\x01m", "\x01c", "\x01e", "\x01l", "\x01v", "\x01f"
RANGES: Mapping[str, Operator] = {"$lt": "lt", "$lte": "lte", "$gt": "gt", "$gte": "gte"}


@dataclass(frozen=True, slots=True)
class Test:
    """One field against one value.

    Attributes:
        path: keys from the outside in.
        operator: ``"exists"`` is true of null too; ``"eq"`` with None: the field is null or missing; ``"contains"`` is
            of strings.
        value: None, bool, str, or a number of at most 64 bits; for ``"exists"`` None.
    """

    path: tuple[str, ...]
    operator: Operator
    value: Scalar = None


@dataclass(frozen=True, slots=True)
class Not:
    """The complement."""

    part: Condition


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; without parts, always."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A part holds; without parts, never."""

    parts: tuple[Condition, ...]


Condition = Test | Not | All | AnyOf


def parse(
    where: Mapping[str, object] | str | None, where_args: object = None, where_sql: str | None = None
) -> Condition | None:
    """A ``where=`` as a tree; None where there is none.

    Raises:
        InvalidFilter, WrongType: as a search in a file does.
        Unsupported: SQL, or an operator that only the file has.
    """
    compile_filter(where, where_args, where_sql)
    if isinstance(where, str) or where_sql is not None:
        raise Unsupported("a SQL condition is SQLite's, and this is another engine; give a dict")
    return None if where is None else _conditions(where)


def _conditions(where: Any) -> Condition:
    parts: list[Condition] = []
    for key, operand in where.items():
        if key == "$and":
            parts.append(All(tuple(map(_conditions, items(operand)))))
        elif key == "$or":
            parts.append(AnyOf(tuple(map(_conditions, items(operand)))))
        elif key == "$not":
            parts.append(Not(_conditions(operand)))
        elif key in ("$id", "$text"):
            parts.append(_field(ID_PATH if key == "$id" else TEXT_PATH, key, operand))
        else:
            parts.append(_field(tuple(labels_of(key)), key, operand))
    return All(tuple(parts))


def _field(path: tuple[str, ...], key: str, operand: Any) -> Condition:
    if not isinstance(operand, Mapping):
        return _test(path, "eq", scalar(operand, key, "$eq"))
    parts: list[Condition] = []
    for operator, value in operand.items():
        match operator:
            case "$eq":
                parts.append(_test(path, "eq", scalar(value, key, operator)))
            case "$ne":
                parts.append(Not(_test(path, "eq", scalar(value, key, operator))))
            case "$in" | "$nin":
                member = AnyOf(tuple(_test(path, "eq", scalar(item, key, operator)) for item in items(value)))
                parts.append(member if operator == "$in" else Not(member))
            case "$exists":
                parts.append(Test(path, "exists") if value else Not(Test(path, "exists")))
            case "$not":
                parts.append(Not(_field(path, key, value)))
            case "$lt" | "$lte" | "$gt" | "$gte":
                parts.append(_test(path, RANGES[operator], scalar(value, key, operator)))
            case "$empty":
                parts.append(_empty(path) if value else Not(_empty(path)))
            case "$contains":
                parts.append(_contains(path, scalar(value, key, operator)))
            case "$not_contains":
                parts.append(Not(_contains(path, scalar(value, key, operator))))
            case "$icontains":
                parts.append(_contains_folded(path, str(value)))
            case "$any":
                parts.append(AnyOf(tuple(_has_element(path, scalar(item, key, operator)) for item in items(value))))
            case "$all":
                every = tuple(_has_element(path, scalar(item, key, operator)) for item in items(value))
                parts.append(All((Test(derived(path, LIST), "exists"), *every)))
            case _:
                raise Unsupported(f"where: {operator} works in a file only; this is another engine")
    return All(tuple(parts))


def derived(path: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The path of something that is derived of a field."""
    return (*path[:-1], path[-1] + what)


def _empty(path: tuple[str, ...]) -> Condition:
    return AnyOf((Test(path, "eq", None), Test(path, "eq", ""), Test(derived(path, EMPTY), "exists")))


def _contains(path: tuple[str, ...], value: Scalar) -> Condition:
    parts: list[Condition] = [_has_element(path, value)]
    if isinstance(value, str):
        parts.append(Test(path, "contains", value) if value else Test(path, "gte", ""))
    return AnyOf(tuple(parts))


def _contains_folded(path: tuple[str, ...], value: str) -> Condition:
    if path == TEXT_PATH:
        raise Unsupported("where: $icontains of $text works in a file only; this is another engine")
    part, folded = value.casefold(), derived(path, FOLDED)
    if not part:
        return AnyOf((Test(path, "gte", ""), Test(derived(path, FOLDED_ELEMENT), "exists")))
    plain = All((Not(Test(folded, "exists")), Test(path, "contains", part)))
    return AnyOf((Test(folded, "contains", part), plain, Test(derived(path, FOLDED_ELEMENT + part), "exists")))


def _has_element(path: tuple[str, ...], value: Scalar) -> Condition:
    return Test(derived(path, ELEMENT + _token(value)), "exists")


def _token(value: Scalar) -> str:
    """A list's element as text: equal elements have one."""
    if isinstance(value, str):
        when = moment(value)
        return f"s{value}" if when is None else f"m{when}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def _test(path: tuple[str, ...], operator: Operator, value: Scalar) -> Condition:
    """A test; one against a moment compares moments where the field is one too."""
    when = moment(value) if isinstance(value, str) and path not in (ID_PATH, TEXT_PATH) else None
    if when is None:
        return Test(path, operator, value)
    time = derived(path, MOMENT)
    if operator == "eq":
        return Test(time, "eq", when)
    plain = All((Not(Test(time, "exists")), Test(path, operator, value)))
    return AnyOf((Test(time, operator, when), plain))


Bound = tuple[Operator, int] | tuple[Operator, float] | bool


def integer_bound(operator: Operator, value: float) -> Bound:
    """The condition on a 64-bit integer that ``operator value`` is, exactly; a bool where it always or never holds."""
    if isinstance(value, int):
        return operator, value
    down = math.floor(value)
    if not -(2**63) <= down < 2**63:
        return operator in ("lt", "lte") if value > 0 else operator in ("gt", "gte")
    if down == value:
        return operator, down
    if operator == "eq":
        return False
    return ("lte", down) if operator in ("lt", "lte") else ("gt", down)


def float_bound(operator: Operator, value: float) -> Bound:
    """The condition on a float64 that ``operator value`` is, exactly."""
    near = float(value)
    if near == value:
        return operator, near
    if operator == "eq":
        return False
    below = operator in ("lt", "lte")
    # No float lies between the value and the nearest one.
    return ("lt" if below else "gte", near) if near > value else ("lte" if below else "gt", near)


@dataclass(frozen=True, slots=True)
class Field:
    """One value inside a metadata object: ``kind`` is null, bool, integer, real, text or container."""

    path: tuple[str, ...]
    kind: str
    value: Scalar


def fields(id: str, metadata: Mapping[str, Any]) -> Iterator[Field]:
    """Every value that a filter can reach, at any depth, and what is derived of it."""
    yield Field(ID_PATH, "text", id)
    todo: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [((), metadata)]
    while todo:
        path, object_ = todo.pop()
        for key, value in object_.items():
            inner = (*path, key)
            if isinstance(value, Mapping):
                todo.append((inner, value))
            if isinstance(value, Mapping | list):
                yield Field(inner, "container", None)
                if not value:
                    yield Field(derived(inner, EMPTY), "bool", True)
                if isinstance(value, list):
                    yield from _elements(inner, value)
            elif isinstance(value, str):
                yield Field(inner, "text", value)
                if (when := moment(value)) is not None:
                    yield Field(derived(inner, MOMENT), "integer", when)
                if (folded := value.casefold()) != value:
                    yield Field(derived(inner, FOLDED), "text", folded)
            else:
                yield _plain(inner, value)


def _elements(path: tuple[str, ...], values: list[Any]) -> Iterator[Field]:
    names = {LIST}
    for value in values:
        if not isinstance(value, Mapping | list):
            names.add(ELEMENT + _token(_plain(path, value).value if not isinstance(value, str) else value))
        if isinstance(value, str):
            names |= {FOLDED_ELEMENT + value.casefold(), *([] if value else [FOLDED_ELEMENT])}
    for name in sorted(names):
        yield Field(derived(path, name), "bool", True)


def _plain(path: tuple[str, ...], value: Any) -> Field:
    if value is None:
        return Field(path, "null", None)
    if isinstance(value, bool):
        return Field(path, "bool", value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return Field(path, "integer", value)
    return Field(path, "real", _float(value))  # beyond 64 bits SQLite reads a JSON number as a float


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def path_key(path: Sequence[str]) -> str:
    """A path as one string; different paths have different ones."""
    return json.dumps(list(path), ensure_ascii=False, separators=(",", ":"))


def guard(text: str) -> str:
    """Text without NUL, in the same order as the texts themselves."""
    return text.replace("\x01", "\x01\x02").replace("\0", "\x01\x01")
