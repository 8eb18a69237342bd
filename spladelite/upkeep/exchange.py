"""Put a database that was built beside the live one in its place, in one transaction.

SQLite's backup copies all pages over the live database: a reader sees the old one or the new one, never a mixture, and
a handle that was open before notices at its next call.
"""

from __future__ import annotations

from contextlib import suppress

import apsw

from spladelite.file import schema
from spladelite.file.connection import Connections
from spladelite.file.sqlite import BUSY_TIMEOUT_MS, fetch, open_file, quoted

ATTEMPTS = 20  # while others write

# A database that takes another's place numbers its segments and passages from far above the old ones: an id is never
# used twice, so that what some process has cached under it stays true.
GAP = 1 << 32

State = tuple[int, int]


def number_from(connection: apsw.Connection, table: str, used: int) -> None:
    """Let a new database's ``passage`` or ``segment`` ids begin above the old one's; nothing happens if they do."""
    if not fetch(connection, "SELECT 1 FROM sqlite_sequence WHERE name = ?", (table,)):
        connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, (used // GAP + 1) * GAP))


def state(connection: apsw.Connection) -> State:
    """What changes with every commit: of others (``data_version``), and of this connection itself (its changes)."""
    return fetch(connection, "PRAGMA data_version")[0][0], connection.total_changes()


def carry_over(source: apsw.Connection, target: apsw.Connection) -> None:
    """Bring the user's own tables, indexes and views, which stand beside ours, into the new database."""
    for kind, name, _, _ in reversed(schema.own_objects(target)):  # of an earlier attempt
        target.execute(f"DROP {kind} IF EXISTS {quoted(name)}")
    for kind, name, _, sql in schema.own_objects(source):
        target.execute(sql)
        if kind == "table":
            columns = _columns(source, name)
            names, places = ", ".join(columns), ", ".join("?" * len(columns))
            rows = source.execute(f"SELECT {names} FROM {quoted(name)}")
            target.executemany(f"INSERT INTO {quoted(name)} ({names}) VALUES ({places})", rows)
            for (used,) in fetch(source, "SELECT seq FROM sqlite_sequence WHERE name = ?", (name,)):
                target.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
                target.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (name, used))


def _columns(connection: apsw.Connection, table: str) -> list[str]:
    """What a copy of a table's rows must take along, its row ids included where it has any."""
    columns = [
        name
        for name, hidden in fetch(connection, "SELECT name, hidden FROM pragma_table_xinfo(?)", (table,))
        if not hidden
    ]
    names = {column.lower() for column in columns}
    for alias in ("rowid", "_rowid_", "oid"):
        if alias not in names:
            with suppress(apsw.SQLError):  # WITHOUT ROWID
                connection.execute(f"SELECT {alias} FROM {quoted(table)} LIMIT 0")
                return [alias, *map(quoted, columns)]
    return [quoted(column) for column in columns]


def exchange(live: Connections, source: apsw.Connection, version: State) -> bool:
    """Copy ``source`` over the live database, as one transaction; False if somebody has written since ``version``."""
    live.require_same_file()
    with live.outside_transaction() as reading:
        if state(reading) != version:
            return False
        target = reading if live.memory else open_file(live.path, apsw.SQLITE_OPEN_READWRITE)
        try:
            target.set_busy_timeout(BUSY_TIMEOUT_MS)
            with target.backup("main", source, "main") as copying:
                copying.step(1)  # from here on nobody else can write
                if not live.memory and state(reading) != version:
                    return False
                copying.step(-1)
            return True
        finally:
            if target is not reading:
                target.close()
