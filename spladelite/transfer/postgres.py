"""PostgreSQL: posting rows and ``GROUP BY``, in transactions: many readers and writers without a new kind of system.

A write is one transaction, in which the totals that BM25 needs are counted on. Scores are sums of integers
(``numeric``), so that no plan and no parallel worker changes a tie. Text in PostgreSQL cannot hold NUL: it and U+0001
are written as two characters, in an order-preserving way.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from spladelite.arguments import NewDocument
from spladelite.documents.table import EncodedDocuments, Stored, read_metadata
from spladelite.errors import CorruptIndex, Interrupted, InvalidInput, ServerError
from spladelite.index.quantize import QuantizedVectors
from spladelite.index.scoring import WORD
from spladelite.transfer.conditions import (
    TEXT_PATH,
    All,
    AnyOf,
    Condition,
    Not,
    Scalar,
    Test,
    fields,
    guard,
    path_key,
)
from spladelite.transfer.engine import Ask, Batch, Changed, Figures, Frequencies, Ranked, Row, fixed_point

OLDEST = 130_000  # as server_version_num has it
CONNECT_SECONDS = 10
COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}

SCHEMA = """
CREATE SCHEMA IF NOT EXISTS {s};
CREATE TABLE {s}.meta (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE {s}.counter (
  next bigint NOT NULL, passages bigint NOT NULL, documents bigint NOT NULL, words bigint NOT NULL);
INSERT INTO {s}.counter VALUES (1, 0, 0, 0);
CREATE TABLE {s}.document (
  doc bigint PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE, text text NOT NULL, metadata text NOT NULL,
  fields jsonb NOT NULL, passages integer NOT NULL, hash bytea NOT NULL);
CREATE TABLE {s}.passage (
  doc bigint, ordinal integer, start_char integer NOT NULL, end_char integer NOT NULL, scale real NOT NULL,
  terms bytea NOT NULL, impacts bytea NOT NULL, words bytea NOT NULL, length bigint NOT NULL, unread boolean NOT NULL,
  PRIMARY KEY (doc, ordinal));
CREATE INDEX unread ON {s}.passage (doc) WHERE unread;
CREATE TABLE {s}.posting (
  term bigint, doc bigint, ordinal integer, impact smallint NOT NULL, scale real NOT NULL,
  PRIMARY KEY (term, doc, ordinal) INCLUDE (impact, scale));
"""
COLUMNS = {
    "document": ("doc int8", "id text", "text text", "metadata text", "fields jsonb", "passages int4", "hash bytea"),
    "passage": (
        "doc int8", "ordinal int4", "start_char int4", "end_char int4", "scale float4", "terms bytea", "impacts bytea",
        "words bytea", "length int8", "unread bool",
    ),
    "posting": ("term int8", "doc int8", "ordinal int4", "impact int2", "scale float4"),
}  # fmt: skip


class Totals(NamedTuple):
    """How many passages, documents and words there are, come, or go."""

    passages: int
    documents: int
    words: int


class Postgres:
    """An :class:`~spladelite.transfer.engine.Engine` over one schema of a PostgreSQL database.

    Args:
        connection: of psycopg, in autocommit mode.
        server: how to name it.
        schema: holds the tables.
    """

    can_count_terms = True

    def __init__(self, connection: Any, server: str, schema: str) -> None:
        self._connection, self.server, self._schema = connection, server, schema
        version = connection.info.server_version
        if version < OLDEST:
            connection.close()
            raise ServerError(f"{server} runs PostgreSQL {version // 10_000}; {OLDEST // 10_000} is the oldest known")

    @contextmanager
    def _transaction(self, timeout: float | None = None) -> Iterator[Any]:
        """A cursor inside a transaction; psycopg's errors become ours."""
        import psycopg

        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                if timeout is not None:
                    milliseconds = str(max(1, math.ceil(timeout * 1000)))
                    cursor.execute("SELECT set_config('statement_timeout', %s, true)", (milliseconds,))
                yield cursor
        except psycopg.errors.QueryCanceled as error:
            raise Interrupted(f"{self.server}: the timeout has passed") from error
        except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected) as error:
            raise Changed from error
        except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory) as error:
            raise ServerError(
                f"{self.server} has no room left; nothing of this batch is stored: make room and repeat the call "
                f"({_line(error)})"
            ) from error
        except psycopg.Error as error:
            down = self._connection.closed or self._connection.broken
            raise ServerError(
                f"{self.server} {'does not answer any more; open it again' if down else 'fails'} ({_line(error)})"
            ) from error

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._transaction() as cursor:
            cursor.execute(sql.replace("{s}", self._schema), values)
            return list(cursor.fetchall())

    # --- what it knows of itself -------------------------------------------------------------------------------------

    def meta(self) -> dict[str, str]:
        """See :class:`Engine`."""
        if self._rows("SELECT to_regclass(%s)", f"{self._schema}.meta")[0][0] is None:
            return {}
        return dict(self._rows("SELECT key, value FROM {s}.meta"))

    def create(self, meta: Mapping[str, str]) -> None:
        """See :class:`Engine`."""
        with self._transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self._schema,))
            cursor.execute("SELECT to_regclass(%s)", (f"{self._schema}.meta",))
            if cursor.fetchone()[0] is None:
                cursor.execute(SCHEMA.replace("{s}", self._schema))
                self._set_meta(cursor, meta)

    def set_meta(self, changes: Mapping[str, str]) -> None:
        """See :class:`Engine`."""
        with self._transaction() as cursor:
            self._set_meta(cursor, changes)

    def _set_meta(self, cursor: Any, changes: Mapping[str, str]) -> None:
        cursor.executemany(
            f"INSERT INTO {self._schema}.meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            list(changes.items()),
        )

    # --- looking -----------------------------------------------------------------------------------------------------

    def look_up(self, ids: Sequence[str]) -> dict[str, Stored]:
        """See :class:`Engine`."""
        rows = self._rows(
            "SELECT id, doc, passages, hash, metadata FROM {s}.document WHERE id = ANY(%s)", [guard(id) for id in ids]
        )
        return {unguard(id): Stored(doc, passages, hash, unguard(data)) for id, doc, passages, hash, data in rows}

    def read(self, numbers: Sequence[int], text: bool = True) -> dict[int, Row]:
        """See :class:`Engine`."""
        if not numbers:
            return {}
        rows = self._rows(
            f"SELECT doc, id, {'text' if text else repr('')}, metadata, passages FROM {{s}}.document"
            " WHERE doc = ANY(%s)",
            list(numbers),
        )
        return {row[0]: _row(row) for row in rows}

    def spans(self, passages: Sequence[tuple[int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
        """See :class:`Engine`."""
        rows = self._rows(
            "SELECT doc, ordinal, start_char, end_char FROM unnest(%s::int8[], %s::int4[]) AS wanted(doc, ordinal)"
            " JOIN {s}.passage USING (doc, ordinal)",
            [doc for doc, _ in passages],
            [ordinal for _, ordinal in passages],
        )
        return {(doc, ordinal): (start, end) for doc, ordinal, start, end in rows}

    def page(
        self, after: int, limit: int, condition: Condition | None = None, offset: int = 0, text: bool = True
    ) -> list[Row]:
        """See :class:`Engine`."""
        sql, values = where(condition)
        rows = self._rows(
            f"SELECT doc, id, {'text' if text else repr('')}, metadata, passages FROM {{s}}.document"
            f" WHERE doc > %s AND {sql} ORDER BY doc LIMIT %s OFFSET %s",
            after,
            *values,
            limit,
            offset,
        )
        return [_row(row) for row in rows]

    def batch(self, after: int, limit: int) -> Batch:
        """See :class:`Engine`."""
        return self._read_batch("doc > %s ORDER BY doc LIMIT %s", after, limit)

    def one(self, stored: Stored) -> Batch:
        """See :class:`Engine`."""
        return self._read_batch("doc = %s", stored.doc_id)

    def _read_batch(self, which: str, *values: Any) -> Batch:
        with self._transaction() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute(
                f"SELECT doc, id, hash, text, metadata, passages FROM {self._schema}.document WHERE {which}", values
            )
            rows = cursor.fetchall()
            cursor.execute(
                f"SELECT doc, start_char, end_char, scale, terms, impacts, unread FROM {self._schema}.passage"
                f" WHERE doc = ANY(%s) ORDER BY doc, ordinal",
                ([row[0] for row in rows],),
            )
            passages = cursor.fetchall()
        documents = [
            NewDocument(unguard(id), unguard(text), unguard(data), None, h) for _, id, h, text, data, _ in rows
        ]
        place = {row[0]: i for i, row in enumerate(rows)}
        spans: list[list[tuple[int, int]]] = [[] for _ in rows]
        unread = [False] * len(rows)
        for doc, start, end, *_, flag in passages:
            spans[place[doc]].append((start, end))
            unread[place[doc]] |= flag
        for row, found in zip(rows, spans, strict=True):
            if len(found) != row[5]:
                raise CorruptIndex(f"{self.server}: document {row[1]!r} has {len(found)} of {row[5]} passages")
        vectors = QuantizedVectors(
            np.concatenate(([0], np.cumsum([len(row[5]) for row in passages], dtype=np.int64))),
            np.frombuffer(b"".join(row[4] for row in passages), "<u4").astype(np.int32),
            np.frombuffer(b"".join(row[5] for row in passages), np.uint8),
            np.array([row[3] for row in passages], np.float32),
        )
        encoded = EncodedDocuments(documents, spans, vectors, unread=unread)
        return Batch(np.array([row[0] for row in rows], np.int64), encoded)

    def matching(self, condition: Condition) -> list[Stored]:
        """See :class:`Engine`."""
        sql, values = where(condition)
        rows = self._rows(f"SELECT doc, passages, hash, metadata FROM {{s}}.document WHERE {sql} ORDER BY doc", *values)
        return [Stored(doc, passages, hash, unguard(metadata)) for doc, passages, hash, metadata in rows]

    def count(self, condition: Condition | None = None) -> int:
        """See :class:`Engine`."""
        sql, values = where(condition)
        return int(self._rows(f"SELECT count(*) FROM {{s}}.document WHERE {sql}", *values)[0][0])

    def frequencies(self, terms: Sequence[int]) -> Frequencies:
        """See :class:`Engine`."""
        counts = dict(
            self._rows("SELECT term, count(*) FROM {s}.posting WHERE term = ANY(%s::int8[]) GROUP BY term", list(terms))
        )
        totals = self._rows(
            "SELECT passages, documents, words, EXISTS (SELECT FROM {s}.passage WHERE unread) FROM {s}.counter"
        )[0]
        return Frequencies([counts.get(term, 0) for term in terms], *totals)

    def figures(self) -> Figures:
        """See :class:`Engine`."""
        sizes = self._rows(
            "SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind IN ('r', 'p') ORDER BY 1",
            self._schema,
        )
        figures = self._rows(
            "SELECT (SELECT passages FROM {s}.counter), count(*) FILTER (WHERE term < %s),"
            " count(*) FILTER (WHERE term >= %s) FROM {s}.posting",
            WORD,
            WORD,
        )[0]
        return Figures(figures[0], figures[1], figures[2], dict(sizes))

    # --- ranking -----------------------------------------------------------------------------------------------------

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """See :class:`Engine`."""
        with self._transaction() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield

    def rank(self, asked: Sequence[Ask], condition: Condition | None, timeout: float | None) -> list[list[Ranked]]:
        """See :class:`Engine`."""
        with self._transaction(timeout) as cursor:
            return [self._rank(cursor, ask, condition) for ask in asked]

    def _rank(self, cursor: Any, ask: Ask, condition: Condition | None) -> list[Ranked]:
        terms, weights, shift = fixed_point(ask)
        score = "sum(q.weight * p.impact)::float8 * max(p.scale)::float8"
        values: list[Any] = []
        if ask.norm is not None:
            score = (
                "sum((q.weight * (p.impact / (p.impact + %s::float8 + %s::float8 * p.scale::float8)))::int8)::float8"
            )
            values += ask.norm
        values += [math.ldexp(1.0, -shift), terms, weights]
        tests = []
        if condition is not None:
            sql, operands = where(condition)
            tests.append(f"p.doc IN (SELECT doc FROM {self._schema}.document WHERE {sql})")
            values += operands
        if ask.readable:
            tests.append(f"p.doc NOT IN (SELECT doc FROM {self._schema}.passage WHERE unread)")
        if ask.among is not None:
            tests.append("p.doc = ANY(%s::int8[])")
            values.append(list(ask.among))
        statement = (
            f"SELECT doc, ordinal, score FROM (SELECT p.doc, p.ordinal, {score} * %s::float8 AS score"
            f" FROM unnest(%s::int8[], %s::int8[]) AS q(term, weight) JOIN {self._schema}.posting p USING (term)"
            f"{' WHERE ' + ' AND '.join(tests) if tests else ''} GROUP BY p.doc, p.ordinal) AS scored"
            " WHERE score > 0 AND score >= %s ORDER BY score DESC, doc, ordinal LIMIT %s"
        )
        wanted = ask.k
        while True:
            cursor.execute(statement, (*values, ask.min_score, min(wanted, 1 << 62)))
            rows = cursor.fetchall()
            best: dict[int, Ranked] = {}
            for doc, ordinal, found in rows:  # the best passage of each comes first
                best.setdefault(doc, Ranked(doc, ordinal, found))
            if len(best) >= ask.k or len(rows) < wanted:
                return list(best.values())[: ask.k]
            wanted *= 4

    # --- writing -----------------------------------------------------------------------------------------------------

    def highest(self) -> int:
        """See :class:`Engine`."""
        return int(self._rows("SELECT next - 1 FROM {s}.counter")[0][0])

    def numbers(self, count: int) -> int:
        """See :class:`Engine`."""
        return int(self._rows("UPDATE {s}.counter SET next = next + %s RETURNING next - %s", count, count)[0][0])

    def write(self, batch: Batch, replaced: Sequence[Stored]) -> None:
        """See :class:`Engine`."""
        encoded = batch.encoded
        counts = [len(spans) for spans in encoded.spans]
        after = int(batch.numbers[-1]) + counts[-1]
        vectors, lengths = encoded.vectors, batch.lengths
        docs, ordinals = batch.numbers[batch.rows], batch.ordinals
        bounds = vectors.indptr.tolist()
        terms, impacts = vectors.terms.astype("<u4"), vectors.impacts
        spans = [span for parts in encoded.spans for span in parts]
        words = iter(_words_of(batch))
        with self._transaction() as cursor:
            gone = self._delete(cursor, replaced)
            cursor.execute(f"UPDATE {self._schema}.counter SET next = %s WHERE next < %s", (after, after))
            self._copy(
                cursor,
                "document",
                (
                    (
                        number,
                        guard(d.id),
                        guard(d.text),
                        guard(d.metadata or "{}"),
                        _fields(d.id, d.metadata or "{}"),
                        count,
                        d.content_hash,
                    )
                    for number, d, count in zip(batch.numbers.tolist(), encoded.documents, counts, strict=True)
                ),
            )
            self._copy(
                cursor,
                "passage",
                (
                    (
                        doc, ordinal, start, end, scale, terms[a:b].tobytes(), impacts[a:b].tobytes(),
                        b"" if ordinal else next(words), length, unread,
                    )
                    for doc, ordinal, (start, end), scale, length, unread, a, b in zip(
                        docs.tolist(), ordinals.tolist(), spans, vectors.scales.tolist(), lengths.tolist(),
                        batch.unread, bounds, bounds[1:], strict=False,
                    )
                ),
            )  # fmt: skip
            self._copy(
                cursor,
                "posting",
                zip(*(column.tolist() for column in batch.postings()), strict=True),
            )
            self._count(cursor, Totals(len(docs), len(batch), int(lengths.sum())), gone)

    def _copy(self, cursor: Any, table: str, rows: Any) -> None:
        names, types = zip(*(column.split() for column in COLUMNS[table]), strict=True)
        with cursor.copy(f"COPY {self._schema}.{table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)

    def set_metadata(self, changes: Sequence[tuple[Stored, str, str]]) -> None:
        """See :class:`Engine`."""
        with self._transaction() as cursor:
            for stored, id, metadata in changes:
                cursor.execute(
                    f"UPDATE {self._schema}.document SET metadata = %s, fields = %s WHERE doc = %s",
                    (guard(metadata), _fields(id, metadata), stored.doc_id),
                )
                if cursor.rowcount != 1:
                    raise Changed

    def remove(self, documents: Sequence[Stored]) -> None:
        """See :class:`Engine`."""
        with self._transaction() as cursor:
            self._count(cursor, Totals(0, 0, 0), self._delete(cursor, documents, strict=False))

    def _count(self, cursor: Any, new: Totals, gone: Totals) -> None:
        """Count on what there is. Last in a transaction, since others wait for this row until it ends."""
        cursor.execute(
            f"UPDATE {self._schema}.counter SET passages = passages + %s, documents = documents + %s,"
            " words = words + %s",
            [more - less for more, less in zip(new, gone, strict=True)],
        )

    def _delete(self, cursor: Any, documents: Sequence[Stored], strict: bool = True) -> Totals:
        if not documents:
            return Totals(0, 0, 0)
        numbers = sorted(stored.doc_id for stored in documents)
        cursor.execute(f"DELETE FROM {self._schema}.document WHERE doc = ANY(%s)", (numbers,))
        if strict and cursor.rowcount != len(numbers):
            raise Changed
        cursor.execute(
            f"DELETE FROM {self._schema}.passage WHERE doc = ANY(%s) RETURNING doc, ordinal, terms, words, length",
            (numbers,),
        )
        rows = cursor.fetchall()
        terms = [
            np.concatenate([np.frombuffer(row[2], "<u4").astype(np.int64), np.frombuffer(row[3], "<i8")])
            for row in rows
        ]
        sizes = [len(row) for row in terms]
        # By their primary keys: an index from documents to postings would be as large as the postings.
        cursor.execute(
            f"DELETE FROM {self._schema}.posting p USING unnest(%s::int8[], %s::int8[], %s::int4[]) AS"
            " gone(term, doc, ordinal)"
            " WHERE p.term = gone.term AND p.doc = gone.doc AND p.ordinal = gone.ordinal",
            (
                np.concatenate([np.empty(0, np.int64), *terms]).tolist(),
                np.repeat([row[0] for row in rows], sizes).tolist(),
                np.repeat([row[1] for row in rows], sizes).tolist(),
            ),
        )
        return Totals(len(rows), sum(row[1] == 0 for row in rows), sum(row[4] for row in rows))

    # --- upkeep ------------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """See :class:`Engine`. A transaction leaves nothing behind."""

    def settle(self) -> None:
        """See :class:`Engine`. The planner learns of the tables, and need not read rows to see whether they live."""
        self.optimize()

    def optimize(self) -> None:
        """See :class:`Engine`."""
        import psycopg

        try:
            for table in COLUMNS:
                self._connection.execute(f"VACUUM (ANALYZE) {self._schema}.{table}")
        except psycopg.Error as error:
            raise ServerError(f"{self.server} fails ({_line(error)})") from error

    def close(self) -> None:
        """See :class:`Engine`."""
        self._connection.close()


def _words_of(batch: Batch) -> list[bytes]:
    """The term ids of each document's words, so that deleting it can name its postings."""
    words = batch.encoded.words
    if words is None:
        return [b""] * len(batch)
    terms, bounds = words.terms.astype("<i8"), words.indptr.tolist()
    return [terms[a:b].tobytes() for a, b in pairwise(bounds)]


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]


def _row(row: tuple[Any, ...]) -> Row:
    return Row(row[0], unguard(row[1]), unguard(row[2]), unguard(row[3]), row[4])


def unguard(text: str) -> str:
    """What :func:`guard` was given."""
    return re.sub("\x01([\x01\x02])", lambda match: "\0" if match[1] == "\x01" else "\x01", text)


def _fields(id: str, metadata: str) -> Any:
    """What filters see of the metadata: values by path, numbers as exact as their comparison has to be."""
    from psycopg.types.json import Jsonb

    found = fields(id, read_metadata(id, metadata))
    return Jsonb({path_key(field.path): [] if field.kind == "container" else _exact(field.value) for field in found})


def _exact(value: Scalar) -> Scalar:
    if isinstance(value, str):
        return guard(value)
    if isinstance(value, float):
        if math.isinf(value):
            return int(math.copysign(10**400, value))
        # Digits that repr() leaves out count from here on.
        return int(value) if abs(value) >= 2**53 else value
    return value


def where(condition: Condition | None) -> tuple[str, list[Any]]:
    """A filter as an expression over the columns of ``document``, and its values."""
    match condition:
        case None:
            return "true", []
        case All(parts) | AnyOf(parts):
            found = [where(part) for part in parts]
            word, empty = (" AND ", "true") if isinstance(condition, All) else (" OR ", "false")
            sql = f"({word.join(sql for sql, _ in found)})" if found else empty
            return sql, [value for _, values in found for value in values]
        case Not(part):
            sql, values = where(part)
            return f"(NOT {sql})", values
        case Test(path, operator, value) if path == TEXT_PATH:
            return _of_text(operator, value)
        case Test(path, operator, value):
            name, field = path_key(path), "(fields -> %s)"
            if operator == "exists":
                return f"({field} IS NOT NULL)", [name]
            if value is None:
                return f"(coalesce({field}, 'null'::jsonb) = 'null'::jsonb)", [name]
            if isinstance(value, str):
                if operator == "eq":
                    return f"coalesce({field} = to_jsonb(%s::text), false)", [name, guard(value)]
                text = f"({field} #>> '{{}}') COLLATE \"C\""
                test = f"strpos({text}, %s) > 0" if operator == "contains" else f"{text} {COMPARISONS[operator]} %s"
                return f"coalesce(jsonb_typeof({field}) = 'string' AND {test}, false)", [name, name, guard(value)]
            exact = json.dumps(_exact(value))
            if operator == "eq":
                return f"coalesce({field} = %s::jsonb, false)", [name, exact]
            order = f"{field} {COMPARISONS[operator]} %s::jsonb"
            return f"coalesce(jsonb_typeof({field}) = 'number' AND {order}, false)", [name, name, exact]


def _of_text(operator: str, value: object) -> tuple[str, list[Any]]:
    """A test of the document's text, which is always there."""
    if operator == "exists" or not isinstance(value, str):
        return str(operator == "exists"), []
    if operator == "contains":
        return "(strpos(text, %s) > 0)", [guard(value)]
    return f'(text COLLATE "C" {COMPARISONS.get(operator, "=")} %s)', [guard(value)]


def open_server(options: Mapping[str, Any], schema: str) -> Postgres:
    """Connect; ``options`` are those of libpq, None where they are left to it."""
    if not re.fullmatch("[a-z_][a-z0-9_]{0,50}", schema):
        raise InvalidInput(f"schema={schema!r} cannot be used; give lower-case letters, digits and _")
    try:
        import psycopg
    except ImportError:
        raise ServerError("postgresql:// needs psycopg: pip install 'spladelite[postgres]'") from None
    given = {key: value for key, value in options.items() if value is not None}
    server = f"postgresql://{given.get('host', '')}{f':{p}' if (p := given.get('port')) else ''}/{given['dbname']}"
    server += f"?schema={schema}"
    try:
        connection = psycopg.connect(
            **given, connect_timeout=CONNECT_SECONDS, autocommit=True, application_name="spladelite"
        )
        connection.execute("SET jit = off")  # compiling takes longer than the search
        encoding = connection.execute("SHOW server_encoding").fetchone()
    except psycopg.Error as error:
        text = _line(error)
        reason = "refuses the login; check the user and the password" if "authentication" in text else "does not answer"
        raise ServerError(f"{server} {reason} ({text})") from error
    if encoding is None or encoding[0] != "UTF8":
        connection.close()
        raise ServerError(f"{server} has the encoding {encoding and encoding[0]}; create the database with UTF8")
    return Postgres(connection, server, schema)
