"""Two ways to the same ClickHouse SQL: a server over its native protocol, and the engine in this process (chdb).

Strings are bytes on the way out and on the way in. The HTTP client ``clickhouse-connect`` is not used: it asks servers
for columns that the oldest supported one does not have, and the native protocol also reaches each shard by the port
that ``system.clusters`` names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from spladelite.errors import Interrupted, ServerError

Columns = Mapping[str, Sequence[Any]]  # by name: as many values each

CONNECT_SECONDS = 10
ANSWER_SECONDS = 300


class Client(Protocol):
    """One connection."""

    server: str

    def rows(self, sql: str, timeout: float | None = None, no_merge: bool = False) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows; ``no_merge``: each shard finishes its own groups."""
        ...

    def insert(self, table: str, columns: Columns, types: Mapping[str, str]) -> None:
        """Append rows, given as columns with their ClickHouse types."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class ServerClient:
    """A server, by ``clickhouse-driver``."""

    def __init__(self, host: str, port: int, user: str, password: str, secure: bool) -> None:
        try:
            import clickhouse_driver
            from clickhouse_driver import errors
        except ImportError:
            raise ServerError("clickhouse:// needs clickhouse-driver: pip install 'spladelite[clickhouse]'") from None
        self.server = f"clickhouse://{host}:{port}"
        self._errors = errors
        self._client = clickhouse_driver.Client(
            host,
            port=port,
            user=user,
            password=password,
            secure=secure,
            connect_timeout=CONNECT_SECONDS,
            send_receive_timeout=ANSWER_SECONDS,
            sync_request_timeout=CONNECT_SECONDS,
            settings={
                "strings_as_bytes": True,
                "insert_distributed_sync": 1,  # an insert has arrived on its shard when it returns
                "skip_unavailable_shards": 0,  # a shard that is down is an error, not a shorter list
                "max_replica_delay_for_distributed_queries": 0,
            },
        )

    def rows(self, sql: str, timeout: float | None = None, no_merge: bool = False) -> list[tuple[Any, ...]]:
        """See :class:`Client`."""
        settings = {} if timeout is None else {"max_execution_time": math.ceil(timeout)}
        if no_merge:
            settings["distributed_group_by_no_merge"] = 1
        result = self._run(sql, None, settings)
        return result if isinstance(result, list) else []

    def insert(self, table: str, columns: Columns, types: Mapping[str, str]) -> None:  # noqa: ARG002
        """See :class:`Client`. The server knows the types."""
        data = [list(column) for column in columns.values()]
        self._run(f"INSERT INTO {table} ({', '.join(columns)}) VALUES", data, {})

    def _run(self, sql: str, data: list[list[Any]] | None, settings: Mapping[str, int]) -> Any:
        try:
            if data is None:
                return self._client.execute(sql, settings=dict(settings))
            return self._client.execute(sql, data, columnar=True, settings=dict(settings))
        except self._errors.ServerException as error:
            raise refusal(self.server, error.code, _first_line(error.message)) from error
        except (self._errors.Error, OSError, EOFError) as error:
            self._client.disconnect()
            raise ServerError(f"{self.server} does not answer: {_first_line(error)}; is it running?") from error

    def close(self) -> None:
        """See :class:`Client`."""
        self._client.disconnect()


class ProcessClient:
    """The engine in this process, with its data in a folder."""

    def __init__(self, folder: str) -> None:
        try:
            import pyarrow
            from chdb import ChdbError, session
        except ImportError:
            raise ServerError("clickhouse:///folder runs ClickHouse in this process: pip install chdb-core") from None
        self.server = f"clickhouse://{folder}"
        self._error, self._arrow = ChdbError, pyarrow
        try:
            self._session = session.Session(folder)
        except (ChdbError, RuntimeError) as error:
            raise ServerError(f"{self.server} cannot be opened: {_first_line(error)}") from error

    def rows(self, sql: str, timeout: float | None = None, no_merge: bool = False) -> list[tuple[Any, ...]]:  # noqa: ARG002
        """See :class:`Client`."""
        if sql.lstrip().startswith(("SELECT", "WITH")):
            settings = "" if timeout is None else f", max_execution_time = {math.ceil(timeout)}"
            sql += f" SETTINGS output_format_arrow_string_as_string = 0{settings}"
        try:
            answer = self._session.query(sql, "Arrow").bytes()
        except self._error as error:
            raise self._refusal(error) from error
        if not answer:
            return []
        table = self._arrow.ipc.open_file(self._arrow.py_buffer(answer)).read_all()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def insert(self, table: str, columns: Columns, types: Mapping[str, str]) -> None:
        """See :class:`Client`."""
        rows = self._arrow.table(
            {name: self._arrow.array(values, _arrow_type(self._arrow, types[name])) for name, values in columns.items()}
        )
        assert rows is not None  # chdb finds it by this name
        try:
            self._session.query(f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM Python(rows)")
        except self._error as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> ServerError | Interrupted:
        text = _first_line(error)
        code = text.removeprefix("Code: ").partition(".")[0]
        return refusal(self.server, int(code) if code.isdigit() else 0, text)

    def close(self) -> None:
        """See :class:`Client`."""
        self._session.close()


_REASONS = {
    192: "refuses the login; check the user and the password",
    193: "refuses the login; check the user and the password",
    194: "refuses the login; check the user and the password",
    516: "refuses the login; check the user and the password",
    497: "does not allow this user what is needed (CREATE, INSERT, SELECT)",
    81: "has no such database",
    243: "has no room left on its disk; nothing of this batch is searched: free some and repeat the call",
    241: "has not enough memory for this; give it more (max_memory_usage), or ask for less",
    279: "reaches none of the replicas of a shard; the answer would not be complete: bring the shard back",
    209: "or one of its shards does not answer; the answer would not be complete: bring the shard back",
    210: "or one of its shards does not answer; the answer would not be complete: bring the shard back",
    32: "lost one of its shards in the middle of an answer; bring the shard back",
    164: "is read-only",
    242: "has a table that is read-only",
}


def refusal(server: str, code: int, message: str) -> ServerError | Interrupted:
    """What a ClickHouse error code means here."""
    if code in (159, 160):
        return Interrupted(f"{server}: the timeout has passed")
    return ServerError(f"{server} {_REASONS.get(code, 'fails')} ({message[:300]})")


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0].partition(" Stack trace")[0]


def _arrow_type(arrow: Any, kind: str) -> Any:
    if kind.startswith("Array("):
        return arrow.list_(_arrow_type(arrow, kind[6:-1]))
    if kind == "String":
        return arrow.binary()
    return getattr(arrow, kind.lower())()
