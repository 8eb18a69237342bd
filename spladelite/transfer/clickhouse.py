"""ClickHouse: posting rows in the order (term, passage), one aggregation, exact; one server or many shards.

Rows are only ever appended. What makes a write visible is one row more: ``batch`` has a row when numbers are taken
(state 0), one when the documents under them are complete (1) or given up (2). A search leaves out documents of batches
without a 1, and those in ``tombstone`` whose own batch has one: a replacement shows up, and the document that it
replaces goes, with the same single row. A server that is killed in between leaves rows that nobody sees.

On a cluster every table lies on every shard, sharded by the document's number, so that a document is on one shard as a
whole; ``meta`` and ``batch`` are on the first. Reading goes through the ``Distributed`` tables ``all_*``; each shard
aggregates its own documents and sends its k best.

Values do not come into statements as text: strings are written as ``unhex('…')`` and numbers as digits, which both the
server's client and the engine in this process take.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from spladelite.arguments import NewDocument
from spladelite.documents.table import EncodedDocuments, Stored, read_metadata
from spladelite.errors import CorruptIndex, InvalidInput, ServerError
from spladelite.index.quantize import QuantizedVectors
from spladelite.index.scoring import WORD
from spladelite.transfer.clickhouse_clients import Client, ProcessClient, ServerClient
from spladelite.transfer.conditions import (
    TEXT_PATH,
    All,
    AnyOf,
    Bound,
    Condition,
    Not,
    Test,
    fields,
    float_bound,
    guard,
    integer_bound,
    path_key,
)
from spladelite.transfer.engine import Ask, Batch, Figures, Frequencies, Ranked, Row, fixed_point

OLDEST = (18, 16)
TRIES = 100
ASKED_AT_ONCE = 4  # queries in one statement
MUTATION_SECONDS = 600
KINDS = {"null": 1, "bool": 2, "integer": 4, "real": 5, "text": 6, "container": 7}  # true is 3
COMPARISONS = {"eq": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}

# Columns by table, and what each table is ordered by.
TABLES: dict[str, tuple[dict[str, str], str, str]] = {
    "meta": ({"key": "String", "value": "String", "version": "UInt64"}, "key", "MergeTree()"),
    "batch": (
        {"base": "Int64", "size": "UInt64", "state": "UInt8", "writer": "UInt64"},
        "base",
        "MergeTree()",
    ),
    "tombstone": ({"doc": "Int64", "batch": "Int64"}, "doc", "MergeTree()"),
    "name": ({"id": "String", "doc": "Int64", "passages": "UInt32", "hash": "String"}, "(id, doc)", "MergeTree()"),
    "document": (
        {
            "doc": "Int64",
            "id": "String",
            "passages": "UInt32",
            "hash": "String",
            "text": "String",
            "metadata": "String",
            "paths": "Array(String)",
            "kinds": "Array(UInt8)",
            "integers": "Array(Int64)",
            "reals": "Array(Float64)",
            "texts": "Array(String)",
            "version": "UInt64",
        },
        "doc",
        "ReplacingMergeTree(version)",
    ),
    "passage": (
        {
            "doc": "Int64",
            "ordinal": "UInt16",
            "start": "UInt32",
            "end": "UInt32",
            "scale": "Float32",
            "terms": "String",
            "impacts": "String",
            "length": "UInt64",
            "unread": "UInt8",
        },
        "(doc, ordinal)",
        "MergeTree()",
    ),
    "posting": (
        {"term": "UInt64", "doc": "Int64", "ordinal": "UInt16", "impact": "UInt8", "scale": "Float32"},
        "(term, doc, ordinal)",
        "MergeTree()",
    ),
}
ON_FIRST_SHARD = ("meta", "batch")
# Rows that are read to find one: few, where rows are long.
GRANULARITY = {"document": 128, "passage": 256}


class ClickHouse:
    """An :class:`~spladelite.transfer.engine.Engine` over a database of a ClickHouse server, or of a cluster.

    Args:
        client: the connection.
        database: holds the tables, and nothing else.
        nodes: of a cluster: how to connect to each of its servers.
        cluster: its name in ``system.clusters``; empty for one server.
    """

    can_count_terms = True

    def __init__(self, client: Client, database: str, nodes: Sequence[Any] = (), cluster: str = "") -> None:
        for name in (database, *([cluster] if cluster else [])):
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,60}", name):
                raise InvalidInput(f"{name!r} cannot name a ClickHouse database or cluster; use letters, digits and _")
        self._client, self._database, self._nodes, self._cluster = client, database, nodes, cluster
        self.server = f"{client.server}/{database}" + (f"?cluster={cluster}" if cluster else "")
        self._writer = random.getrandbits(63)
        self._begun: set[int] = set()
        version = _text(client.rows("SELECT version()")[0][0])
        if tuple(map(int, version.split(".")[:2])) < OLDEST:
            raise ServerError(f"{self.server} runs ClickHouse {version}; {OLDEST[0]}.{OLDEST[1]} is the oldest known")

    # --- tables ------------------------------------------------------------------------------------------------------

    def _local(self, table: str) -> str:
        return f"{self._database}.{table}"

    def _all(self, table: str) -> str:
        return f"{self._database}.{'all_' if self._cluster else ''}{table}"

    def meta(self) -> dict[str, str]:
        """See :class:`Engine`."""
        database, table = self._all("meta").split(".")
        if not self._client.rows(
            f"SELECT name FROM system.tables WHERE database = {hexed(database)} AND name = {hexed(table)}"
        ):
            return {}
        rows = self._client.rows(f"SELECT key, argMax(value, version) FROM {self._all('meta')} GROUP BY key")
        return {_text(key): _text(value) for key, value in rows}

    def create(self, meta: Mapping[str, str]) -> None:
        """See :class:`Engine`."""
        # The table that meta() looks for comes last, on a server as in the cluster: where it is, the others are.
        tables = sorted(TABLES, key=lambda table: table == "meta")
        with ExitStack() as stack:
            clients = [stack.enter_context(closing(node())) for node in self._nodes] or [self._client]
            for client in clients:
                client.rows(f"CREATE DATABASE IF NOT EXISTS {self._database}")
                for table in tables:
                    client.rows(
                        f"CREATE TABLE IF NOT EXISTS {self._local(table)} ({_listed(table)})"
                        f" ENGINE = {TABLES[table][2]} ORDER BY {TABLES[table][1]}"
                        f" SETTINGS index_granularity = {GRANULARITY.get(table, 8192)}"
                    )
            for client in clients if self._cluster else ():
                for table in tables:
                    key = "toUInt64(0)" if table in ON_FIRST_SHARD else "intHash64(doc)"
                    client.rows(
                        f"CREATE TABLE IF NOT EXISTS {self._all(table)} ({_listed(table)})"
                        f" ENGINE = Distributed({self._cluster}, {self._database}, {table}, {key})"
                    )
        self.set_meta(meta)

    def set_meta(self, changes: Mapping[str, str]) -> None:
        """See :class:`Engine`."""
        version = time.time_ns()
        self._insert(
            "meta",
            {
                "key": [key.encode() for key in changes],
                "value": [value.encode() for value in changes.values()],
                "version": [version] * len(changes),
            },
        )

    def _insert(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        self._client.insert(self._all(table), columns, TABLES[table][0])

    # --- what is visible ---------------------------------------------------------------------------------------------

    @property
    def _pending(self) -> str:
        return f"SELECT base FROM {self._all('batch')} GROUP BY base HAVING max(state) != 1"

    @property
    def _visible(self) -> str:
        """A condition on ``doc``: written completely, and not deleted."""
        return (
            f"doc GLOBAL NOT IN (SELECT doc FROM {self._all('tombstone')} WHERE batch GLOBAL NOT IN ({self._pending})"
            f" UNION ALL SELECT base + toInt64(arrayJoin(range(length))) AS doc FROM (SELECT base, max(size) AS length"
            f" FROM {self._all('batch')} GROUP BY base HAVING max(state) = 0))"
        )

    # --- looking -----------------------------------------------------------------------------------------------------

    def look_up(self, ids: Sequence[str]) -> dict[str, Stored]:
        """See :class:`Engine`."""
        if not ids:
            return {}
        names = self._client.rows(
            f"SELECT id, doc, passages, hash FROM {self._all('name')}"
            f" WHERE id IN ({', '.join(map(hexed, ids))}) AND {self._visible} ORDER BY doc"
        )
        metadata = dict(
            self._client.rows(
                f"SELECT doc, metadata FROM {self._all('document')} FINAL"
                f" WHERE doc IN ({_numbers(name[1] for name in names)})"
            )
            if names
            else ()
        )
        return {
            _text(id): Stored(doc, passages, bytes(hash), _text(metadata[doc])) for id, doc, passages, hash in names
        }

    def read(self, numbers: Sequence[int], text: bool = True) -> dict[int, Row]:
        """See :class:`Engine`."""
        if not numbers:
            return {}
        rows = self._client.rows(
            f"SELECT doc, id, {'text' if text else hexed('')}, metadata, passages FROM {self._all('document')} FINAL"
            f" WHERE doc IN ({_numbers(numbers)})"
        )
        return {doc: Row(doc, _text(id), _text(text), _text(data), count) for doc, id, text, data, count in rows}

    def spans(self, passages: Sequence[tuple[int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
        """See :class:`Engine`."""
        wanted = ", ".join(f"({int(doc)}, {int(ordinal)})" for doc, ordinal in passages)
        rows = self._client.rows(
            f"SELECT doc, ordinal, start, end FROM {self._all('passage')} WHERE (doc, ordinal) IN ({wanted})"
        )
        return {(doc, ordinal): (start, end) for doc, ordinal, start, end in rows}

    def page(
        self, after: int, limit: int, condition: Condition | None = None, offset: int = 0, text: bool = True
    ) -> list[Row]:
        """See :class:`Engine`."""
        rows = self._client.rows(
            f"SELECT doc, id, {'text' if text else hexed('')}, metadata, passages FROM {self._all('document')} FINAL"
            f" WHERE doc > {int(after)} AND {self._visible}{_and(condition)}"
            f" ORDER BY doc LIMIT {int(offset)}, {int(limit)}"
        )
        return [Row(doc, _text(id), _text(text), _text(data), count) for doc, id, text, data, count in rows]

    def batch(self, after: int, limit: int) -> Batch:
        """See :class:`Engine`."""
        return self._read_batch(f"doc > {int(after)} AND {self._visible} ORDER BY doc LIMIT {int(limit)}")

    def one(self, stored: Stored) -> Batch:
        """See :class:`Engine`."""
        return self._read_batch(f"doc = {int(stored.doc_id)}")

    def _read_batch(self, which: str) -> Batch:
        rows = self._client.rows(
            f"SELECT doc, id, passages, hash, text, metadata FROM {self._all('document')} FINAL WHERE {which}"
        )
        numbers = [row[0] for row in rows]
        documents = [
            NewDocument(_text(id), _text(text), _text(data), None, bytes(hash)) for _, id, _, hash, text, data in rows
        ]
        spans: list[list[tuple[int, int]]] = [[] for _ in rows]
        unread = [False] * len(rows)
        terms, impacts, scales, sizes = [], [], [], []
        place = {number: i for i, number in enumerate(numbers)}
        for doc, _, start, end, scale, row_terms, row_impacts, flag in (
            self._client.rows(
                f"SELECT doc, ordinal, start, end, scale, terms, impacts, unread FROM {self._all('passage')}"
                f" WHERE doc IN ({_numbers(numbers)}) ORDER BY doc, ordinal"
            )
            if numbers
            else ()
        ):
            spans[place[doc]].append((start, end))
            unread[place[doc]] |= bool(flag)
            terms.append(np.frombuffer(row_terms, "<u4").astype(np.int32))
            impacts.append(np.frombuffer(row_impacts, np.uint8))
            scales.append(scale)
            sizes.append(len(row_impacts))
        for row, found in zip(rows, spans, strict=True):
            if len(found) != row[2]:
                raise CorruptIndex(f"{self.server}: document {_text(row[1])!r} has {len(found)} of {row[2]} passages")
        vectors = QuantizedVectors(
            np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))),
            np.concatenate([np.empty(0, np.int32), *terms]),
            np.concatenate([np.empty(0, np.uint8), *impacts]),
            np.array(scales, np.float32),
        )
        return Batch(np.array(numbers, np.int64), EncodedDocuments(documents, spans, vectors, unread=unread))

    def matching(self, condition: Condition) -> list[Stored]:
        """See :class:`Engine`."""
        rows = self._client.rows(
            f"SELECT doc, passages, hash, metadata FROM {self._all('document')} FINAL"
            f" WHERE {self._visible}{_and(condition)} ORDER BY doc"
        )
        return [Stored(doc, passages, bytes(hash), _text(metadata)) for doc, passages, hash, metadata in rows]

    def count(self, condition: Condition | None = None) -> int:
        """See :class:`Engine`."""
        table = f"{self._all('name')}" if condition is None else f"{self._all('document')} FINAL"
        return int(self._client.rows(f"SELECT count() FROM {table} WHERE {self._visible}{_and(condition)}")[0][0])

    def frequencies(self, terms: Sequence[int]) -> Frequencies:
        """See :class:`Engine`."""
        no_term = (1 << 64) - 1
        rows = self._client.rows(
            "SELECT term, count, documents, words, unread FROM ("
            "SELECT term, count() AS count, toUInt64(0) AS documents, toUInt64(0) AS words, toUInt8(0) AS unread"
            f" FROM {self._all('posting')} WHERE term IN ({_numbers(terms)}) AND {self._visible} GROUP BY term"
            f" UNION ALL SELECT toUInt64({no_term}) AS term, count() AS count, countIf(ordinal = 0) AS documents,"
            f" sum(length) AS words, max(unread) AS unread FROM {self._all('passage')} WHERE {self._visible})"
        )
        counts = {term: int(count) for term, count, *_ in rows}
        totals = next((row for row in rows if row[0] == no_term), (no_term, 0, 0, 0, 0))
        return Frequencies(
            [counts.get(term, 0) for term in terms], int(totals[1]), int(totals[2]), int(totals[3]), bool(totals[4])
        )

    def figures(self) -> Figures:
        """See :class:`Engine`."""
        sizes: dict[str, int] = {}
        for node in self._nodes or [lambda: self._client]:
            client = node()
            for table, size in client.rows(
                f"SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND database ="
                f" {hexed(self._database)} GROUP BY table"
            ):
                sizes[_text(table)] = sizes.get(_text(table), 0) + int(size)
            if client is not self._client:
                client.close()
        postings, words = self._client.rows(
            f"SELECT count(), countIf(term >= {WORD}) FROM {self._all('posting')} WHERE {self._visible}"
        )[0]
        passages = self._client.rows(f"SELECT sum(passages) FROM {self._all('name')} WHERE {self._visible}")[0][0]
        return Figures(int(passages), int(postings) - int(words), int(words), sizes)

    # --- ranking -----------------------------------------------------------------------------------------------------

    def one_state(self) -> AbstractContextManager[None]:
        """See :class:`Engine`. There is no such thing: each statement sees what is complete when it begins."""
        return nullcontext()

    def rank(self, asked: Sequence[Ask], condition: Condition | None, timeout: float | None) -> list[list[Ranked]]:
        """See :class:`Engine`."""
        # Each shard has whole documents, so that its condition on them is its own.
        matching = self._visible
        if condition is not None:
            matching += f" AND doc IN (SELECT doc FROM {self._local('document')} FINAL WHERE {where(condition)})"
        results: list[list[Ranked]] = []
        for start in range(0, len(asked), ASKED_AT_ONCE):
            some = asked[start : start + ASKED_AT_ONCE]
            each = [
                f"SELECT toUInt8({i}) AS ask, number, place, score FROM ({self._ranking(ask, matching)})"
                for i, ask in enumerate(some)
            ]
            sql = each[0] if len(each) == 1 else f"SELECT ask, number, place, score FROM ({' UNION ALL '.join(each)})"
            found: list[list[Ranked]] = [[] for _ in some]
            for i, number, place, score in self._client.rows(sql, timeout, no_merge=bool(self._cluster)):
                found[i].append(Ranked(number, place, score))
            for ranked, ask in zip(found, some, strict=True):
                ranked.sort(key=lambda entry: (-entry.score, entry.number))  # of what each shard has sent
                results.append(ranked[: ask.k])
        return results

    def _ranking(self, ask: Ask, matching: str) -> str:
        """The statement for one query: its best documents, of each shard."""
        terms, weights, shift = fixed_point(ask)
        if ask.among is not None:
            matching = f"doc IN ({_numbers(ask.among)})"
        if ask.readable:
            matching += f" AND doc NOT IN (SELECT doc FROM {self._local('passage')} WHERE unread)"
        weight = f"[{', '.join(f'toInt64({weight})' for weight in weights)}][indexOf([{_numbers(terms)}], term)]"
        if ask.norm is None:
            score = f"toFloat64(sum(toInt64(impact) * {weight})) * toFloat64(any(scale))"
        else:
            norm = f"{ask.norm[0]!r} + {ask.norm[1]!r} * toFloat64(scale)"
            score = f"toFloat64(sum(toInt64({weight} * (impact / (impact + {norm})))))"
        # One number a passage, since one key is grouped faster than two.
        return (
            f"SELECT any(doc) AS number, any(ordinal) AS place, {score} * {math.ldexp(1.0, -shift)!r} AS score"
            f" FROM {self._all('posting')} WHERE term IN ({_numbers(terms)}) AND {matching}"
            f" GROUP BY doc + ordinal HAVING score > 0 AND score >= {ask.min_score!r}"
            f" ORDER BY score DESC, number, place LIMIT 1 BY number LIMIT {int(ask.k)}"
        )

    # --- writing -----------------------------------------------------------------------------------------------------

    def highest(self) -> int:
        """See :class:`Engine`."""
        rows = self._client.rows(f"SELECT max(base + toInt64(size)) FROM {self._all('batch')}")
        return int(rows[0][0]) if rows else 0

    def numbers(self, count: int) -> int:
        """See :class:`Engine`. Numbers are microseconds, so that they follow those of every earlier batch."""
        for _ in range(TRIES):
            base = max((time.time_ns() // 1000 << 10) + random.getrandbits(10), self.highest() + 1)
            if self._begin(base, count):
                return base
        raise ServerError(f"{self.server}: too many writers take numbers at the same moment; try again")

    def _begin(self, base: int, size: int) -> bool:
        """Take numbers; False if another writer has some of them."""
        self._batch(base, size, 0)
        rows = self._client.rows(
            f"SELECT count() FROM {self._all('batch')} WHERE base < {base + size}"
            f" AND base + toInt64(size) > {base} AND writer != {self._writer}"
        )
        if rows[0][0]:
            self._batch(base, size, 2)
            return False
        self._begun.add(base)
        return True

    def _batch(self, base: int, size: int, state: int) -> None:
        self._insert("batch", {"base": [base], "size": [size], "state": [state], "writer": [self._writer]})

    def write(self, batch: Batch, replaced: Sequence[Stored]) -> None:
        """See :class:`Engine`. Two that add one id at once both succeed; ``optimize`` keeps the later one."""
        encoded = batch.encoded
        counts = [len(spans) for spans in encoded.spans]
        base = int(batch.numbers[0])
        if base not in self._begun:
            self._begin(base, int(batch.numbers[-1]) + counts[-1] - base)
        vectors = encoded.vectors
        self._insert(
            "posting",
            {
                name: np.asarray(column).tolist()
                for name, column in zip(TABLES["posting"][0], batch.postings(), strict=True)
            },
        )
        bounds = vectors.indptr.tolist()
        terms, impacts = vectors.terms.astype("<u4"), vectors.impacts
        spans = [span for parts in encoded.spans for span in parts]
        self._insert(
            "passage",
            {
                "doc": batch.numbers[batch.rows].tolist(),
                "ordinal": batch.ordinals.tolist(),
                "start": [start for start, _ in spans],
                "end": [end for _, end in spans],
                "scale": vectors.scales.tolist(),
                "terms": [terms[a:b].tobytes() for a, b in pairwise(bounds)],
                "impacts": [impacts[a:b].tobytes() for a, b in pairwise(bounds)],
                "length": batch.lengths.tolist(),
                "unread": [int(flag) for flag in batch.unread],
            },
        )
        documents = encoded.documents
        self._insert_documents(
            batch.numbers.tolist(),
            [document.id for document in documents],
            counts,
            [document.content_hash for document in documents],
            [document.text for document in documents],
            [document.metadata or "{}" for document in documents],
        )
        self._insert(
            "name",
            {
                "id": [document.id.encode() for document in documents],
                "doc": batch.numbers.tolist(),
                "passages": counts,
                "hash": [document.content_hash for document in documents],
            },
        )
        self._bury(replaced, base)
        self._batch(base, 0, 1)
        self._begun.discard(base)

    def _insert_documents(
        self,
        numbers: Sequence[int],
        ids: Sequence[str],
        passages: Sequence[int],
        hashes: Sequence[bytes],
        texts: Sequence[str],
        metadata: Sequence[str],
    ) -> None:
        columns: dict[str, list[Any]] = {"paths": [], "kinds": [], "integers": [], "reals": [], "texts": []}
        for id, data in zip(ids, metadata, strict=True):
            found = list(fields(id, read_metadata(id, data)))
            columns["paths"].append([path_key(field.path).encode() for field in found])
            columns["kinds"].append([3 if field.value is True else KINDS[field.kind] for field in found])
            columns["integers"].append([field.value if field.kind == "integer" else 0 for field in found])
            columns["reals"].append([field.value if field.kind == "real" else 0.0 for field in found])
            columns["texts"].append(
                [guard(str(field.value)).encode() if field.kind == "text" else b"" for field in found]
            )
        self._insert(
            "document",
            {
                "doc": list(numbers),
                "id": [id.encode() for id in ids],
                "passages": list(passages),
                "hash": list(hashes),
                "text": [text.encode() for text in texts],
                "metadata": [data.encode() for data in metadata],
                **columns,
                "version": [time.time_ns()] * len(numbers),
            },
        )

    def set_metadata(self, changes: Sequence[tuple[Stored, str, str]]) -> None:
        """See :class:`Engine`. A newer version of the row; readers see one or the other."""
        rows = self.read([stored.doc_id for stored, _, _ in changes])
        kept = [(stored, data, rows[stored.doc_id]) for stored, _, data in changes if stored.doc_id in rows]
        self._insert_documents(
            [stored.doc_id for stored, _, _ in kept],
            [row.id for _, _, row in kept],
            [stored.passages for stored, _, _ in kept],
            [stored.content_hash for stored, _, _ in kept],
            [row.text for _, _, row in kept],
            [data for _, data, _ in kept],
        )

    def remove(self, documents: Sequence[Stored]) -> None:
        """See :class:`Engine`. All of them at once, like a batch without documents."""
        if documents:
            base = self.numbers(0)
            self._bury(documents, base)
            self._batch(base, 0, 1)
            self._begun.discard(base)

    def _bury(self, documents: Sequence[Stored], batch: int) -> None:
        if documents:
            self._insert(
                "tombstone", {"doc": [stored.doc_id for stored in documents], "batch": [batch] * len(documents)}
            )

    # --- upkeep ------------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """See :class:`Engine`. Rows of batches that were never completed go."""
        pending = self._client.rows(
            f"SELECT base, max(size) FROM {self._all('batch')} GROUP BY base HAVING max(state) != 1"
        )
        if pending:
            ranges = " OR ".join(f"(doc >= {base} AND doc < {base + size})" for base, size in pending if size)
            for table in ("posting", "passage", "document", "name"):
                if ranges:
                    self._delete(table, ranges)
            self._delete("tombstone", f"batch IN ({_numbers(base for base, _ in pending)})")
            self._delete("batch", f"base IN ({_numbers(base for base, _ in pending)})")

    def settle(self) -> None:
        """See :class:`Engine`. ClickHouse merges by itself."""

    def optimize(self) -> None:
        """See :class:`Engine`. Also keeps the later of two documents that were added under one id at one moment."""
        twice = self._client.rows(
            f"SELECT id, max(doc) FROM {self._all('name')} WHERE {self._visible} GROUP BY id HAVING count() > 1"
        )
        for id, latest in twice:
            rows = self._client.rows(
                f"SELECT doc, passages, hash FROM {self._all('name')} WHERE id = {hexed(id)} AND doc < {latest}"
                f" AND {self._visible}"
            )
            self.remove([Stored(doc, passages, bytes(hash), "{}") for doc, passages, hash in rows])
        dead = [
            doc
            for (doc,) in self._client.rows(
                f"SELECT DISTINCT doc FROM {self._all('tombstone')} WHERE batch GLOBAL NOT IN ({self._pending})"
            )
        ]
        for start in range(0, len(dead), 10_000):
            which = f"doc IN ({_numbers(dead[start : start + 10_000])})"
            for table in ("posting", "passage", "document", "name", "tombstone"):
                self._delete(table, which)
        done = [
            base
            for (base,) in self._client.rows(
                f"SELECT base FROM {self._all('batch')} GROUP BY base HAVING max(state) = 1 ORDER BY base"
            )
        ][:-1]  # the last one tells the highest number
        for start in range(0, len(done), 10_000):
            # The 1s last: a batch whose 0 alone is there would be taken for one that is being written.
            for state in (0, 1):
                which = f"base IN ({_numbers(done[start : start + 10_000])}) AND state = {state}"
                self._delete("batch", which)
        for node in self._nodes or [lambda: self._client]:
            client = node()
            for table in TABLES:
                client.rows(f"OPTIMIZE TABLE {self._local(table)} FINAL")
            if client is not self._client:
                client.close()

    def _delete(self, table: str, condition: str) -> None:
        """Delete rows on every shard, and wait until it is done."""
        for node in self._nodes or [lambda: self._client]:
            client = node()
            client.rows(f"ALTER TABLE {self._local(table)} DELETE WHERE {condition}")
            end = time.monotonic() + MUTATION_SECONDS
            while client.rows(
                f"SELECT count() FROM system.mutations WHERE database = {hexed(self._database)}"
                f" AND table = {hexed(table)} AND NOT is_done"
            )[0][0]:
                if time.monotonic() > end:
                    raise ServerError(f"{client.server}: deleting from {self._local(table)} takes too long")
                time.sleep(0.02)
            if client is not self._client:
                client.close()

    def close(self) -> None:
        """See :class:`Engine`."""
        self._client.close()


def hexed(value: str | bytes) -> str:
    """A string in SQL, of which no character can be anything but a string's."""
    return f"unhex('{(value.encode() if isinstance(value, str) else value).hex()}')"


