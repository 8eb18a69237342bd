"""A Chroma folder's texts and metadata, out of its SQLite file, which is opened read-only; Chroma is not needed.

Chroma keeps a row of ``embeddings`` for each record and its metadata as rows of ``embedding_metadata``, the text among
them under the key ``chroma:document``. Its vectors are of a dense model, lie in other files, and are not read.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from typing import Any
from urllib.parse import quote

from spladelite.documents.sources import Source
from spladelite.errors import InvalidInput

FILE = "chroma.sqlite3"
_DOCUMENT = "chroma:document"


def read_chroma(path: str, collection: str | None = None) -> Iterator[Source]:
    """The records of a collection, in the order in which they were added; the text of one without text is empty.

    Args:
        path: the folder that Chroma's ``PersistentClient`` was given, or the file in it.
        collection: name or id; None if there is only one.

    Raises:
        InvalidInput: the file is none of Chroma's, or there is no such collection, or more than one.
        OSError: there is no such file.
    """
    file = os.path.join(path, FILE) if os.path.isdir(path) else path
    open(file, "rb").close()  # sqlite3's own message does not say what is wrong
    with _reading(file) as connection:
        yield from _records(connection, file, _segment(connection, file, collection))


@contextmanager
def _reading(file: str) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"file:{quote(os.path.abspath(file))}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise InvalidInput(f"{file} cannot be read as Chroma's SQLite file: {error}") from error


def _segment(connection: sqlite3.Connection, file: str, collection: str | None) -> str:
    """The id of the segment that holds a collection's texts."""
    found = connection.execute(
        """
        SELECT c.id, c.name, s.id, (SELECT count(*) FROM embeddings e WHERE e.segment_id = s.id)
        FROM collections c JOIN segments s ON s.collection = c.id WHERE s.scope = 'METADATA' ORDER BY c.name
        """
    ).fetchall()
    chosen = [row for row in found if collection is None or collection in row[:2]]
    if len(chosen) != 1:
        names = ", ".join(f"{name!r} with {count:,} records" for _, name, _, count in found) or "none"
        asked = "has more than one collection; choose" if len(found) > 1 else "has no such collection; choose"
        raise InvalidInput(f"{file} {asked} by --collection, by name or id: {names}")
    return str(chosen[0][2])


def _records(connection: sqlite3.Connection, file: str, segment: str) -> Iterator[Source]:
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(embedding_metadata)")}
    truth = "bool_value" if "bool_value" in columns else "NULL"  # files of early versions have none
    lists = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'embedding_metadata_array'").fetchone()
    values = f"key, string_value, int_value, float_value, {truth}"
    rows = connection.execute(
        f"""
        SELECT e.id, e.embedding_id, {values} FROM embeddings e LEFT JOIN embedding_metadata m ON m.id = e.id
        WHERE e.segment_id = ? ORDER BY e.id
        """,
        (segment,),
    )
    for (number, id), group in groupby(rows, key=lambda row: (row[0], row[1])):
        metadata: dict[str, Any] = {row[2]: _value(row[3:]) for row in group if row[2] is not None}
        if lists:
            for row in connection.execute(
                f"SELECT {values} FROM embedding_metadata_array WHERE id = ? ORDER BY rowid", (number,)
            ):
                metadata.setdefault(row[0], []).append(_value(row[1:]))
        text = metadata.pop(_DOCUMENT, None)
        if not isinstance(id, str) or not isinstance(text, str | None):
            raise InvalidInput(f"{file}: the id or text of record {number} is no text")
        yield Source(id, text or "", metadata or None, f"{file}: record {number}")


def _value(row: tuple[Any, ...]) -> str | int | float | bool | None:
    """A metadata value: the one of its columns that is filled."""
    text, whole, real, truth = row
    if truth is not None:
        return bool(truth)
    found: str | int | float | None = next((value for value in (text, whole, real) if value is not None), None)
    return found
