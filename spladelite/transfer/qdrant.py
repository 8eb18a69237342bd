"""Qdrant: its sparse vectors, inverted index and filters; the scores of what it finds are added up here.

A passage is a point with the id ``uuid(document id, ordinal)``, so that storing it twice is storing it once. Qdrant
adds up in float32 and breaks ties as it likes: a search asks for a few points more than wanted, with their vectors,
adds up in float64, and asks for more still if what was left out could belong to the list. A weight is sent as float32
``impact · scale``; the scale is in the payload, so that impacts come back exactly.

A document is there if its first point is: that one is written last, and taken away first. Replacing a document, or
deleting several, is one step a point, not one in all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import UUID

import numpy as np

from spladelite.arguments import NewDocument
from spladelite.documents.table import EncodedDocuments, Stored, read_metadata
from spladelite.errors import CorruptIndex, NotADatabase, Unsupported
from spladelite.index.quantize import QuantizedVectors
from spladelite.transfer.conditions import TEXT_PATH, All, AnyOf, Condition, Not, Test, path_key
from spladelite.transfer.digests import digest, point_id, searched
from spladelite.transfer.engine import Ask, Batch, Figures, Frequencies, Query, Ranked, Row
from spladelite.transfer.qdrant_clients import Client, Filter, Point, ProcessClient, connect_server

META = str(UUID(int=0))
MORE = 10  # points asked for beyond k
PAYLOAD = ("doc", "ordinal", "scale")
# By how much a float32 sum of some hundred products may be off, and then some.
DOUBT = 1e-4

ALWAYS: Filter = {"key": "ordinal", "range": {"gte": 0}}
FIRST: Filter = {"key": "ordinal", "match": {"value": 0}}


class Qdrant:
    """An :class:`~spladelite.transfer.engine.Engine` over one collection."""

    can_count_terms = False

    def __init__(self, client: Client) -> None:
        self._client = client
        self.server = client.server

    # --- what it knows of itself -------------------------------------------------------------------------------------

    def meta(self) -> dict[str, str]:
        """See :class:`Engine`."""
        if not self._client.exists():
            return {}
        found = self._client.retrieve([META])
        if not found:
            raise NotADatabase(f"{self.server} is a collection that SpladeLite did not make; give another name")
        return {str(key): str(value) for key, value in found[0].payload["meta"].items()}

    def create(self, meta: Mapping[str, str]) -> None:
        """See :class:`Engine`."""
        self._client.create()
        self._client.upsert([Point(META, (), (), {"meta": dict(meta)})])

    def set_meta(self, changes: Mapping[str, str]) -> None:
        """See :class:`Engine`."""
        self._client.set_payload(META, {"meta": self.meta() | dict(changes)})

    # --- looking -----------------------------------------------------------------------------------------------------

    def look_up(self, ids: Sequence[str]) -> dict[str, Stored]:
        """See :class:`Engine`."""
        points = self._client.retrieve([point_id(id, 0) for id in ids], ("doc", "id", "passages", "hash", "metadata"))
        return {p.payload["id"]: _stored(p) for p in points}

    def read(self, numbers: Sequence[int], text: bool = True) -> dict[int, Row]:
        """See :class:`Engine`."""
        fields = ("doc", "id", "metadata", "passages", *(["text"] if text else []))
        rows: dict[int, Row] = {}
        for start in range(0, len(numbers), 64):
            chunk = numbers[start : start + 64]
            either = {"should": [{"key": "doc", "match": {"value": number}} for number in chunk], "must": [FIRST]}
            points = self._client.scroll(either, len(chunk), fields)
            rows |= {point.payload["doc"]: _row(point) for point in points}
        return rows

    def spans(self, passages: Sequence[tuple[int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
        """See :class:`Engine`."""
        spans = {}
        for number, ordinal in passages:
            where = [
                {"key": "doc", "match": {"value": number}},
                {"key": "ordinal", "match": {"value": ordinal}},
            ]
            for point in self._client.scroll({"must": where}, 1, ("start", "end")):
                spans[number, ordinal] = point.payload["start"], point.payload["end"]
        return spans

    def page(
        self, after: int, limit: int, condition: Condition | None = None, offset: int = 0, text: bool = True
    ) -> list[Row]:
        """See :class:`Engine`."""
        payload = ("doc", "id", "metadata", "passages", *(["text"] if text else []))
        points = self._client.scroll(_after(after, condition), limit + offset, payload)
        return [_row(point) for point in points[offset:]]

    def batch(self, after: int, limit: int) -> Batch:
        """See :class:`Engine`."""
        return self._batch(self._client.scroll(_after(after, None), limit, True, True))

    def one(self, stored: Stored) -> Batch:
        """See :class:`Engine`."""
        where = {"must": [FIRST, {"key": "doc", "match": {"value": stored.doc_id}}]}
        return self._batch(self._client.scroll(where, 1, True, True))

    def _batch(self, firsts: Sequence[Point]) -> Batch:
        rest = [
            point_id(point.payload["id"], ordinal)
            for point in firsts
            for ordinal in range(1, point.payload["passages"])
        ]
        others = {point.id: point for point in self._client.retrieve(rest, ("start", "end", "scale"), True)}
        documents, spans, rows, unread = [], [], [], []
        for first in firsts:
            data = first.payload
            documents.append(NewDocument(data["id"], data["text"], data["metadata"], None, bytes.fromhex(data["hash"])))
            try:
                parts = [first, *(others[point_id(data["id"], n)] for n in range(1, data["passages"]))]
            except KeyError:
                raise CorruptIndex(f"{self.server}: document {data['id']!r} lacks passages; add it again") from None
            spans.append([(part.payload["start"], part.payload["end"]) for part in parts])
            rows += [_impacts(part) for part in parts]
            unread.append(data["unread"])
        vectors = QuantizedVectors(
            np.concatenate(([0], np.cumsum([len(terms) for terms, _, _ in rows], dtype=np.int64))),
            np.concatenate([np.empty(0, np.int32), *(terms for terms, _, _ in rows)]),
            np.concatenate([np.empty(0, np.uint8), *(impacts for _, impacts, _ in rows)]),
            np.array([scale for _, _, scale in rows], np.float32),
        )
        numbers = np.array([first.payload["doc"] for first in firsts], np.int64)
        return Batch(numbers, EncodedDocuments(documents, spans, vectors, unread=unread))

    def matching(self, condition: Condition) -> list[Stored]:
        """See :class:`Engine`."""
        found: list[Stored] = []
        after = -1
        while points := self._client.scroll(
            _after(after, condition), 1000, ("doc", "id", "passages", "hash", "metadata")
        ):
            found += map(_stored, points)
            after = points[-1].payload["doc"]
        return found

    def count(self, condition: Condition | None = None) -> int:
        """See :class:`Engine`."""
        return self._client.count({"must": [FIRST, *([] if condition is None else [where(condition)])]})

    def frequencies(self, terms: Sequence[int]) -> Frequencies:  # noqa: ARG002
        """See :class:`Engine`."""
        raise Unsupported(f"{self.server} does not count how many passages have a term")

    def figures(self) -> Figures:
        """See :class:`Engine`."""
        return Figures(self._client.count(ALWAYS_FILTER), None, None, self._client.sizes())

    # --- ranking -----------------------------------------------------------------------------------------------------

    def one_state(self) -> AbstractContextManager[None]:
        """See :class:`Engine`. There is no such thing."""
        return nullcontext()

    def rank(self, asked: Sequence[Ask], condition: Condition | None, timeout: float | None) -> list[list[Ranked]]:
        """See :class:`Engine`. Of SPLADE alone: what only hybrids and BM25 ask is not asked here."""
        filter = None if condition is None else {"must": [where(condition)]}
        return [self._rank(ask.terms, ask.k, ask.min_score, filter, timeout) for ask in asked]

    def _rank(
        self, query: Query, k: int, min_score: float, filter: Filter | None, timeout: float | None
    ) -> list[Ranked]:
        terms, weights = [term for term, _ in query], [weight for _, weight in query]
        limit = min(k + MORE, 1 << 30)
        while True:
            points = self._client.query(terms, weights, limit, filter, PAYLOAD, timeout)
            passages = sorted(
                (Ranked(point.payload["doc"], point.payload["ordinal"], _score(query, point)) for point, _ in points),
                key=lambda entry: (-entry.score, entry.number, entry.ordinal),
            )
            best: dict[int, Ranked] = {}
            for entry in passages:
                if entry.score > 0 and entry.score >= min_score:
                    best.setdefault(entry.number, entry)
            found = list(best.values())[:k]
            # What was not sent scores no more than the last one that was, but for rounding.
            beyond = points[-1][1] * (1 + DOUBT) if len(points) == limit else 0.0
            least = found[-1].score if len(found) == k else max(min_score, 0.0)
            if len(points) < limit or beyond < least:
                return found
            limit *= 4

    # --- writing -----------------------------------------------------------------------------------------------------

    def highest(self) -> int:
        """See :class:`Engine`."""
        last = self._client.scroll({"must": [FIRST]}, 1, ("doc", "passages"), last=True)
        return last[0].payload["doc"] + last[0].payload["passages"] - 1 if last else 0

    def numbers(self, count: int) -> int:  # noqa: ARG002 - microseconds leave room
        """See :class:`Engine`. Microseconds: Qdrant compares numbers as float64. The same one twice would be a tie."""
        return max(time.time_ns() // 1000, self.highest() + 1)

    def write(self, batch: Batch, replaced: Sequence[Stored]) -> None:
        """See :class:`Engine`."""
        encoded = batch.encoded
        vectors = encoded.vectors
        firsts: list[Point] = []
        others: list[Point] = []
        place = 0
        ids = {stored.doc_id: stored.passages for stored in replaced}
        old = {}
        if replaced:
            stored = self.look_up([document.id for document in encoded.documents])
            old = {id: entry.passages for id, entry in stored.items() if entry.doc_id in ids}
        flags = batch.unread
        for number, document, spans in zip(batch.numbers.tolist(), encoded.documents, encoded.spans, strict=True):
            metadata = document.metadata or "{}"
            digests = searched(document.id, read_metadata(document.id, metadata))
            for ordinal, (start, end) in enumerate(spans):
                entries = slice(vectors.indptr[place], vectors.indptr[place + 1])
                scale = vectors.scales[place]
                payload = {
                    "doc": number,
                    "ordinal": ordinal,
                    "id": document.id,
                    "start": start,
                    "end": end,
                    "scale": float(scale),
                    **digests,
                }
                if ordinal == 0:
                    payload |= {
                        "passages": len(spans),
                        "hash": document.content_hash.hex(),
                        "unread": flags[place],
                        "text": document.text,
                        "metadata": metadata,
                    }
                point = Point(
                    point_id(document.id, ordinal),
                    vectors.terms[entries].tolist(),
                    (vectors.impacts[entries] * scale).tolist(),
                    payload,
                )
                (others if ordinal else firsts).append(point)
                place += 1
        self._client.upsert(others)
        self._client.upsert(firsts)
        self._client.delete(
            [
                point_id(document.id, ordinal)
                for document, spans in zip(encoded.documents, encoded.spans, strict=True)
                for ordinal in range(len(spans), old.get(document.id, 0))
            ]
        )

    def set_metadata(self, changes: Sequence[tuple[Stored, str, str]]) -> None:
        """See :class:`Engine`."""
        for stored, _, metadata in changes:
            row = self.read([stored.doc_id]).get(stored.doc_id)
            if row is None:
                continue
            digests = searched(row.id, read_metadata(row.id, metadata))
            for ordinal in range(stored.passages):
                more = {"metadata": metadata} if ordinal == 0 else {}
                self._client.set_payload(point_id(row.id, ordinal), digests | more)

    def remove(self, documents: Sequence[Stored]) -> None:
        """See :class:`Engine`."""
        rows = self.read([stored.doc_id for stored in documents])
        known = [stored for stored in documents if stored.doc_id in rows]
        self._client.delete([point_id(rows[stored.doc_id].id, 0) for stored in known])
        self._client.delete([point_id(rows[s.doc_id].id, ordinal) for s in known for ordinal in range(1, s.passages)])

    # --- upkeep ------------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """See :class:`Engine`. Points without their document are overwritten when it is written again."""

    def settle(self) -> None:
        """See :class:`Engine`."""
        self._client.settle()

    def optimize(self) -> None:
        """See :class:`Engine`."""
        self._client.settle()

    def close(self) -> None:
        """See :class:`Engine`."""
        self._client.close()


ALWAYS_FILTER: Filter = {"must": [ALWAYS]}


def _stored(point: Point) -> Stored:
    data = point.payload
    return Stored(data["doc"], data["passages"], bytes.fromhex(data["hash"]), data["metadata"])


def _row(point: Point) -> Row:
    data = point.payload
    return Row(data["doc"], data["id"], data.get("text", ""), data["metadata"], data["passages"])


def _impacts(point: Point) -> tuple[Any, Any, np.float32]:
    """A point's terms, ascending, impacts and scale, exactly as they were stored."""
    scale = np.float32(point.payload["scale"])
    terms = np.asarray(point.indices, np.int32)
    order = np.argsort(terms)
    impacts = np.rint(np.asarray(point.values, np.float64) / float(scale)).astype(np.uint8)
    return terms[order], impacts[order], scale


