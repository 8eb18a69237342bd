"""Searching: what one handle remembers between searches, and the statement that each of them is.

A search is one SQL statement: the aggregate ``topk`` collects the posting lists of the query's terms, SPLADE's and
words alike, as far as the cache does not hold them, and at its end ranks. Segments are immutable and their ids are
never reused, so posting lists cached by (segment, term) never go stale; the snapshot is renewed when ``PRAGMA
data_version``, or the count of this handle's own commits, says that the file changed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.documents.filters import Filter, matching_among, matching_doc_ids
from spladelite.documents.metadata_index import count_entries
from spladelite.documents.table import document_ids
from spladelite.errors import CorruptIndex, InvalidInput
from spladelite.file.sqlite import int_array
from spladelite.index.buckets import bucket_id
from spladelite.index.kernels import top_k_many, warn_if_slow
from spladelite.index.postings import blob_length
from spladelite.index.scoring import Segment, SegmentQuery
from spladelite.index.segments import checked_bucket, checked_postings
from spladelite.index.snapshot import Allowed, Picker, Snapshot, read_snapshot
from spladelite.processors import usable_processors
from spladelite.search.cache import PostingCache
from spladelite.search.request import Request

TOPK_SQL = """
SELECT topk(p.segment_id, p.term_id, p.count, p.postings, p.checksum)
FROM carray(:segments) AS s
CROSS JOIN carray(:terms) AS q
CROSS JOIN posting AS p ON p.segment_id = s.value AND p.term_id = q.value
""".strip()

CANDIDATES = 4  # times k: the best documents, which are held against a filter before all documents are
MAX_CANDIDATES = 200

BATCH = 16  # queries that are ranked together
BATCH_HITS = 100_000

T = TypeVar("T")

QueryWeights = Sequence[tuple[int, float]]  # term ids strictly ascending
Result = tuple[NDArray[np.int64], NDArray[np.float32]]
NOTHING: Result = np.empty(0, np.int64), np.empty(0, np.float32)


class View(NamedTuple):
    """What a search works on: a connection inside a read transaction, and the state of the index that it sees."""

    connection: apsw.Connection
    snapshot: Snapshot


def picker(terms: Sequence[int]) -> Picker:
    """A function that takes the values of all the terms out of a dict, in order, or raises KeyError."""
    if len(terms) == 1:
        return lambda values: (values[terms[0]],)
    return itemgetter(*terms)


class TermLists(NamedTuple):
    """The posting lists of a query, ready for the kernels: one part a segment of ``Snapshot.all_segments``, in order.

    Attributes:
        splade, weights: of the terms of the model's vocabulary.
        words, word_weights: of BM25.
    """

    splade: list[SegmentQuery]
    weights: Sequence[float]
    words: list[SegmentQuery]
    word_weights: Sequence[float]

    def one_word(self, i: int) -> TermLists:
        """The i-th word alone."""
        lists = [part._replace(lists=part.lists[i : i + 1]) for part in self.words]
        return TermLists([], [], lists, self.word_weights[i : i + 1])


Rank = Callable[[TermLists], T]


class TopK(Generic[T]):
    """The aggregate ``topk``: ``step`` takes posting rows, ``final`` ranks. One object, one search.

    Args:
        snapshot: the state that is searched.
        cache: holds the lists that need not be read.
        query: SPLADE's terms and weights.
        words: term ids of words, ascending.
        allowed: masks of what may be found; None allows all that is alive.
        rank: what is done with the lists.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        cache: PostingCache,
        query: QueryWeights,
        words: Sequence[int],
        allowed: Allowed | None,
        rank: Rank[T],
    ) -> None:
        self._snapshot = snapshot
        self._words = words
        self._weights = [weight for _, weight in query]
        self._terms = (*(term for term, _ in query), *words)
        self._pick = picker(self._terms)
        self._rank = rank
        self._allowed = snapshot.alive if allowed is None else allowed
        self._cache = cache
        self._held = cache.held(snapshot.segment_ids, self._terms)
        self._read: dict[int, list[bytes | None]] = {}
        self._of_bucket: dict[tuple[int, int], list[int]] = {}  # (segment_id, bucket): words that it must tell of
        self._own_rows: list[tuple[int, int]] = []  # (segment_id, word) of which a bucket says that it has one
        self.result: list[T] = []

    def lists(self) -> TermLists | None:
        """What is to be ranked, if no posting list has to be read first."""
        try:
            return self._with_tail(self._pick(self._held.whole))
        except KeyError:
            return None

    def run(self, connection: apsw.Connection) -> T:
        """Rank, after reading what is missing. ``connection`` must use this object as its ``topk``."""
        lists = self.lists()
        if lists is not None:
            return self._rank(lists)
        self._read = {term: list(self._held.get(term)) for term in self._terms}
        missing = {
            (segment_id, term)
            for term, of_term in self._read.items()
            for segment_id, postings in zip(self._held.segment_ids, of_term, strict=True)
            if postings is None
        }
        for segment in self._snapshot.segments:
            for word in self._words:
                if (segment.segment_id, word) in missing:
                    self._of_bucket.setdefault((segment.segment_id, bucket_id(word, segment.buckets)), []).append(word)
        missing |= self._of_bucket.keys()
        if missing:
            segments, terms = sorted({segment for segment, _ in missing}), sorted({term for _, term in missing})
            connection.execute(TOPK_SQL, {"segments": int_array(segments), "terms": int_array(terms)}).fetchall()
        else:
            self.final()
        return self.result[0]

    def step(self, segment_id: int, term_id: int, count: int, blob: bytes, checksum: int) -> None:
        """Take one posting row."""
        if segment_id not in self._held.segment_ids:
            raise CorruptIndex(f"posting row (segment {segment_id}, term {term_id}) is found under another key")
        i = self._held.segment_ids.index(segment_id)
        size = len(self._snapshot.segments[i])
        if term_id in self._read:
            self._read[term_id][i] = checked_postings(segment_id, term_id, count, blob, checksum, size)
            return
        words = self._of_bucket.pop((segment_id, term_id), [])
        for word, postings in zip(
            words, checked_bucket(segment_id, term_id, count, blob, checksum, size, words), strict=True
        ):
            if postings is None:
                self._own_rows.append((segment_id, word))
            elif not self._read[word][i]:
                self._read[word][i] = postings

    def final(self) -> int:
        """Rank; returns how many lists were ranked."""
        lost = [*self._of_bucket]
        lost += [(id, word) for id, word in self._own_rows if not self._read[word][self._held.segment_ids.index(id)]]
        found = []
        for term, lists in self._read.items():
            for segment, postings in zip(self._snapshot.segments, lists, strict=True):
                if postings is None and segment.has_term(term):
                    lost.append((segment.segment_id, term))
            found.append(tuple(postings or b"" for postings in lists))
        for segment_id, term in lost:
            raise CorruptIndex(f"posting row (segment {segment_id}, term {term}) is missing; run check(repair=True)")
        for term, known in zip(self._read, found, strict=True):
            self._cache.put(self._held, term, known)
        self.result.append(self._rank(self._with_tail(found)))
        return len(found)

    def _with_tail(self, lists: Sequence[tuple[bytes, ...]]) -> TermLists:
        """The lists of each term, one a sealed segment, and those of the tail, as the kernels take them."""
        snapshot, of_splade = self._snapshot, len(self._weights)
        by_segment: list[Sequence[bytes]] = list(zip(*lists, strict=True)) if snapshot.segments else []
        by_segment += [part.lists(self._terms, self._pick) for part in snapshot.tail]
        splade, words = [], []
        for segment, of_segment in zip(snapshot.all_segments, by_segment, strict=True):
            allowed = self._allowed.get(segment.segment_id)
            if of_splade:
                splade.append(SegmentQuery(segment, allowed, of_segment[:of_splade]))
            if self._words:
                words.append(SegmentQuery(segment, allowed, of_segment[of_splade:], snapshot.norms(segment)))
        word_weights = snapshot.word_weights(self._words, [part.lists for part in words]) if words else ()
        return TermLists(splade, self._weights, words, word_weights)


