"""Metadata as columns, one a field, so that a page fetches only what its filter needs.

::

    column := header, code × documents     gzipped as a whole
    header := uint32 length, JSON          {"values": [...], "width": 1 | 2 | 4}
    code   := uint8 | uint16 | uint32      0: missing   1: a list or an object   n: values[n - 2]
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

MAX_FIELDS = 1000
"""The most frequent fields that get a column; a filter on another one is an error, not a wrong answer."""

_Key = tuple[type, Any]


class Columns:
    """Collects the fields of one document after another."""

    def __init__(self) -> None:
        self._rows: dict[str, list[int]] = {}
        self._codes: dict[str, list[int]] = {}
        self._values: dict[str, dict[_Key, int]] = {}
        self._documents = 0

    def add(self, metadata: dict[str, Any]) -> None:
        """The next document's metadata."""
        self._walk("", metadata)
        self._documents += 1

    def _walk(self, prefix: str, metadata: dict[str, Any]) -> None:
        for key, value in metadata.items():
            path = prefix + escape(key)
            values = self._values.setdefault(path, {})
            if isinstance(value, dict | list):
                code = 1
            else:
                # 1 and 1.0 are one value to a filter, True and 1 are not.
                same = (float if isinstance(value, int) and not isinstance(value, bool) else type(value), value)
                code = values.setdefault(same, len(values) + 2)
            self._rows.setdefault(path, []).append(self._documents)
            self._codes.setdefault(path, []).append(code)
            if isinstance(value, dict):
                self._walk(path + ".", value)

    def __len__(self) -> int:
        return len(self._rows)

    def encoded(self) -> list[tuple[str, int, bytes]]:
        """Path, number of distinct values and bytes (not yet gzipped) of each column, at most ``MAX_FIELDS``."""
        paths = sorted(self._rows, key=lambda path: (-len(self._rows[path]), path))[:MAX_FIELDS]
        return [(path, len(self._values[path]), self._column(path)) for path in paths]

    def _column(self, path: str) -> bytes:
        values = [value for _, value in self._values[path]]
        width = 1 if len(values) < 254 else 2 if len(values) < 65_534 else 4
        codes = np.zeros(self._documents, f"<u{width}")
        codes[self._rows[path]] = self._codes[path]
        header = json.dumps({"values": values, "width": width}, ensure_ascii=False).encode()
        return len(header).to_bytes(4, "little") + header + codes.tobytes()


def escape(key: str) -> str:
    """A key as filters write it in a path: dots, and a dollar sign at its beginning, get a backslash."""
    key = key.replace(".", "\\.")
    return "\\" + key if key.startswith("$") else key
