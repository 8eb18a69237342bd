"""The read side of the index: one state of the file.

A :class:`Snapshot` is what a read transaction sees: its segments, who is alive in them, and the tail, inverted in
memory. It is kept until the file changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, TypeVar

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.errors import CorruptIndex
from spladelite.index.passages import Layout, PassageVectors, read_passages
from spladelite.index.postings import MAX_SEGMENT, in_memory, order_by_term, split
from spladelite.index.scoring import Segment, bm25_norms, bm25_weights
from spladelite.index.segments import read_segment, read_tombstones, recorded_size, sealed_until
from spladelite.index.settings import Meta, read_meta
from spladelite.index.unread import NONE, Unread, read_unread
from spladelite.index.word_rows import read_words
from spladelite.index.words import WordCounts

REMEMBERED_FILTERS = 16
TAIL_PARTS = 16  # parts in which the tail is kept while it grows
LAST_ROWID = (1 << 63) - 1

Allowed = dict[int, NDArray[np.uint8]]
T = TypeVar("T")


class Picker(Protocol):
    """Takes the values of certain keys out of a mapping, in order; KeyError if one is missing."""

    def __call__(self, values: Mapping[int, T], /) -> tuple[T, ...]:
        """The values."""


@dataclass(frozen=True, slots=True, eq=False)
class TailPart:
    """At most 65,536 passages of the tail as a segment whose postings, words after SPLADE, are sorted in memory."""

    segment: Segment
    terms: NDArray[np.int64]  # (nnz,), ascending
    ordinals: NDArray[np.uint16]
    impacts: NDArray[np.uint8]
    known: dict[int, bytes] = field(default_factory=dict)  # the lists that were asked for

    def lists(self, terms: Sequence[int], pick: Picker) -> Sequence[bytes]:
        """The posting list of each term, as kept in memory; empty where the tail has none. ``pick`` picks the terms."""
        try:
            return pick(self.known)
        except KeyError:
            pass
        wanted = np.array(terms, np.int64)
        starts = np.searchsorted(self.terms, wanted, "left").tolist()
        ends = np.searchsorted(self.terms, wanted, "right").tolist()
        size = len(self.segment)
        lists = [in_memory(self.ordinals[a:b], self.impacts[a:b], size) for a, b in zip(starts, ends, strict=True)]
        self.known.update(zip(terms, lists, strict=True))
        return lists


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One state of the index.

    Attributes:
        meta: what the file says of itself.
        segments: in order of their passage ids.
        alive: ``{segment_id: uint8 (n,)}`` for the segments that have dead passages.
        tail: the unsealed passages; in order, after all segments.
        unread: documents that the model cannot read, dead ones perhaps among them.
        filters: the masks of the latest filters, by their SQL and arguments.
        verified_blocks: rows of ``dense_block`` whose checksums a search has verified.
        segment_ids: of ``segments``.
        one_passage_each: no document has a second passage, so that a passage's id is its document's.
        documents: how many are alive.
        average_length: words a living document.
        word_counts: how many living documents have a word, as far as it was asked.
        word_norms: BM25's norms, by segment.
        read_masks: what :meth:`readable` has made.
    """

    meta: Meta
    segments: tuple[Segment, ...]
    alive: Allowed
    tail: tuple[TailPart, ...]
    unread: Unread = NONE
    filters: OrderedDict[object, Allowed] = field(default_factory=OrderedDict)
    verified_blocks: set[int] = field(default_factory=set)
    word_counts: dict[int, int] = field(default_factory=dict)
    word_norms: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    read_masks: dict[int, NDArray[np.uint8] | None] = field(default_factory=dict)
    segment_ids: tuple[int, ...] = field(init=False)
    one_passage_each: bool = field(init=False)
    documents: int = field(init=False)
    average_length: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "segment_ids", tuple(segment.segment_id for segment in self.segments))
        documents, words = 0, 0.0
        for segment in self.all_segments:
            alive = self.alive.get(segment.segment_id)
            if alive is None:
                documents += segment.documents
                words += segment.total_length
            else:
                documents += int(np.count_nonzero(alive[_first_passages(segment)]))
                words += 0.0 if segment.lengths is None else float(segment.lengths[alive > 0].sum(dtype=np.float64))
        one_each = all(segment.document_of is None for segment in self.all_segments)
        object.__setattr__(self, "one_passage_each", one_each)
        object.__setattr__(self, "documents", documents)
        object.__setattr__(self, "average_length", words / documents if words else 1.0)

    @property
    def all_segments(self) -> tuple[Segment, ...]:
        """Sealed segments, then the tail's parts."""
        return (*self.segments, *(part.segment for part in self.tail))

    def norms(self, segment: Segment) -> NDArray[np.float32]:
        """BM25's norms of a segment, float32 ``(65536,)``."""
        found = self.word_norms.get(segment.segment_id)
        if found is None:
            if segment.lengths is None:
                raise CorruptIndex(f"segment {segment.segment_id} has no words; run check(repair=True)")
            found = self.word_norms[segment.segment_id] = bm25_norms(segment.lengths, self.average_length)
        return found

    def word_weights(self, words: Sequence[int], lists: Sequence[Sequence[bytes]]) -> list[float]:
        """BM25's weight of each word, given the lists of all words for each of ``all_segments``."""
        counts = self.word_counts
        for i, word in enumerate(words):
            if word not in counts:
                counts[word] = sum(
                    _living(of_segment[i], len(segment), self.alive.get(segment.segment_id))
                    for segment, of_segment in zip(self.all_segments, lists, strict=True)
                )
        return bm25_weights(np.array([counts[word] for word in words], np.int64), self.documents)

    def readable(self, segment: Segment) -> NDArray[np.uint8] | None:
        """uint8 ``(n,)``: 0 where the model cannot read a passage's document; None where it reads all."""
        if segment.segment_id not in self.read_masks:
            unread = _members(segment, self.unread.doc_ids)
            self.read_masks[segment.segment_id] = (1 - unread).astype(np.uint8) if unread.any() else None
        return self.read_masks[segment.segment_id]

    def allowed(self, key: object, doc_ids: Callable[[], NDArray[np.int64]]) -> Allowed:
        """The living passages of the given documents, as a mask for each segment; remembered under ``key``."""
        if key in self.filters:
            return self.filters[key]
        wanted = doc_ids()
        masks = {}
        for segment in self.all_segments:
            mask = _members(segment, wanted)
            masks[segment.segment_id] = (
                mask & self.alive[segment.segment_id] if segment.segment_id in self.alive else mask
            )
        self.filters[key] = masks
        while len(self.filters) > REMEMBERED_FILTERS:
            self.filters.popitem(last=False)
        return masks


