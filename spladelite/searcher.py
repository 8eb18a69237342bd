"""Searching: what one handle remembers between searches, and the statement that each of them is.

A search is one SQL statement: the aggregate ``topk`` collects the posting lists of the query's terms, those that the
cache does not hold, and at its end runs the kernel. Segments are immutable and their ids are never reused, so posting
lists cached by (segment, term) never go stale; the snapshot is renewed when ``PRAGMA data_version``, or the count of
this handle's own commits, says that the file changed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.connection import int_array
from spladelite.errors import CorruptIndex, InvalidInput
from spladelite.filters import Filter, matching_doc_ids
from spladelite.index import checked_postings
from spladelite.kernels import top_k
from spladelite.postings import blob_length
from spladelite.search import Segment, SegmentQuery
from spladelite.snapshot import Allowed, Picker, Snapshot, read_snapshot

CACHE_BYTES = 128 << 20
ENTRY_BYTES = 150  # what a cached list takes besides its postings: key, bytes object, entry

TOPK_SQL = """
SELECT topk(p.segment_id, p.term_id, p.count, p.postings, p.checksum)
FROM carray(:segments) AS s
CROSS JOIN carray(:terms) AS q
CROSS JOIN posting AS p ON p.segment_id = s.value AND p.term_id = q.value
""".strip()

Query = Sequence[tuple[int, float]]  # term ids strictly ascending


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a search works on: a connection inside a read transaction, and the state of the index that it sees."""

    connection: apsw.Connection
    snapshot: Snapshot


class PostingCache:
    """Posting lists of sealed segments by segment and term, in two generations. Safe among threads.

    What is asked for enters the young generation; when that has half of the budget it becomes the old one, and what
    was old is dropped. Nearly the lists that "least recently used" would keep, and a hit costs one look-up.
    """

    def __init__(self, budget: int = CACHE_BYTES) -> None:
        self._young: dict[int, dict[int, bytes]] = {}
        self._old: dict[int, dict[int, bytes]] = {}
        self._young_size = 0
        self._lock = threading.Lock()
        self._budget = budget

    @property
    def size(self) -> int:
        """What is held, in bytes."""
        with self._lock:
            return _size(self._young) + _size(self._old)

    def pick(self, segment_id: int, picker: Picker) -> tuple[bytes, ...] | None:
        """A segment's lists of a query's terms, if all of them are young."""
        try:
            return picker(self._young[segment_id])
        except KeyError:
            return None

    def get(self, segment_id: int, term: int) -> bytes | None:
        """A list, if it is held."""
        young = self._young.get(segment_id)
        postings = young.get(term) if young else None
        if postings is None:
            old = self._old.get(segment_id)
            postings = old.get(term) if old else None
            if postings is not None:
                self.put(segment_id, term, postings)
        return postings

    def put(self, segment_id: int, term: int, postings: bytes) -> None:
        """Hold a list; an empty one says that the segment has none."""
        cost = len(postings) + ENTRY_BYTES
        with self._lock:
            if cost > self._budget // 2 or term in self._young.get(segment_id, ()):
                return
            if self._young_size + cost > self._budget // 2:
                self._old, self._young, self._young_size = self._young, {}, 0
            self._young.setdefault(segment_id, {})[term] = postings
            self._young_size += cost

    def forget(self, segment_ids: set[int]) -> None:
        """Drop the lists of segments that are gone."""
        with self._lock:
            for segment_id in segment_ids:
                self._old.pop(segment_id, None)
                self._young_size -= _size({segment_id: self._young.pop(segment_id, {})})


def _size(lists: Mapping[int, Mapping[int, bytes]]) -> int:
    return sum(len(postings) + ENTRY_BYTES for held in lists.values() for postings in held.values())


def picker(terms: Sequence[int]) -> Picker:
    """A function that takes the values of all the terms out of a dict, in order, or raises KeyError."""
    if len(terms) == 1:
        return lambda held: (held[terms[0]],)
    return itemgetter(*terms)


class TopK:
    """The aggregate ``topk``: ``step`` takes posting rows, ``final`` ranks. One object, one search."""

    def __init__(
        self, snapshot: Snapshot, cache: PostingCache, query: Query, k: int, min_score: float, allowed: Allowed | None
    ) -> None:
        self._snapshot = snapshot
        self._cache = cache
        self._terms = [term for term, _ in query]
        self._weights = [weight for _, weight in query]
        self._k = k
        self._min_score = min_score
        self._allowed = snapshot.alive if allowed is None else allowed
        self._pick = picker(self._terms)
        self._lists = [cache.pick(segment.segment_id, self._pick) for segment in snapshot.segments]
        self._read: dict[tuple[int, int], bytes | None] = {}
        self.passage_ids = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)

    def run(self, connection: apsw.Connection) -> None:
        """Fill ``passage_ids`` and ``scores``, best first. ``connection`` must use this object as its ``topk``."""
        for segment, lists in zip(self._snapshot.segments, self._lists, strict=True):
            if lists is None:
                for term in self._terms:
                    self._read[segment.segment_id, term] = self._cache.get(segment.segment_id, term)
        missing = [key for key, postings in self._read.items() if postings is None]
        if missing:
            segments, terms = sorted({key[0] for key in missing}), sorted({key[1] for key in missing})
            connection.execute(TOPK_SQL, {"segments": int_array(segments), "terms": int_array(terms)}).fetchall()
        else:
            self.final()

    def step(self, segment_id: int, term_id: int, count: int, blob: bytes, checksum: int) -> None:
        """Take one posting row."""
        if (segment_id, term_id) not in self._read:
            raise CorruptIndex(f"posting row (segment {segment_id}, term {term_id}) is found under another key")
        size = next(len(segment) for segment in self._snapshot.segments if segment.segment_id == segment_id)
        postings = checked_postings(segment_id, term_id, count, blob, checksum, size)
        self._read[segment_id, term_id] = postings
        self._cache.put(segment_id, term_id, postings)

    def final(self) -> int:
        """Rank; returns the number of hits."""
        parts = [
            SegmentQuery(segment, self._allowed.get(segment.segment_id), lists or self._lists_of(segment))
            for segment, lists in zip(self._snapshot.segments, self._lists, strict=True)
        ]
        for tail in self._snapshot.tail:
            lists = tail.lists(self._terms, self._pick)
            parts.append(SegmentQuery(tail.segment, self._allowed.get(tail.segment.segment_id), lists))
        self.passage_ids, self.scores = top_k(parts, self._weights, self._k, self._min_score)
        return len(self.scores)

    def _lists_of(self, segment: Segment) -> list[bytes]:
        lists = []
        for term in self._terms:
            postings = self._read[segment.segment_id, term]
            if postings is None:
                if segment.has_term(term):
                    raise CorruptIndex(
                        f"posting row (segment {segment.segment_id}, term {term}) is missing; run check(repair=True)"
                    )
                postings = b""
                self._cache.put(segment.segment_id, term, postings)
            lists.append(postings)
        return lists


