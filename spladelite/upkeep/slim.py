"""Turn a copy of a database into a slim one: without stored vectors, for shipping. It can be searched, not changed."""

from __future__ import annotations

from typing import Any

from spladelite.file.sqlite import open_file
from spladelite.index.passages import Layout, passage_checksum
from spladelite.index.segments import merge_all
from spladelite.index.settings import mark_slim, read_meta


def _checksum(*key: Any) -> int:
    passage_id, doc_id, start, end = key
    return passage_checksum(passage_id, doc_id, start, end, 0, b"", b"")


def make_slim(path: str) -> None:
    """Seal and merge all in the file at ``path``, then drop vectors and feedback. Nobody else may have it open."""
    connection = open_file(path)
    try:
        connection.execute("BEGIN IMMEDIATE")
        layout: Layout = read_meta(connection).layout
        merge_all(connection, layout)
        connection.create_scalar_function("slim_checksum", _checksum, 4)
        connection.execute(
            "UPDATE passage SET scale = 0, terms = NULL, impacts = NULL,"  # the segments have the scales
            " checksum = slim_checksum(passage_id, doc_id, start_char, end_char)"
        )
        connection.execute("DELETE FROM feedback")  # it is the users', and nothing learns from a slim file
        mark_slim(connection)
        connection.execute("COMMIT")
        connection.execute("VACUUM")
    finally:
        connection.close()