def _living(postings: bytes, size: int, alive: NDArray[np.uint8] | None) -> int:
    """How many postings of a list are alive."""
    ordinals, _ = split(postings, size)
    return len(ordinals) if alive is None else int(np.count_nonzero(alive[ordinals]))


def _first_passages(segment: Segment) -> NDArray[np.int32] | slice:
    return slice(None) if segment.starts is None else segment.starts[:-1]


def _members(segment: Segment, doc_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """uint8 ``(n,)``: 1 where the passage's document is among ``doc_ids`` (ascending)."""
    documents = segment.passage_ids[_first_passages(segment)]
    first, last = int(documents[0]), int(documents[-1])
    wanted = doc_ids[slice(*np.searchsorted(doc_ids, (first, last + 1)))]
    if last - first < 4 * MAX_SEGMENT:  # ids are dense, as a rule: a table is faster than a search
        table = np.zeros(last - first + 1, np.uint8)
        table[wanted - first] = 1
        mask = table[documents - first]
    else:
        mask = np.isin(documents, wanted, assume_unique=True).astype(np.uint8)
    return mask if segment.document_of is None else mask[segment.document_of]


def read_snapshot(connection: apsw.Connection, known: dict[int, Segment], previous: Snapshot | None = None) -> Snapshot:
    """The state that this read transaction sees.

    ``known`` caches segments by id, and is brought up to date. What ``previous`` has of the tail is not read again.
    """
    meta = read_meta(connection)
    ids = [row[0] for row in connection.execute("SELECT segment_id FROM segment ORDER BY last_passage_id")]
    # Other threads, whose transactions see other states, use `known` too.
    segments = tuple(known.get(segment_id) or read_segment(connection, segment_id) for segment_id in ids)
    known.update(zip(ids, segments, strict=True))
    for segment_id in list(known):
        if segment_id not in ids:
            known.pop(segment_id, None)
    for before, after in pairwise(segments):
        if before.passage_ids[-1] >= after.passage_ids[0]:
            raise CorruptIndex(f"segments {before.segment_id} and {after.segment_id} overlap; run check(repair=True)")
    dead = read_tombstones(connection, {segment.segment_id: len(segment) for segment in segments})
    alive = {segment_id: (1 - bits).astype(np.uint8) for segment_id, bits in dead.items()}
    segment_count, tail_size, deleted = recorded_size(connection)
    tail: tuple[TailPart, ...] | None = None
    if previous is not None and previous.meta == meta and previous.segment_ids == tuple(ids):
        tail = _longer_tail(connection, meta.layout, previous.tail, tail_size)
    if tail is None:
        rows, words = _read_tail(connection, meta.layout, sealed_until(connection) + 1)
        if len(rows) != tail_size:
            raise CorruptIndex("passages are missing, or there are too many; run check(repair=True)")
        tail = tuple(_tail_parts(rows, words, 0))
    if sum(int(bits.sum()) for bits in dead.values()) != deleted:
        raise CorruptIndex("tombstones are missing, or there are too many; run check(repair=True)")
    if len(segments) != segment_count:
        raise CorruptIndex("segments are missing, or there are too many; run check(repair=True)")
    if previous is None:
        return Snapshot(meta, segments, alive, tail, read_unread(connection))
    # A sealed segment's documents stay what they are, or die.
    masks = {id: mask for id, mask in previous.read_masks.items() if id in ids}
    return Snapshot(meta, segments, alive, tail, read_unread(connection, previous.unread), read_masks=masks)


def _longer_tail(
    connection: apsw.Connection, layout: Layout, tail: tuple[TailPart, ...], size: int
) -> tuple[TailPart, ...] | None:
    """The tail with the passages that were appended; None where it must be read anew.

    A passage's row never changes and ids are not reused, so if the count is right, no passage of the tail has gone.
    """
    known = sum(len(part.segment) for part in tail)
    if not tail or len(tail) >= TAIL_PARTS or size < known:
        return None
    rows, words = _read_tail(connection, layout, int(tail[-1].segment.passage_ids[-1]) + 1)
    return (*tail, *_tail_parts(rows, words, known)) if known + len(rows) == size else None


def _read_tail(
    connection: apsw.Connection, layout: Layout, first: int
) -> tuple[PassageVectors, tuple[NDArray[np.int64], WordCounts] | None]:
    """The passages of the tail from ``first`` on, and their documents' words."""
    rows = read_passages(connection, layout, first, LAST_ROWID)
    if not layout.bm25:
        return rows, None
    doc_ids, words = read_words(connection, first, LAST_ROWID)
    if not np.array_equal(doc_ids, rows.passage_ids[rows.passage_ids == rows.doc_ids]):
        raise CorruptIndex("words of documents are missing, or there are too many; run check(repair=True)")
    return rows, (doc_ids, words)


def _tail_parts(
    rows: PassageVectors, words: tuple[NDArray[np.int64], WordCounts] | None, before: int
) -> Iterable[TailPart]:
    """``rows`` as parts of a tail that has ``before`` passages already."""
    starts = np.flatnonzero(rows.passage_ids == rows.doc_ids)
    begin = 0
    while begin < len(rows):
        end = len(rows)
        if end - begin > MAX_SEGMENT:  # only a foreign file has such a tail; cut it between documents
            end = int(starts[np.searchsorted(starts, begin + MAX_SEGMENT, "right") - 1])
        if end <= begin or rows.passage_ids[begin] != rows.doc_ids[begin]:
            raise CorruptIndex(
                f"passage {rows.passage_ids[begin]} does not belong to a document; run check(repair=True)"
            )
        yield _tail_part(rows, words, begin, end, before)
        begin = end


def _tail_part(
    rows: PassageVectors,
    words: tuple[NDArray[np.int64], WordCounts] | None,
    begin: int,
    end: int,
    before: int,
) -> TailPart:
    vectors = rows.vectors
    indptr = vectors.indptr[begin : end + 1]
    terms = vectors.terms[indptr[0] : indptr[-1]]
    ordinals = np.repeat(np.arange(end - begin, dtype=np.uint16), np.diff(indptr))
    order = order_by_term(terms)
    passage_ids = rows.passage_ids[begin:end]
    is_start = passage_ids == rows.doc_ids[begin:end]
    ordinals = ordinals[order]
    every_term = terms[order].astype(np.int64)
    impacts = vectors.impacts[indptr[0] : indptr[-1]][order]
    lengths = None
    if words is not None:
        doc_ids, counts = words
        chosen = counts.take(np.arange(*np.searchsorted(doc_ids, (passage_ids[0], passage_ids[-1] + 1))))
        lengths = np.zeros(end - begin, np.float32)
        lengths[is_start] = chosen.lengths
        order = np.argsort(chosen.terms, kind="stable")
        of_words = np.flatnonzero(is_start).astype(np.uint16).repeat(np.diff(chosen.indptr))
        every_term = np.concatenate((every_term, chosen.terms[order]))
        ordinals = np.concatenate((ordinals, of_words[order]))
        impacts = np.concatenate((impacts, chosen.frequencies[order]))
    return TailPart(
        Segment(
            -1 - before - begin,  # never cached: sealed segments have positive ids
            passage_ids,
            vectors.scales[begin:end],
            None if is_start.all() else (np.cumsum(is_start) - 1).astype(np.int32),
            lengths=lengths,
        ),
        every_term,
        ordinals,
        impacts,
    )