def _numbers(values: Any) -> str:
    return ", ".join(str(int(value)) for value in values) or "NULL"


def _listed(table: str) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in TABLES[table][0].items())


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def _and(condition: Condition | None) -> str:
    return "" if condition is None else f" AND {where(condition)}"


def where(condition: Condition) -> str:
    """A filter as an expression over the columns of ``document``."""
    match condition:
        case All(parts):
            return f"({' AND '.join(map(where, parts))})" if parts else "1"
        case AnyOf(parts):
            return f"({' OR '.join(map(where, parts))})" if parts else "0"
        case Not(part):
            return f"(NOT {where(part)})"
        case Test(path, operator, value) if path == TEXT_PATH:
            return _of_text(operator, value)
        case Test(path, operator, value):
            place = f"indexOf(paths, {hexed(path_key(path))})"
            kind = f"kinds[{place}]"
            if operator == "exists":
                return f"({kind} != 0)"
            if value is None:
                return f"({kind} <= {KINDS['null']})"
            if isinstance(value, bool):
                return f"({kind} = {3 if value else 2})"
            if operator == "contains":
                return f"({kind} = {KINDS['text']} AND position(texts[{place}], {hexed(guard(str(value)))}) > 0)"
            sign = COMPARISONS[operator]
            if isinstance(value, str):
                return f"({kind} = {KINDS['text']} AND texts[{place}] {sign} {hexed(guard(value))})"
            integer = _bound(f"integers[{place}]", integer_bound(operator, value))
            real = _bound(f"reals[{place}]", float_bound(operator, value))
            return f"(({kind} = {KINDS['integer']} AND {integer}) OR ({kind} = {KINDS['real']} AND {real}))"


