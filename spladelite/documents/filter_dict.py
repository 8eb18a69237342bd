"""A filter's dict -> one SQL expression over the table ``document``; :mod:`spladelite.documents.filters` has the rules.

The expression calls two functions of ours, ``moment`` and ``casefold``, and is true, false or NULL for each document.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from spladelite.documents.filter_sql import SqlValue, is_list, items, scalar, show
from spladelite.errors import InvalidFilter
from spladelite.json_values import days_around, moment

MAX_CONDITIONS = 500  # SQLite refuses expressions deeper than 1000, and each AND is one level
MAX_DEPTH = 32

_RANGES = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_OPERATORS = (
    "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $empty, $contains, $not_contains, $icontains, $any, $all, $not"
)
_NUMBER = "IN ('integer', 'real')"
_TEXT = "= 'text'"
_PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_MEANT_OTHERWISE = re.compile(r"id|text|doc\..*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Field:
    """SQL expressions of what a condition looks at.

    Attributes:
        value: its value; NULL where it is missing.
        kind: its JSON type; NULL where it is missing.
        inside: the arguments of ``json_each`` for its elements; None for what is no metadata.
    """

    value: str
    kind: str
    inside: str | None = None


_NO_LIST = "'[]'"  # what the elements of an id or a text are those of
OWN_FIELDS = {"$id": Field("id", "'text'"), "$text": Field("text", "'text'")}
_ELEMENT = Field("element.value", "element.type", "")


@dataclass(slots=True)
class DictCompiler:
    """Builds the SQL from left to right, so that ``args`` are in the order of their ``?``."""

    args: list[SqlValue] = field(default_factory=list)
    count: int = 0

    def conditions(self, where: object, depth: int) -> str:
        """The expression of a dict of conditions."""
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
            elif key in OWN_FIELDS:
                parts.append(self.field(OWN_FIELDS[key], key, operand, depth))
            elif key.startswith("$"):
                raise InvalidFilter(
                    f"{key!r} is not an operator that holds conditions; known are $and, $or, $not, and the fields $id "
                    f"and $text (inside a key: {_OPERATORS}; a key that begins with $ is written '\\\\{key}')"
                )
            elif _MEANT_OTHERWISE.fullmatch(key):
                own = "$" + key.removeprefix("doc.")
                instead = f"the document's own is {own!r}, " if own in OWN_FIELDS else ""
                raise InvalidFilter(
                    f"{key!r} is easily meant otherwise: {instead}"
                    f"and the metadata key of this name is written with a backslash, {chr(92) + key!r}"
                )
            else:
                parts.append(self.field(field_of(key), key, operand, depth))
        return f"({' AND '.join(parts)})" if parts else "TRUE"

    def field(self, column: Field, path: str, operand: object, depth: int) -> str:
        """The expression of all that is asked of one field."""
        if not isinstance(operand, Mapping):
            return self.equal(column, operand, path, "$eq")
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"the filter is nested more than {MAX_DEPTH} deep")
        if not operand:
            raise InvalidFilter(f"{path!r}: an empty dict has no operator; use one of {_OPERATORS}")
        parts = []
        for operator, value in operand.items():
            match operator:
                case "$eq":
                    parts.append(self.equal(column, value, path, operator))
                case "$ne":
                    parts.append(_complement(self.equal(column, value, path, operator)))
                case "$in":
                    parts.append(self.member(column, value, path, operator))
                case "$nin":
                    parts.append(_complement(self.member(column, value, path, operator)))
                case "$exists":
                    self.counted()
                    parts.append(f"{column.kind} IS {'NOT ' if _flag(value, path, operator) else ''}NULL")
                case "$empty":
                    self.counted()
                    empty = _empty(column)
                    parts.append(empty if _flag(value, path, operator) else _complement(empty))
                case "$contains":
                    parts.append(self.contains(column, value, path, operator))
                case "$not_contains":
                    parts.append(_complement(self.contains(column, value, path, operator)))
                case "$icontains":
                    parts.append(self.contains_folded(column, value, path))
                case "$any":
                    parts.append(_some_element(column, self.member(_ELEMENT, value, path, operator)))
                case "$all":
                    parts.append(self.all(column, value, path))
                case "$not":
                    if not isinstance(value, Mapping):
                        raise InvalidFilter(f"{path!r}: $not takes a dict of operators, not {show(value)}; or use $ne")
                    parts.append(_complement(self.field(column, path, value, depth + 1)))
                case "$gt" | "$gte" | "$lt" | "$lte":
                    continue
                case "$regex":
                    raise InvalidFilter(
                        f"{path!r}: there is no $regex, since the time that a pattern takes cannot be bounded; use "
                        f"$contains or $icontains"
                    )
                case _:
                    raise InvalidFilter(
                        f"{path!r}: unknown operator {show(operator)}; known are {_OPERATORS}; "
                        f"a field of a nested object is reached by a dot: 'a.b'"
                    )
        parts += self.ranges(column, {o: value for o, value in operand.items() if o in _RANGES}, path)
        return f"({' AND '.join(parts)})"

    def ranges(self, column: Field, bounds: Mapping[str, object], path: str) -> Iterator[str]:
        """Conditions of all ``$gt $gte $lt $lte`` of a field, one for numbers and one for strings."""
        by_kind: dict[str, dict[str, SqlValue]] = {}
        for operator, value in bounds.items():
            if value is None or isinstance(value, bool | np.bool_):
                raise InvalidFilter(f"{path!r}: {operator} compares numbers or strings; {value!r} has no order")
            checked = scalar(value, path, operator)
            by_kind.setdefault(_TEXT if isinstance(checked, str) else _NUMBER, {})[operator] = checked
        value = column.value
        for kind, operands in by_kind.items():
            self.counted(len(operands) + 1)
            parts = []
            for operator, bound in operands.items():
                when = _moment_of(column, bound)
                if when is None:
                    parts.append(f"{value} {_RANGES[operator]} ?")
                    self.args.append(bound)
                else:  # as moments where the field is one too; its text is near enough for a search of the index
                    below, above = days_around(when)
                    near, edge = (">=", below) if operator in ("$gt", "$gte") else ("<", above)
                    comparison = _RANGES[operator]
                    parts.append(
                        f"{value} {near} ? AND coalesce(moment({value}) {comparison} ?, {value} {comparison} ?)"
                    )
                    self.args += [edge, when, bound]
            # In SQLite every number comes before every string: these bounds keep a search of the index short.
            if kind == _NUMBER and operands.keys().isdisjoint(("$lt", "$lte")):
                parts.append(f"{value} < ''")
            elif kind == _TEXT and operands.keys().isdisjoint(("$gt", "$gte")):
                parts.append(f"{value} >= ''")
            yield f"({' AND '.join(parts)} AND {column.kind} {kind})"

    def equal(self, column: Field, operand: object, path: str, operator: str) -> str:
        """The field equals one value."""
        value, kind = column.value, column.kind
        checked = scalar(operand, path, operator)
        self.counted()
        if checked is None:
            return f"{value} IS NULL"
        if isinstance(checked, bool):  # SQLite reads true as 1
            return f"({value} = {int(checked)} AND {kind} = '{str(checked).lower()}')"
        when = _moment_of(column, checked)
        if when is not None:
            self.args += [*days_around(when), when]
            return f"({value} >= ? AND {value} < ? AND {kind} {_TEXT} AND moment({value}) IS ?)"
        self.args.append(checked)
        return f"({value} = ? AND {kind} {_TEXT if isinstance(checked, str) else _NUMBER})"

    def member(self, column: Field, operand: object, path: str, operator: str) -> str:
        """The field equals one of several values."""
        value, kind = column.value, column.kind
        values = [scalar(item, path, operator) for item in _listed(operand, path, operator)]
        parts = [
            self.equal(column, special, path, operator)
            for special in (None, True, False)
            if any(item is special for item in values)
        ]
        whens = [when for item in values if (when := _moment_of(column, item)) is not None]
        texts = [item for item in values if isinstance(item, str) and _moment_of(column, item) is None]
        numbers = [item for item in values if isinstance(item, int | float) and not isinstance(item, bool)]
        for same_kind, condition in ((texts, _TEXT), (numbers, _NUMBER)):
            if same_kind:
                self.counted()
                self.args.append(json.dumps(same_kind, ensure_ascii=False))
                parts.append(f"({value} IN (SELECT value FROM json_each(?)) AND {kind} {condition})")
        if whens:
            self.counted()
            self.args += [days_around(min(whens))[0], days_around(max(whens))[1], json.dumps(whens)]
            among = f"moment({value}) IN (SELECT value FROM json_each(?))"
            parts.append(f"({value} >= ? AND {value} < ? AND {kind} {_TEXT} AND {among})")
        return f"({' OR '.join(parts)})" if parts else "FALSE"

    def contains(self, column: Field, operand: object, path: str, operator: str) -> str:
        """The field is a string with this part, or a list with this element."""
        checked = scalar(operand, path, operator)
        parts = []
        if isinstance(checked, str):
            self.counted()
            self.args.append(checked)
            parts.append(f"({column.kind} {_TEXT} AND instr({column.value}, ?) > 0)")
        if column.inside is not None:
            parts.append(_some_element(column, self.equal(_ELEMENT, checked, path, operator)))
        return f"({' OR '.join(parts)})" if parts else "FALSE"

    def contains_folded(self, column: Field, operand: object, path: str) -> str:
        """The same for strings without regard to case."""
        checked = scalar(operand, path, "$icontains")
        if not isinstance(checked, str):
            raise InvalidFilter(f"{path!r}: $icontains takes a string, not {show(operand)}; use $contains")
        self.counted(2)
        self.args.append(checked.casefold())
        text = f"({column.kind} {_TEXT} AND instr(casefold({column.value}), ?) > 0)"
        if column.inside is None:
            return text
        self.args.append(checked.casefold())
        return f"({text} OR {_some_element(column, f'element.type {_TEXT} AND casefold(element.value) = ?')})"

    def all(self, column: Field, operand: object, path: str) -> str:
        """The field is a list with each of these elements."""
        self.counted()
        parts = [f"{column.kind} = 'array'"]
        parts += [
            _some_element(column, self.equal(_ELEMENT, item, path, "$all")) for item in _listed(operand, path, "$all")
        ]
        return f"({' AND '.join(parts)})"

    def counted(self, conditions: int = 1) -> None:
        """Refuse more conditions than SQLite takes."""
        self.count += conditions
        if self.count > MAX_CONDITIONS:
            raise InvalidFilter(f"the filter has more than {MAX_CONDITIONS} conditions; use $in for a list of values")


def _complement(sql: str) -> str:
    return f"({sql} IS NOT TRUE)"  # NOT would keep what is neither true nor false: NULL


def _some_element(column: Field, condition: str) -> str:
    elements = f"SELECT 1 FROM json_each({column.inside or _NO_LIST}) AS element WHERE {condition}"
    return f"({column.kind} = 'array' AND EXISTS ({elements}))"


def _empty(column: Field) -> str:
    if column.inside is None:
        return f"({column.value} = '')"
    nothing_in_it = f"NOT EXISTS (SELECT 1 FROM json_each({column.inside}))"
    return (
        f"({column.value} IS NULL OR ({column.kind} {_TEXT} AND {column.value} = '')"
        f" OR ({column.kind} IN ('array', 'object') AND {nothing_in_it}))"
    )


def _moment_of(column: Field, value: object) -> int | None:
    return moment(value) if column.inside is not None and isinstance(value, str) else None


def _flag(value: object, path: str, operator: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidFilter(f"{path!r}: {operator} takes True or False, not {show(value)}")
    return value


def _listed(operand: object, path: str, operator: str) -> Sequence[object]:
    if not is_list(operand):
        raise InvalidFilter(f"{path!r}: {operator} takes a list of values, not {show(operand)}")
    return items(operand)


def labels_of(path: str) -> list[str]:
    """The keys that a metadata path names, from the outside in."""
    labels = [re.sub(r"\\([.$])", r"\1", label) for label in re.split(r"(?<!\\)\.", path)]
    if labels[0] in (r"\id", r"\text", r"\doc"):
        labels[0] = labels[0][1:]
    return labels


def field_of(path: str) -> Field:
    """The SQL expressions of a metadata path."""
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
    name = labels[0] if len(labels) == 1 and _PLAIN.fullmatch(labels[0]) else literal
    return Field(f"metadata ->> '{name}'", f"json_type(metadata, '{literal}')", f"metadata, '{literal}'")
