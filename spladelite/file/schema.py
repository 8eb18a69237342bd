"""What a database file must be before a row of it is read: ours, of a known format, with exactly our schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Protocol

import apsw

from spladelite.errors import CorruptIndex, NotADatabase, UnsupportedFormat
from spladelite.file.migrations import migrations
from spladelite.file.sqlite import open_file

APPLICATION_ID = 0x53504C44  # "SPLD"

# A row of sqlite_schema: type, name, table, SQL text.
SchemaRow = tuple[str, str, str, str]

# What ANALYZE adds to a file.
_STATISTICS = frozenset(
    (
        ("table", "sqlite_stat1", "sqlite_stat1", "CREATE TABLE sqlite_stat1(tbl,idx,stat)"),
        ("table", "sqlite_stat4", "sqlite_stat4", "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)"),
    )
)


# What a user may add beside our tables, and how SQLite begins its text in the schema.
_OWN = {
    "table": ("CREATE TABLE ",),
    "index": ("CREATE INDEX ", "CREATE UNIQUE INDEX ", ""),
    "view": ("CREATE VIEW ",),
    "trigger": ("CREATE TRIGGER ",),
}
# A table or view with such a name would be read by our own statements.
_FUNCTIONS = frozenset(("carray", "dbstat", "json_each", "json_tree", "jsonb_each", "jsonb_tree", "splade", "topk"))


def is_empty(connection: apsw.Connection) -> bool:
    """Whether the file has no schema yet, ours or anybody's."""
    return connection.pragma("application_id") == 0 and not connection.execute("SELECT 1 FROM sqlite_schema").get


def create(connection: apsw.Connection, fill: Callable[[apsw.Connection], None]) -> None:
    """Make the tables of the current format, inside a write transaction."""
    steps = migrations()
    for step in steps:
        connection.execute(step)
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", len(steps))
    fill(connection)


def is_current(connection: apsw.Connection, path: str) -> bool:
    """Whether the file has the current format; False for an older one, errors for all that is not ours to open."""
    if connection.pragma("application_id") != APPLICATION_ID:
        if is_empty(connection):
            raise NotADatabase(f"{path} is empty, not a SpladeLite database")
        raise NotADatabase(
            f"{path} is a SQLite database, but not one of SpladeLite's; choose another path "
            f"(rows of an existing table go in through `spladelite add --table`)"
        )
    version = connection.pragma("user_version")
    newest = len(migrations())
    if version > newest:
        raise UnsupportedFormat(
            f"{path} has format {version}; this release reads formats 1 to {newest}; update spladelite"
        )
    if version < 1:
        raise CorruptIndex(f"{path} has format {version}, which no release wrote; restore a backup")
    return bool(version == newest)


class Upgrade(Protocol):
    """What the rows of files older than ``format`` need besides SQL."""

    format: int

    def prepare(self, connection: apsw.Connection, path: str) -> None:
        """Work that can be done before, outside of a transaction, and is not lost after an interruption."""

    def apply(self, connection: apsw.Connection, path: str) -> None:
        """After the tables were changed, in the same transaction."""

    def finish(self, path: str) -> None:
        """After the commit."""


def migrate(connection: apsw.Connection, path: str, upgrade: Upgrade) -> None:
    """Bring a file of an older format, whose schema was checked, up to the current one, inside a write transaction."""
    steps = migrations()
    version = connection.pragma("user_version")
    new = {name for _, name, *_ in _expected_schema(len(steps)) - _expected_schema(version)}
    taken = new.intersection(name for _, name, *_ in own_objects(connection))
    if taken:
        raise NotADatabase(
            f"the new format needs the name {min(taken)!r}, which something of yours has: rename or drop it"
        )
    for step in steps[version:]:
        connection.execute(step)
    if version < upgrade.format:
        upgrade.apply(connection, path)
    connection.pragma("user_version", len(steps))


def check_schema(connection: apsw.Connection, path: str, indexes: Callable[[apsw.Connection], set[str]]) -> None:
    """A file whose schema is not exactly that of its format could make our own statements do something else.

    ``indexes`` tells which ``CREATE INDEX`` statements the file may have besides; it reads rows, so it is only asked
    once the tables are known to be ours.
    """
    version = connection.pragma("user_version")
    found, expected = _schema(connection), _expected_schema(version)
    # A view may stay as an older format had it: it gives the same rows, and nothing of ours reads it differently.
    older = {row for format in range(1, version) for row in _expected_schema(format) & found if row[0] == "view"}
    expected = frozenset(row for row in expected if row[1] not in _names(older)) | older
    missing, extra = expected - found, found - expected - _STATISTICS
    if missing:
        names = ", ".join(sorted({str(name) for _, name, *_ in missing})[:5])
        raise NotADatabase(
            f"{path} does not have the schema of a SpladeLite database (differs in: {names}); "
            f"open it with another tool, or restore a backup"
        )
    if any(kind == "index" and table in _names(expected) for kind, _, table, _ in extra):
        allowed = indexes(connection)
        extra = {row for row in extra if row[3] not in allowed}
    for kind, name, table, sql in sorted(extra, key=repr):
        if reason := _touches_ours(connection, expected, kind, name, table, sql):
            raise NotADatabase(
                f"{path} has a schema that is not only SpladeLite's: the {kind} {name!r} {reason}. Tables, views and "
                f"indexes of your own may stand beside ours; this one does not: with another tool, "
                f'DROP {kind.upper()} "{name}", or keep it in a file of its own and ATTACH that in db.sql()'
            )


def own_objects(connection: apsw.Connection) -> list[SchemaRow]:
    """What a user keeps in the file beside our tables, in the order in which it can be made again."""
    expected = _names(_expected_schema(connection.pragma("user_version")))
    rows = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite^_%' ESCAPE"
        " '^' ORDER BY type = 'trigger', type = 'view', type = 'index', rowid"
    ).fetchall()
    return [(str(kind), str(name), str(table), str(sql)) for kind, name, table, sql in rows if table not in expected]


def _names(schema: Iterable[SchemaRow]) -> set[str]:
    return {name for _, name, *_ in schema}


def _touches_ours(
    connection: apsw.Connection, expected: frozenset[SchemaRow], kind: str, name: str, table: str, sql: str
) -> str:
    """Why something in the schema cannot stand beside our tables; empty if it can."""
    if not all(isinstance(text, str) for text in (kind, name, table, sql)) or kind not in _OWN:
        return "is of no known kind"
    ours = {other.lower() for other in _names(expected)}
    if kind in ("index", "trigger") and table.lower() in ours:
        return f"belongs to our table {table!r}"
    if name.lower() in ours | _FUNCTIONS or name.lower().startswith(("pragma_", "splade_")):
        return "has a name of ours"
    virtual = (
        kind == "table" and not connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get
    )
    if virtual or not sql.startswith(_OWN[kind]):
        return "is virtual: opening it would run another module's code"
    return ""


@cache
def _expected_schema(version: int) -> frozenset[SchemaRow]:
    model = open_file(":memory:")
    for step in migrations()[:version]:
        model.execute(step)
    return frozenset(_schema(model))


def _schema(connection: apsw.Connection) -> set[SchemaRow]:
    rows = connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema")
    return {(kind, name, table, sql) for kind, name, table, sql in rows}