def _of_text(operator: str, value: object) -> str:
    """A test of the document's text, which is always there."""
    if operator == "exists" or not isinstance(value, str):
        return str(int(operator == "exists"))
    if operator == "contains":
        return f"(position(text, {hexed(value)}) > 0)"
    return f"(text {COMPARISONS[operator]} {hexed(value)})"


def _bound(column: str, bound: Bound) -> str:
    if isinstance(bound, bool):
        return str(int(bound))
    operator, value = bound
    literal = (
        f"toInt64({value})" if isinstance(value, int) else f"reinterpretAsFloat64({hexed(np.float64(value).tobytes())})"
    )
    return f"{column} {COMPARISONS[operator]} {literal}"


def open_server(
    host: str, port: int, user: str, password: str, secure: bool, database: str, cluster: str
) -> ClickHouse:
    """One server, or a cluster by one of its servers."""
    client = ServerClient(host, port, user, password, secure)
    try:
        if not cluster:
            return ClickHouse(client, database)
        found = client.rows(
            f"SELECT host_address, port FROM system.clusters WHERE cluster = {hexed(cluster)} ORDER BY shard_num"
        )
        if not found:
            known = [_text(name) for (name,) in client.rows("SELECT DISTINCT cluster FROM system.clusters")]
            raise InvalidInput(f"{client.server} knows no cluster {cluster!r}; it knows {', '.join(known) or 'none'}")
        nodes = [partial(ServerClient, _text(address), port, user, password, secure) for address, port in found]
        return ClickHouse(client, database, nodes, cluster)
    except BaseException:
        client.close()
        raise


def open_folder(folder: str, database: str = "spladelite") -> ClickHouse:
    """The engine in this process."""
    return ClickHouse(ProcessClient(folder), database)
