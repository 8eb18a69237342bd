"""Names for engines that key and filter by short strings: passages' UUIDs, and digests of metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any
from uuid import UUID

from spladelite.transfer.conditions import fields, path_key


def point_id(id: str, ordinal: int) -> str:
    """A passage's UUID, from its document's id and its place there."""
    return str(UUID(bytes=blake2b(f"{ordinal} {id}".encode(), digest_size=16).digest(), version=5))


def digest(path: str, value: object = None) -> str:
    """A short name for a path (:func:`~spladelite.transfer.conditions.path_key`), or for a path with a value.

    Equal numbers have one, 1 and 1.0 too; ``true`` and ``"1"`` have others.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    text = path if value is None else f"{path} {json.dumps(value)}"
    return "p" + blake2b(text.encode(), digest_size=12).hexdigest()


def searched(id: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What filters look at: ``has`` and ``set``, digests of paths (with and without null), ``eq``, of paths with their
    values, and ``num``, numbers by the digest of their path."""
    found = [(digest(path_key(field.path)), field) for field in fields(id, metadata)]
    return {
        "has": [name for name, _ in found],
        "set": [name for name, field in found if field.kind != "null"],
        "eq": [digest(path_key(f.path), f.value) for _, f in found if f.kind not in ("null", "container")],
        "num": {
            name: float(field.value)
            for name, field in found
            if isinstance(field.value, int | float)
            and not isinstance(field.value, bool)
            and math.isfinite(float(field.value))
        },
    }