class Searcher:
    """A handle's searches: posting cache for all threads, snapshot and running statement for each."""

    def __init__(self) -> None:
        self._cache = PostingCache()
        self._segments: dict[int, Segment] = {}
        self._local = threading.local()
        self._commits = 0
        self._counted = False

    def prepare(self, connection: apsw.Connection) -> None:
        """Register ``topk`` on a new connection."""
        connection.create_aggregate_function("topk", self._running, 5, flags=apsw.SQLITE_DIRECTONLY)

    def _running(self) -> Any:
        search: TopK[Any] | None = getattr(self._local, "topk", None)
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
            self._local.snapshot = read_snapshot(connection, self._segments, getattr(self._local, "snapshot", None))
            self._local.version = version
            warn_if_slow(sum(len(segment) for segment in self._local.snapshot.all_segments))
        return View(connection, self._local.snapshot)

    def ranked(self, view: View, query: QueryWeights, words: Sequence[int], request: Request, rank: Rank[T]) -> T:
        """What ``rank`` makes of the posting lists of a query's terms and words."""
        if not query and not words:
            return rank(TermLists([], [], [], []))
        search = TopK(view.snapshot, self._cache, query, words, self._allowed(view, request), rank)
        self._local.topk = search
        try:
            return search.run(view.connection)
        finally:
            self._local.topk = None

    def top_k_many(self, view: View, queries: Iterable[QueryWeights], request: Request) -> Iterator[list[Result]]:
        """SPLADE's best passages for many queries, batch after batch. Other cores rank while this thread does the rest.

        Ranking needs neither the interpreter nor the connection, so threads of the caller's kind are not of use.
        """
        allowed = self._allowed(view, request)

        def unranked(lists: TermLists) -> TermLists:
            return lists

        batch_size = max(1, min(BATCH, BATCH_HITS // request.k))
        remaining = iter(queries)
        others = usable_processors() - 1
        with ThreadPoolExecutor(max(1, others)) as pool:
            running: deque[tuple[list[Result | None], Callable[[], list[Result]]]] = deque()
            while batch := list(islice(remaining, batch_size)):
                results: list[Result | None] = []
                todo: list[tuple[list[SegmentQuery], Sequence[float]]] = []
                for query in batch:
                    if not query:
                        results.append(NOTHING)
                        continue
                    search = TopK(view.snapshot, self._cache, query, (), allowed, unranked)
                    lists = search.lists()
                    if lists is None:
                        lists = self.ranked(view, query, (), request, unranked)
                    results.append(None)
                    todo.append((lists.splade, lists.weights))
                rank = partial(top_k_many, todo, request.k, request.min_score or 0.0)
                running.append((results, pool.submit(rank).result if others else rank))
                if len(running) > max(1, others):
                    yield _merged(*running.popleft())
            while running:
                yield _merged(*running.popleft())

    def _allowed(self, view: View, request: Request) -> Allowed | None:
        return None if request.matching is None else self.allowed(view, request.matching)

    def allowed(self, view: View, matching: Filter) -> Allowed:
        """The living passages of the documents that match, as a mask for each segment.

        Before a handle's first filter, the entries of the indexes that filters use are counted.
        """
        if not self._counted:
            count_entries(view.connection, view.snapshot.documents)
            self._counted = True
        return view.snapshot.allowed(matching, lambda: matching_doc_ids(view.connection, matching))


def filter_best(view: View, request: Request, rank: Callable[[Request], Result]) -> Result | None:
    """The k best documents that match a filter, if they are among the best few of all; else None.

    That is quicker than finding every document that matches, and with a filter that keeps most, it suffices.
    """
    matching, k = request.matching, request.k
    if matching is None or matching in view.snapshot.filters or CANDIDATES * k > MAX_CANDIDATES:
        return None
    passage_ids, scores = rank(replace(request, k=CANDIDATES * k, matching=None))
    doc_ids = passage_ids
    if not view.snapshot.one_passage_each:
        doc_ids = document_ids(view.connection, passage_ids)
    matching_ids = matching_among(view.connection, matching, doc_ids.tolist())
    best = [place for place, doc_id in enumerate(doc_ids.tolist()) if doc_id in matching_ids]
    if len(best) < k and len(passage_ids) == CANDIDATES * k:
        return None
    return passage_ids[best[:k]], scores[best[:k]]


def _merged(results: list[Result | None], rank: Callable[[], list[Result]]) -> list[Result]:
    ranked = iter(rank())
    return [next(ranked) if result is None else result for result in results]


def document_frequencies(view: View, terms: Sequence[int]) -> NDArray[np.int64]:
    """In how many passages of the index each term occurs, dead ones that are not yet vacuumed included; ``(len,)``."""
    snapshot = view.snapshot
    wanted = np.array(terms, np.int64)
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


def explain_sql(connection: apsw.Connection, query: QueryWeights, terms: Mapping[int, str]) -> str:
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