class Searcher:
    """A handle's searches: posting cache for all threads, snapshot and running statement for each."""

    def __init__(self) -> None:
        self._cache = PostingCache()
        self._segments: dict[int, Segment] = {}
        self._local = threading.local()
        self._commits = 0

    def prepare(self, connection: apsw.Connection) -> None:
        """Register ``topk`` on a new connection."""
        connection.create_aggregate_function("topk", self._running, 5, flags=apsw.SQLITE_DIRECTONLY)

    def _running(self) -> Any:
        search: TopK | None = getattr(self._local, "topk", None)
        if search is None:
            raise InvalidInput("topk() belongs to the engine; use splade(query, k) in your SQL")
        return search

    def changed(self) -> None:
        """This handle has committed something."""
        self._commits += 1

    def view(self, connection: apsw.Connection) -> View:
        """The state of the index that this read transaction sees."""
        version = (connection, connection.execute("PRAGMA data_version").get, self._commits)
        if getattr(self._local, "version", None) != version:
            held = set(self._segments)
            self._local.snapshot = read_snapshot(connection, self._segments)
            self._local.version = version
            self._cache.forget(held - set(self._segments))
        return View(connection, self._local.snapshot)

    def top_k(
        self, view: View, query: Query, k: int, min_score: float, matching: Filter | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Best passage of each of the k best documents: ids int64 ``(m,)`` and scores float32 ``(m,)``."""
        if not query:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        allowed = None
        if matching is not None:
            allowed = view.snapshot.allowed(matching, lambda: matching_doc_ids(view.connection, matching))
        self._local.topk = search = TopK(view.snapshot, self._cache, query, k, min_score, allowed)
        try:
            search.run(view.connection)
        finally:
            self._local.topk = None
        return search.passage_ids, search.scores


def document_frequencies(view: View, terms: Sequence[int]) -> NDArray[np.int64]:
    """In how many passages of the index each term occurs, dead ones that are not yet vacuumed included; ``(len,)``."""
    snapshot = view.snapshot
    wanted = np.array(terms, np.int32)
    counts = np.zeros(len(wanted), np.int64)
    if not len(wanted):
        return counts
    position = {term: i for i, term in enumerate(terms)}
    if snapshot.segments:
        missing = sum(segment.has_term(term) for segment in snapshot.segments for term in terms)
        sizes = {segment.segment_id: len(segment) for segment in snapshot.segments}
        for segment_id, term, count, length in view.connection.execute(
            "SELECT p.segment_id, p.term_id, p.count, length(p.postings) FROM carray(?) s CROSS JOIN carray(?) q"
            " CROSS JOIN posting p ON p.segment_id = s.value AND p.term_id = q.value",
            (int_array([segment.segment_id for segment in snapshot.segments]), int_array(list(terms))),
        ):
            known = segment_id in sizes and term in position and isinstance(count, int)
            if not known or length != blob_length(count, sizes[segment_id]):
                raise CorruptIndex(f"posting row (segment {segment_id}, term {term}): its count does not fit its list")
            counts[position[term]] += count
            missing -= 1
        if missing:
            raise CorruptIndex("posting rows are missing; run check(repair=True)")
    for tail in snapshot.tail:
        counts += np.searchsorted(tail.terms, wanted, "right") - np.searchsorted(tail.terms, wanted, "left")
    return counts


def explain_sql(connection: apsw.Connection, query: Query, terms: Mapping[int, str]) -> str:
    """The statement that a search runs, with its bindings as comments and SQLite's query plan."""
    segments = [segment_id for (segment_id,) in connection.execute("SELECT segment_id FROM segment")] or [0]
    bindings = {"segments": int_array(segments), "terms": int_array([term for term, _ in query] or [0])}
    plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + TOPK_SQL, bindings)]
    return "\n".join(
        [
            TOPK_SQL + ";",
            f"-- :segments = {segments}; the tail is ranked from memory, and cached lists are not read again",
            f"-- :terms = {[term for term, _ in query]}",
            *(f"--   {term:>6}  {weight:.4f}  {terms[term]}" for term, weight in sorted(query, key=lambda q: -q[1])),
            *(f"-- plan: {line}" for line in plan),
        ]
    )
