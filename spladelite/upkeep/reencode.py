"""Move a database to another model: build the new index beside the file, then exchange the content in one transaction.

The file beside, ``kb.db.reencode``, is an ordinary database with the new model, filled by ``upsert``: after an
interruption the same call goes on where it stopped, since what is there already is not encoded again. Meanwhile the old
model serves every reader, and others may write. At the end SQLite's backup copies all pages over the live database as
one transaction: a reader sees the old index or the new one, never a mixture. A handle that was open before notices at
its next call, and follows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import apsw

from spladelite.documents.metadata_index import metadata_index_fields
from spladelite.errors import Busy, CorruptIndex, SpladeLiteError
from spladelite.file.connection import Connections
from spladelite.file.sqlite import BUSY_TIMEOUT_MS, fetch

if TYPE_CHECKING:
    from spladelite.database import SpladeLite

BATCH = 512
ATTEMPTS = 20

# The new index numbers its segments and passages from far above the old one's: an id is never used twice, so that
# posting lists which some process has cached by segment stay true.
_GAP = 1 << 32


def reencode(
    live: Connections, path: str, create: Callable[[str], SpladeLite], advance: Callable[[int], object]
) -> None:
    """Fill the database that ``create(path beside)`` opens with the documents of ``live``, and exchange them.

    Raises:
        Busy: others changed the database at every one of 20 attempts to exchange.
    """
    side_path = ":memory:" if live.memory else f"{path}.reencode"
    with live.outside_transaction(), _open_side(side_path, create) as side:
        _renumber(live, side)
        for attempt in range(ATTEMPTS):
            version = _catch_up(live, side, advance if attempt == 0 else lambda _: None)
            with side._connections.outside_transaction() as source:
                done = exchange(live, source, version)
            if done:
                break
        else:
            raise Busy(f"{path}: others write without a pause; call reencode again, it goes on where it stopped")
    if not live.memory:
        os.unlink(side_path)


def _open_side(side_path: str, create: Callable[[str], SpladeLite]) -> SpladeLite:
    try:
        return create(side_path)
    except SpladeLiteError:
        if side_path == ":memory:" or not os.path.exists(side_path):
            raise
    # Left behind by a call with another model or other settings.
    os.unlink(side_path)
    return create(side_path)


def _renumber(live: Connections, side: SpladeLite) -> None:
    with live.read() as connection:
        used = dict(fetch(connection, "SELECT name, seq FROM sqlite_sequence"))
    with side._connections.write() as connection:
        for table in ("passage", "segment"):
            if connection.execute("SELECT 1 FROM sqlite_sequence WHERE name = ?", (table,)).get is None:
                first = (used.get(table, 0) // _GAP + 1) * _GAP
                connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, first))


def _catch_up(live: Connections, side: SpladeLite, advance: Callable[[int], object]) -> int:
    """Bring the new index up to the live documents; returns the state of ``live`` that it now has."""
    with live.read() as connection:
        version: int = connection.execute("PRAGMA data_version").get
        known = {id for (id,) in fetch(connection, "SELECT id FROM document")}
        fields = metadata_index_fields(connection)
    for field in fields:
        side.create_metadata_index(field)
    for batch in _documents(live):
        texts, ids, metadata = zip(*batch, strict=True)
        side.upsert(texts, ids=ids, metadata=[json.loads(text) for text in metadata], progress=False)
        advance(len(batch))
    side.delete([id for id in side if id not in known])
    return version


def _documents(live: Connections) -> Iterator[list[tuple[str, str, str]]]:
    after = 0
    while True:
        with live.read() as connection:
            rows = fetch(
                connection,
                "SELECT doc_id, id, text, metadata FROM document WHERE doc_id > ? ORDER BY doc_id LIMIT ?",
                (after, BATCH),
            )
        if not rows:
            return
        if any(following <= doc_id for doc_id, following in pairwise([after, *(row[0] for row in rows)])):
            raise CorruptIndex(f"documents after {after} are out of order; run check(repair=True)")
        after = rows[-1][0]
        yield [(text, id, metadata) for _, id, text, metadata in rows]


def exchange(live: Connections, source: apsw.Connection, version: int) -> bool:
    """Copy ``source`` over the live database, as one transaction; False if others have written since ``version``."""
    with live.outside_transaction() as reading:
        target = reading if live.memory else apsw.Connection(live.path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            target.set_busy_timeout(BUSY_TIMEOUT_MS)
            with target.backup("main", source, "main") as copying:
                copying.step(1)  # from here on nobody else can write
                if not live.memory and reading.execute("PRAGMA data_version").get != version:
                    return False
                copying.step(-1)
            return True
        finally:
            if target is not reading:
                target.close()
