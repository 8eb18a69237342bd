"""What a database holds, as the web export writes it: living passages numbered 0, 1, 2, …, and the lists over them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.documents.table import DOCUMENT_COLUMNS, read_document
from spladelite.errors import CorruptIndex
from spladelite.index.buckets import BUCKET
from spladelite.index.postings import split
from spladelite.index.scoring import Segment
from spladelite.index.segments import checked_postings
from spladelite.index.snapshot import Snapshot, TailPart
from spladelite.index.word_rows import read_lists


@dataclass(frozen=True, slots=True, eq=False)
class TermList:
    """The postings of one term of the model's vocabulary, or of one word.

    Attributes:
        term: term id; a word's has the bit ``WORD``.
        passages: int64 ``(C,)``, ascending numbers of living passages; of a word the documents' first ones.
        impacts: uint8 ``(C,)``; of a word its frequencies.
        dead: how many more postings the index has, of deleted passages that are not yet cleared away: ``idf`` counts
            them.
    """

    term: int
    passages: NDArray[np.int64]
    impacts: NDArray[np.uint8]
    dead: int


@dataclass(frozen=True, slots=True, eq=False)
class Numbering:
    """The living passages of a state of the index.

    Attributes:
        passage_ids: int64 ``(P,)``, ascending; a passage's number is its place here.
        scales: float32 ``(P,)``.
        lengths: int64 ``(P,)``, how many words a document has, at its first passage; None in a file without BM25.
        of_part: for each segment, then each part of the tail, int64 ``(n,)``: the passages' numbers, -1 if dead.
        indexed: passages that the index has, dead ones included.
    """

    passage_ids: NDArray[np.int64]
    scales: NDArray[np.float32]
    lengths: NDArray[np.int64] | None
    of_part: list[NDArray[np.int64]]
    indexed: int


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document and its passages' ``(start, end)``, in UTF-16 units, which is how JavaScript counts."""

    id: str
    text: str
    metadata: dict[str, Any]
    spans: list[tuple[int, int]]


def number_passages(snapshot: Snapshot) -> Numbering:
    """Number the living passages in the order of their ids."""
    ids, scales, lengths = [np.empty(0, np.int64)], [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    of_part, total = [], 0
    for segment in snapshot.all_segments:
        alive = snapshot.alive.get(segment.segment_id)
        living = np.ones(len(segment), bool) if alive is None else alive > 0
        numbers = np.where(living, np.cumsum(living) - 1 + total, -1)
        total += int(living.sum())
        ids.append(segment.passage_ids[living])
        scales.append(segment.scales[living])
        of_part.append(numbers)
        if snapshot.meta.layout.bm25:
            if segment.lengths is None:
                raise CorruptIndex(f"segment {segment.segment_id} has no words; run check(repair=True)")
            lengths.append(segment.lengths[living].astype(np.int64))
    indexed = sum(map(len, snapshot.all_segments))
    of_words = np.concatenate(lengths) if snapshot.meta.layout.bm25 else None
    return Numbering(np.concatenate(ids), np.concatenate(scales), of_words, of_part, indexed)


def term_lists(connection: apsw.Connection, snapshot: Snapshot, numbering: Numbering) -> Iterator[TermList]:
    """The postings of each term that has any, term ids ascending; read segment by segment side by side."""
    rows = [_segment_lists(connection, part, segment) for part, segment in enumerate(snapshot.segments)]
    rows += [_tail_lists(len(snapshot.segments) + i, tail) for i, tail in enumerate(snapshot.tail)]
    for term, lists in groupby(heapq.merge(*rows, key=itemgetter(0, 1)), itemgetter(0)):
        passages, impacts = [], []
        for _, part, ordinals, values in lists:
            passages.append(numbering.of_part[part][ordinals])
            impacts.append(values)
        numbers, of_all = np.concatenate(passages), np.concatenate(impacts)
        living = numbers >= 0
        yield TermList(term, numbers[living], of_all[living], int((~living).sum()))


_Row = tuple[int, int, NDArray[np.uint16], NDArray[np.uint8]]  # term, part, ordinals, impacts


def _segment_lists(connection: apsw.Connection, part: int, segment: Segment) -> Iterator[_Row]:
    missing = 0 if segment.terms is None else int(np.unpackbits(segment.terms).sum())
    for term, count, blob, checksum in connection.execute(
        "SELECT term_id, count, postings, checksum FROM posting WHERE segment_id = ? AND term_id < ? ORDER BY term_id",
        (segment.segment_id, BUCKET),
    ):
        if not segment.has_term(term):
            raise CorruptIndex(f"posting row (segment {segment.segment_id}, term {term}) does not belong there")
        missing -= 1
        postings = checked_postings(segment.segment_id, term, count, blob, checksum, len(segment))
        yield term, part, *split(postings, len(segment))
    if missing:
        raise CorruptIndex(f"posting rows of segment {segment.segment_id} are missing; run check(repair=True)")
    if segment.lengths is not None:
        words = read_lists(connection, segment)
        for i, term in enumerate(words.terms):
            yield term, part, *words.of(i)


def _tail_lists(part: int, tail: TailPart) -> Iterator[_Row]:
    terms, starts = np.unique(tail.terms, return_index=True)
    for term, start, end in zip(terms.tolist(), starts, [*starts[1:], len(tail.terms)], strict=True):
        yield term, part, tail.ordinals[start:end], tail.impacts[start:end]


def stored_documents(connection: apsw.Connection, numbering: Numbering) -> Iterator[StoredDocument]:
    """All documents in the order of their passages; checked, so that texts and lists fit together."""
    passages = connection.execute("SELECT passage_id, doc_id, start_char, end_char FROM passage ORDER BY passage_id")
    expected = iter(numbering.passage_ids.tolist())
    # A cursor of its own each: the two run side by side.
    for row in connection.cursor().execute(f"SELECT {DOCUMENT_COLUMNS} FROM document d ORDER BY doc_id"):
        document = read_document(row)
        doc_id, count = row[0], row[4]
        spans = []
        for _ in range(count):
            passage_id, owner, start, end = next(passages, (0, 0, 0, 0))
            if owner != doc_id or next(expected, None) != passage_id or not 0 <= start <= end <= len(document.text):
                raise CorruptIndex(f"the passages of document {document.id!r} are not those of the index; run check()")
            spans.append((start, end))
        yield StoredDocument(document.id, document.text, document.metadata, _utf16(document.text, spans))
    if next(expected, None) is not None:
        raise CorruptIndex("the index has passages of documents that are not there; run check(repair=True)")


def _utf16(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    if not text or max(text) <= "\uffff":
        return list(spans)
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    before = np.concatenate([[0], np.cumsum(1 + (codes > 0xFFFF))])
    return [(int(before[start]), int(before[end])) for start, end in spans]
