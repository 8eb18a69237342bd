"""SQL that a user wrote: one statement, which reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import apsw

from spladelite.errors import InvalidInput
from spladelite.file.connection import Connections
from spladelite.records import Row


def run_user_sql(
    connections: Connections, query: str, args: Sequence[Any] | Mapping[str, Any] | None, timeout: float | None
) -> list[Row]:
    """The rows of one statement that reads, on a connection of its own that cannot write.

    Raises:
        Interrupted: the timeout has passed.
        InvalidInput: it does not compile, would change something, or is more than one statement.
    """
    statements: list[str] = []

    def one_statement(cursor: apsw.Cursor, sql: str, _: object) -> bool:
        statements.append(sql)
        if not cursor.is_readonly:  # VACUUM INTO, which needs no permission of an authorizer
            raise InvalidInput("db.sql() runs statements that read; use db.export() to write a copy")
        if len(statements) > 1:
            raise InvalidInput(f"db.sql() runs one statement at a time; call it once more for {sql.strip()[:40]!r}")
        return True

    with connections.querying(timeout) as connection:
        cursor = connection.cursor()
        cursor.exec_trace = one_statement
        try:
            cursor.execute(query, args)
        except KeyError as error:
            raise InvalidInput(f"the SQL has a value named {error}, which args does not give") from None
        try:
            names = tuple(column[0] for column in cursor.description)
        except apsw.ExecutionCompleteError:
            return []  # without rows apsw knows no names
        return [Row(values, names) for values in cursor]
