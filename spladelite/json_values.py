"""Python values that are no JSON but have one plain form in it, for metadata and filters alike.

==============================  ==================================================================================
given                           stored, and compared, as
==============================  ==================================================================================
``datetime``, ``date``          ISO 8601 text: ``"2024-05-01T12:00:00+02:00"``, ``"2024-05-01"``
``UUID``                        its text, ``"123e4567-e89b-12d3-a456-426614174000"``
``Decimal``                     a number; beyond 17 significant digits rounded, as every float is
NumPy scalar                    the Python value; ``datetime64`` as a ``date`` or ``datetime`` without a time zone
==============================  ==================================================================================

Nothing else is guessed: tuples, sets, bytes, arrays and objects are refused where JSON is asked for.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from uuid import UUID

import numpy as np

_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def json_scalar(value: object) -> object:
    """The JSON scalar that stands for ``value``; any other value unchanged."""
    if isinstance(value, np.datetime64) and isinstance(value.item(), int):
        value = value.astype("datetime64[us]").item()  # nanoseconds, which no datetime holds
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        if value.is_finite() and abs(value) < 2**63 and value == value.to_integral_value():
            return int(value)
        return float("nan") if value.is_nan() else float(value)
    return value


def json_values(value: object) -> object:
    """The same with every scalar inside of dicts and lists."""
    if isinstance(value, Mapping):
        return {key: json_values(inner) for key, inner in value.items()}
    return [json_values(inner) for inner in value] if isinstance(value, list) else json_scalar(value)


def canonical_json(text: str) -> str:
    """JSON text that is equal for equal values: the order of keys does not matter, and true is not 1."""
    return json.dumps(json.loads(text), sort_keys=True)


def merge_patch(target: object, patch: object) -> object:
    """JSON merge patch (RFC 7396): objects are merged key by key, null takes a key away, all else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def moment(text: str) -> int | None:
    """Microseconds since 1970 of an ISO 8601 text with date, time and time zone; None for any other text."""
    if not _MOMENT.fullmatch(text):
        return None
    try:
        return (datetime.datetime.fromisoformat(text) - _EPOCH) // datetime.timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None


def days_around(microseconds: int) -> tuple[str, str]:
    """Two texts between which every text of this moment lies, whatever its time zone: below is first <= t < second."""
    day = _EPOCH.date().toordinal() + microseconds // 86_400_000_000
    lowest, highest = datetime.date.min.toordinal(), datetime.date.max.toordinal()
    first, second = max(day - 2, lowest), day + 3
    after = ":" if second > highest else datetime.date.fromordinal(max(second, lowest)).isoformat()
    return datetime.date.fromordinal(min(first, highest)).isoformat(), after
