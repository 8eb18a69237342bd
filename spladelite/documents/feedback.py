"""What users said of documents that they found: useful for a query, or not. It stays in the file, row after row.

Functions take a connection that is inside a transaction. A document may go while what was said of it stays; the newest
row about a query and a document holds.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from zlib import crc32

import apsw

from spladelite.errors import CorruptIndex, InvalidInput, WrongType
from spladelite.file.sqlite import fetch
from spladelite.records import Feedback

Row = tuple[int, str, str, float, str, int]


def check_value(value: object) -> float:
    """A judgment: above 0 is useful, the more the better; 0 or below is not."""
    if not isinstance(value, int | float):  # True and False are numbers, and say what they mean
        raise WrongType(f"value is of type {type(value).__name__}; give a number: above 0 for useful, 0 for not useful")
    if not math.isfinite(value):
        raise InvalidInput(f"value is {value}; give a finite number: above 0 for useful, 0 for not useful")
    return float(value)


def store(connection: apsw.Connection, query: str, id: str, value: float) -> None:
    """Add a row; the arguments are checked already."""
    (last,) = fetch(connection, "SELECT ifnull(max(feedback_id), 0) FROM feedback")[0]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    row = (last + 1, query, id, value, at)
    connection.execute("INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?)", (*row, checksum(*row)))


def read(connection: apsw.Connection) -> list[Feedback]:
    """The newest row about each query and document, oldest first. Queries that differ in case or spaces are one.

    Raises:
        CorruptIndex: a row has changed since it was written.
    """
    newest: dict[tuple[str, str], Feedback] = {}
    for row in _rows(connection):
        found = _checked(row)
        key = (" ".join(found.query.casefold().split()), found.id)
        newest.pop(key, None)
        newest[key] = found
    return list(newest.values())


def problems(connection: apsw.Connection) -> Iterator[tuple[int, str]]:
    """The rows that are not as they were written, and what is wrong with each."""
    for row in _rows(connection):
        try:
            _checked(row)
        except CorruptIndex as error:
            yield row[0], str(error)


def copy(source: apsw.Connection, target: apsw.Connection) -> None:
    """Copy the rows that are as they were written, as far as they can be read."""
    damaged = {feedback_id for feedback_id, _ in problems(source)}
    kept = (row for row in _rows(source) if row[0] not in damaged)
    target.executemany("INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?)", kept)


def checksum(feedback_id: int, query: str, id: str, value: float, at: str) -> int:
    """CRC-32 of a row: its numbers little-endian, then its texts as UTF-8, each with a zero byte after it."""
    texts = b"".join(text.encode() + b"\0" for text in (query, id, at))
    return crc32(texts, crc32(struct.pack("<qd", feedback_id, value)))


def _rows(connection: apsw.Connection) -> list[Row]:
    sql = "SELECT feedback_id, query, id, value, at, checksum FROM feedback ORDER BY feedback_id"
    return fetch(connection, sql)


def _checked(row: Row) -> Feedback:
    feedback_id, query, id, value, at, stored = row
    if checksum(feedback_id, query, id, value, at) != stored:
        raise CorruptIndex(f"feedback {feedback_id}: its content is not what its checksum says; run check(repair=True)")
    return Feedback(query, id, value, at)