def _score(query: Query, point: Point) -> float:
    terms, impacts, scale = _impacts(point)
    wanted = np.array([term for term, _ in query])
    place = np.minimum(np.searchsorted(terms, wanted), max(len(terms) - 1, 0))
    if not len(terms):
        return 0.0
    weights = np.where(terms[place] == wanted, [weight for _, weight in query], 0.0)
    return float((weights * impacts[place]).sum() * float(scale))


def _after(number: int, condition: Condition | None) -> Filter:
    parts: list[Filter] = [FIRST, {"key": "doc", "range": {"gt": number}}]
    return {"must": parts if condition is None else [*parts, where(condition)]}


def where(condition: Condition) -> Filter:
    """A filter as Qdrant's.

    Raises:
        Unsupported: an order of strings, or of integers that float64 does not have.
    """
    match condition:
        case All(parts):
            return {"must": [ALWAYS, *map(where, parts)]}
        case AnyOf(parts):
            return {"should": list(map(where, parts))} if parts else {"must_not": [ALWAYS]}
        case Not(part):
            return {"must_not": [where(part)]}
        case Test(path, operator, value):
            if path == TEXT_PATH or operator == "contains":
                raise Unsupported("where: Qdrant finds words, not parts of strings; a file finds both, in $text too")
            name = path_key(path)
            if operator == "exists":
                return {"key": "has", "match": {"value": digest(name)}}
            if value is None:
                return {"must_not": [{"key": "set", "match": {"value": digest(name)}}]}
            if operator == "eq":
                return {"key": "eq", "match": {"value": digest(name, value)}}
            if isinstance(value, str):
                raise Unsupported(f"where: ${operator} of the string {value!r}: Qdrant orders numbers only")
            if float(value) != value:
                raise Unsupported(f"where: ${operator} of {value}: Qdrant compares numbers as float64")
            return {"key": f"num.{digest(name)}", "range": {operator: float(value)}}


def open_server(host: str, port: int, api_key: str | None, secure: bool, collection: str) -> Qdrant:
    """A collection of a server."""
    return Qdrant(connect_server(host, port, api_key, secure, collection))


def open_folder(folder: str) -> Qdrant:
    """The vendor's engine in this process."""
    return Qdrant(ProcessClient(folder))
